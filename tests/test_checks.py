"""The exercises' checks: the folded solution passes, the stub gets a "not yet", known slips get their own diagnosis."""

import ast
import math
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from check_output import said

from resnet_lib.checks import gradients, start_here, training

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def exercises(path: Path) -> list[tuple[str, str]]:
    """Stub and solution of each exercise that has a check, as source code."""
    cells = nbformat.read(path, as_version=4).cells
    start = next(i for i, cell in enumerate(cells) if cell.source.startswith("## Exercises"))
    pairs = []
    for cell, following in zip(cells[start:], cells[start + 1 :], strict=False):
        if cell.cell_type == "code":
            solution = re.search(r"<summary>Solution</summary>\s+```python\n(.*?)```", following.source, re.DOTALL)
            assert solution, f"no folded solution after:\n{cell.source}"
            pairs.append((cell.source, solution[1]))
    return pairs


def names_of_first_code_cells(path: Path) -> dict:
    """The imports of a notebook, which its exercises rely on."""
    names = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            for statement in ast.parse(cell.source).body:
                if isinstance(statement, ast.Import | ast.ImportFrom):
                    exec(ast.unparse(statement), names)
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_folded_solutions_pass_and_stubs_get_a_friendly_not_yet(path, capsys):
    names = names_of_first_code_cells(path)
    pairs = exercises(path)
    assert len(pairs) >= 3
    for stub, solution in pairs:
        exec(stub, dict(names))
        assert capsys.readouterr().out.startswith("◦ Not yet")
        exec(solution, dict(names))
        assert capsys.readouterr().out.startswith("✓ Right")


WRONG_NUMBERS = [
    (start_here.numbers_per_image, 1024, "red, green and blue"),
    (start_here.numbers_per_image, math.nan, "0 / 0"),
    (start_here.numbers_per_image, torch.tensor(math.nan), "0 / 0"),
    (start_here.numbers_per_image, 10, "number of classes"),
    (start_here.numbers_per_image, 96, "one row"),
    (start_here.steps_per_epoch, 78, "the other 8"),
    (start_here.steps_per_epoch, 78.125, "0.125 of a step"),
    (start_here.steps_per_epoch, 64, "not the number of batches"),
    (gradients.largest_sigmoid_factor, 0.5**10, "σ' at 0 is 1/4"),
    (gradients.largest_sigmoid_factor, 2.5, "do not add up"),
    (gradients.largest_sigmoid_factor, 0.25, "one layer"),
    (gradients.xavier_relu_variance, 0.5**10, "the square root"),
    (gradients.xavier_relu_variance, 1, "sets the negative half"),
    (gradients.xavier_relu_variance, 2**20, "It shrinks"),
    (gradients.weights_that_moved, 100, "is rounded before the next"),
    (gradients.weights_that_moved, 0, "of each number"),
    (gradients.weights_that_moved, 1000, "number of steps"),
    (training.readme_rate, 0.01, "its own epoch"),
    (training.readme_rate, 0.0001, "only two"),
    (training.readme_rate, 0.1, "at the start"),
    (training.readme_steps, 234_300, "16 images"),
    (training.readme_steps, 58_650, "batches of 128"),
    (training.readme_steps, 1563, "one epoch"),
]


@pytest.mark.parametrize(("check", "answer", "diagnosis"), WRONG_NUMBERS)
def test_wrong_numbers_get_their_own_diagnosis(check, answer, diagnosis):
    text = said(check, answer)
    assert text.startswith("✗")
    assert diagnosis in text
    assert "Look again at" in text


@pytest.mark.parametrize(
    ("answer", "told"), [(3073, "too large"), (1, "too small"), ("3072", "str"), (None, "NoneType")]
)
def test_other_wrong_answers_are_told_what_they_are(answer, told):
    text = said(start_here.numbers_per_image, answer)
    assert text.startswith("✗")
    assert told in text


@pytest.mark.parametrize("answer", [torch.tensor(3072), np.prod((32, 32, 3)), 3072.0])
def test_a_number_may_come_as_a_tensor_or_from_numpy(answer):
    assert said(start_here.numbers_per_image, answer).startswith("✓")


WRONG_ACCURACIES = [
    (lambda logits, labels: (logits.argmax(1) == labels).sum(), "not their share"),
    (lambda logits, labels: (logits.argmax(1) != labels).float().mean(), "the error"),
    (lambda logits, labels: 100 * (logits.argmax(1) == labels).float().mean(), "percent"),
    (lambda logits, labels: logits.argmax(1) == labels, "for each image"),
    (lambda logits, labels: (logits.max(1).values == labels).float().mean(), "`argmax` gives its position"),
    (lambda logits, labels: (logits.argmax() == labels).float().mean(), "without an axis"),
    (lambda logits, labels: logits.nonsense, "raised an error"),
    (lambda logits, labels: None, "is a `return` missing"),
    (lambda logits, labels: 0.123, "None of the usual slips"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_ACCURACIES)
def test_wrong_accuracy_functions_get_their_own_diagnosis(function, diagnosis):
    text = said(start_here.accuracy, function)
    assert text.startswith("✗")
    assert diagnosis in text


def growth_of(measure):
    """`measure` of the slopes and the values of the activation at z."""

    def growth(z, activation):
        z = z.requires_grad_()
        values = activation(z)
        return measure(torch.autograd.grad(values.sum(), z)[0], values)

    return growth


WRONG_GROWTHS = [
    (lambda slopes, values: slopes.square().mean() / values.var(), "The norm is its root"),
    (lambda slopes, values: (slopes.square().mean() / values.square().mean()) ** 0.5, "takes the mean away"),
    (lambda slopes, values: (values.var() / slopes.square().mean()) ** 0.5, "upside down"),
    (lambda slopes, values: slopes.square().mean() ** 0.5, "the way back alone"),
    (lambda slopes, values: 1 / values.std(), "the next batch norm alone"),
    (lambda slopes, values: slopes.mean() / values.std(), "squares the slopes' mean"),
    (lambda slopes, values: slopes.square().mean() / values.std(), "divided by a deviation"),
    (lambda slopes, values: (slopes.mean() / values.var()) ** 0.5, "not squared before"),
    (lambda slopes, values: slopes.std() / values.std(), "variance of the slopes"),
    (lambda slopes, values: (values.square().mean() / values.var()) ** 0.5, "without slopes"),
    (lambda slopes, values: 1.21, "None of the usual slips"),
    (lambda slopes, values: slopes.nonsense, "raised an error"),
    (lambda slopes, values: None, "is a `return` missing"),
]


@pytest.mark.parametrize(("measure", "diagnosis"), WRONG_GROWTHS)
def test_wrong_growths_with_batch_norm_get_their_own_diagnosis(measure, diagnosis):
    text = said(gradients.growth_with_batch_norm, growth_of(measure))
    assert text.startswith("✗")
    assert diagnosis in text


def test_growth_of_a_layer_passes_with_either_variance():
    for unbiased in (True, False):
        answer = growth_of(lambda d, a, unbiased=unbiased: (d.square().mean() / a.var(unbiased=unbiased)).sqrt())
        assert said(gradients.growth_with_batch_norm, answer).startswith("✓")


def test_the_growth_that_the_check_holds_right_is_that_of_a_wide_network():
    """An independent witness: twelve wide layers with batch norm multiply a gradient's norm by it at each layer."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400_000, generator=generator)
    right = growth_of(lambda slopes, values: (slopes.square().mean() / values.var()).sqrt())
    for activation in (torch.relu, torch.tanh):
        first = x = torch.randn(300, 300, generator=generator).requires_grad_()
        for _ in range(12):
            x = activation(x) @ torch.randn(300, 300, generator=generator)
            x = (x - x.mean(0)) / x.std(0)
        at_the_end = torch.randn(300, 300, generator=generator)
        (at_the_start,) = torch.autograd.grad(x, first, at_the_end)
        measured = (at_the_start.norm() / at_the_end.norm()) ** (1 / 12)
        assert measured.item() == pytest.approx(right(z.clone(), activation).item(), rel=0.02)


@pytest.mark.parametrize("answer", [1e-6, 9.5e-7, 0.25**10])
def test_a_millionth_is_near_enough(answer):
    assert said(gradients.largest_sigmoid_factor, answer).startswith("✓")
