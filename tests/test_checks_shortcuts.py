"""The checks on shortcuts: what learners really answer gets a diagnosis of its own, and right answers pass."""

import math

import pytest
import torch
from check_output import said

from resnet_lib.checks import shortcuts


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (shortcuts.product_of_blocks, 13.11),
        (shortcuts.product_of_blocks, 13),
        (shortcuts.product_of_blocks, torch.full((27,), 1.1).prod()),
        (shortcuts.smallest_scale, 0.9872),
        (shortcuts.clear_path, ["γ = 0 in the branch", "ReLU in the branch", "batch norm in the branch"]),
    ],
)
def test_right_answers_pass_in_any_usual_form(check, answer):
    assert said(check, answer).startswith("✓")


def chain_of_section_1() -> float:
    """Of 27 blocks x + a · sin x, as notebook 02 has them: from 0.1, with a = 0.1."""
    x, product = 0.1, 1.0
    for _ in range(27):
        product *= 1 + 0.1 * math.cos(x)
        x += 0.1 * math.sin(x)
    return product


WRONG_NUMBERS = [
    (shortcuts.product_of_blocks, 1, "The 1 stands in every factor"),
    (shortcuts.product_of_blocks, 1e-27, "without shortcuts"),
    (shortcuts.product_of_blocks, 1 + 1e-27, "Added once, at the end"),
    (shortcuts.product_of_blocks, 1.1, "one block"),
    (shortcuts.product_of_blocks, 3.7, "through several are missing"),
    (shortcuts.product_of_blocks, 2.7, "leaves out the 1"),
    (shortcuts.product_of_blocks, 29.7, "multiplies derivatives"),
    (shortcuts.product_of_blocks, 1.1**26, "26 blocks"),
    (shortcuts.product_of_blocks, chain_of_section_1(), "falls as x grows"),
    (shortcuts.product_of_blocks, 1.1**54, "not one a layer"),
    (shortcuts.product_of_blocks, 100, "too large"),
    (shortcuts.smallest_scale, 0.5, "after one block"),
    (shortcuts.smallest_scale, 0.5**54, "leaves after 54 blocks"),
    (shortcuts.smallest_scale, 1 - 0.5 / 54, "factors are multiplied"),
    (shortcuts.smallest_scale, 0.5 ** (1 / 110), "number of layers"),
    (shortcuts.smallest_scale, 0.5 ** (1 / 27), "ResNet-56"),
    (shortcuts.smallest_scale, 0.95, "0.9500 to the power of 54 is 0.0627"),
    (shortcuts.smallest_scale, 0.988, "is 0.521. It should be 0.5"),
    (shortcuts.smallest_scale, 1.2, "too large"),
]


@pytest.mark.parametrize(("check", "answer", "diagnosis"), WRONG_NUMBERS)
def test_wrong_numbers_get_their_own_diagnosis(check, answer, diagnosis):
    text = said(check, answer)
    assert text.startswith("✗")
    assert diagnosis in text


WRONG_JACOBIANS = [
    (lambda j, z: torch.eye(len(z)) + j, "in front of the ReLU"),
    (lambda j, z: torch.eye(len(z)) + (z > 0)[:, None] * j, "on the branch alone"),
    (lambda j, z: (torch.eye(len(z)) + j) * (z > 0), "erases columns"),
    (lambda j, z: (z > 0)[:, None] * (1 + j), "ones on the diagonal only"),
    (lambda j, z: (z > 0)[:, None] * j, "a plain block"),
    (lambda j, z: torch.relu(z)[:, None] * (torch.eye(len(z)) + j), "the ReLU's value"),
    (lambda j, z: torch.relu(torch.eye(len(z)) + j), "depends on z"),
    (lambda j, z: torch.eye(len(z)) + torch.relu(j), "depends on z"),
    (lambda j, z: (torch.eye(3) + j) * 1.0, "raised an error"),
    (lambda j, z: None, "is a `return` missing"),
    (lambda j, z: j.T, "None of the usual slips"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_JACOBIANS)
def test_wrong_jacobians_get_their_own_diagnosis(function, diagnosis):
    text = said(shortcuts.relu_block_jacobian, function)
    assert text.startswith("✗")
    assert diagnosis in text


def test_the_expected_jacobian_is_autograds():
    """The reference the reader is held to, against a block differentiated by autograd."""
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    x = torch.linspace(-1, 1, 6)
    jacobian = torch.autograd.functional.jacobian(lambda x: torch.relu(x + weight @ x), x)
    z = x + weight @ x
    assert 0 < (z > 0).sum() < 6

    def by_autograd(branch, z):
        # The check's own cases are linear blocks too: any x with x + F(x) = z has this Jacobian.
        x = torch.linalg.solve(torch.eye(len(z)) + branch, z)
        return torch.autograd.functional.jacobian(lambda x: torch.relu(x + branch @ x), x)

    assert torch.allclose(by_autograd(weight, z), jacobian)
    assert said(shortcuts.relu_block_jacobian, by_autograd).startswith("✓")


RIGHT_SET = {"ReLU in the branch", "batch norm in the branch", "γ = 0 in the branch"}


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (RIGHT_SET - {"ReLU in the branch"}, "lacks “ReLU in the branch”"),
        (RIGHT_SET | {"ReLU after the addition"}, "there the 1 is gone"),
        (RIGHT_SET | {"batch norm after the addition"}, "divides the sum"),
        (RIGHT_SET | {"projection on the shortcut"}, "puts W in the place of I"),
        (RIGHT_SET | {"dropout on the shortcut"}, "by 0 or by 2"),
        (set(), "lacks “ReLU in the branch”"),
        ("ReLU in the branch", "in braces"),
        (3, "in braces"),
        ({"ReLU"}, "not among these"),
        ([["ReLU in the branch"]], "not among these"),
    ],
)
def test_wrong_choices_of_what_leaves_the_path_clear_get_their_own_diagnosis(answer, diagnosis):
    text = said(shortcuts.clear_path, answer)
    assert text.startswith("✗")
    assert diagnosis in text


@pytest.mark.parametrize(
    "check",
    [shortcuts.product_of_blocks, shortcuts.smallest_scale, shortcuts.relu_block_jacobian, shortcuts.clear_path],
)
def test_unanswered_gets_a_friendly_not_yet(check):
    assert said(check, ...).startswith("◦ Not yet")
