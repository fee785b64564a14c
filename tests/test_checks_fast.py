"""The checks on speed: right answers pass in any usual form, slips get a diagnosis of their own."""

import pytest
import torch
from check_output import said

from resnet_lib.checks import fast as check
from resnet_lib.cost_model import all_reduce_seconds
from resnet_lib.data import load_cifar10
from resnet_lib.fast import FastLoader, FastRecipe


def eigen(x):
    return torch.linalg.eigh(x.T @ x / len(x))


ALL = [check.cost_of_training, check.flips_in_turn, check.whitening, check.loss_scale, check.ring_seconds]


@pytest.mark.parametrize("function", ALL)
def test_three_dots_are_not_an_answer_yet(function):
    assert said(function, ...).startswith("◦")


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (check.cost_of_training, 1.8),
        (check.cost_of_training, torch.tensor(1.818)),
        (check.flips_in_turn, lambda first, epoch: ~first if epoch % 2 else first),
        (check.flips_in_turn, lambda first, epoch: torch.logical_xor(first, torch.tensor(bool(epoch % 2)))),
        (check.whitening, lambda x: torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x)))),
        (check.whitening, lambda x: eigen(x)[1] @ torch.diag(eigen(x)[0] ** -0.5) @ eigen(x)[1].T),
        (check.loss_scale, 2**2),
        (check.ring_seconds, lambda p, m, t, b: sum(m / p / b + t for _ in range(2 * (p - 1)))),
        (check.ring_seconds, all_reduce_seconds),
    ],
)
def test_right_answers_pass_in_any_usual_form(function, answer):
    if answer is all_reduce_seconds:
        text = said(function, lambda p, m, t, b: float(all_reduce_seconds(m, p, t, b)))
    else:
        text = said(function, answer)
    assert text.startswith("✓")


def test_the_loss_scale_is_what_float16_says():
    scaled = {scale: (torch.tensor(1e-8) * scale).half().item() for scale in (1, 2, 4, 8)}
    assert min(scale for scale, value in scaled.items() if value > 0) == 4


def test_flips_in_turn_are_those_of_the_loader():
    """What the exercise calls right is what `FastLoader` does."""
    data = load_cifar10("train", "bundled")[:8]
    recipe = FastRecipe(epochs=2, batch_size=8, peak_lr=0.1, padding=0, low_epochs=0)
    loader = FastLoader(data, recipe)
    assert loader.mirrored_first.any()
    first, second = (next(loader.epoch(epoch)) for epoch in (0, 1))
    for images, labels in (first, second):
        assert images.shape == (8, 3, 32, 32)
        assert sorted(labels.tolist()) == sorted(data.labels.tolist())
    # Sorted by their sums, which a flip leaves alone, each image of one epoch is the mirror image of the other's.
    one, other = (images[images.sum((1, 2, 3)).argsort()] for images, _ in (first, second))
    torch.testing.assert_close(one, other.flip(3))


WRONG = [
    (check.cost_of_training, 150 * 50_000 * 242.4e6, "That is in operations"),
    (check.cost_of_training, 0.0121, "one epoch"),
    (check.cost_of_training, 5.454, "no factor of three"),
    (check.cost_of_training, 7.0, "too large"),
    (check.cost_of_training, 1_818_000, "in GFLOP"),
    (check.flips_in_turn, lambda first, epoch: ~first if epoch else first, "turns once"),
    (check.flips_in_turn, lambda first, epoch: first ^ epoch, "whether the epoch is odd"),
    (check.whitening, lambda x: eigen(x)[1].T, "as large as its direction"),
    (check.whitening, lambda x: (eigen(x)[1] / eigen(x)[0]).T, "root of the eigenvalue"),
    (check.whitening, lambda x: (eigen(x)[1] * eigen(x)[0].sqrt()).T, "do not multiply"),
    (check.whitening, lambda x: eigen(x)[1] / eigen(x)[0].sqrt(), "Transpose it"),
    (check.whitening, lambda x: eigen(x)[1], "not yet scaled"),
    (check.whitening, lambda x: torch.diag(1 / x.square().mean(0).sqrt()), "still do"),
    (check.whitening, lambda x: (eigen(x)[1] / (len(x) * eigen(x)[0]).sqrt()).T, "taken twice"),
    (check.whitening, lambda x: torch.linalg.inv(x.T @ x / len(x)), "its *root* is wanted"),
    (check.whitening, lambda x: torch.linalg.cholesky(x.T @ x / len(x)), "go the other way"),
    (check.whitening, lambda x: torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x))).T, "Its transpose"),
    (check.whitening, lambda x: x, "None of the usual slips"),
    (check.whitening, lambda x: None, "`return` missing"),
    (check.whitening, lambda x: x @ x, "raised an error"),
    (check.loss_scale, 3, "not a power of two"),
    (check.ring_seconds, lambda p, m, t, b: 2 * (p - 1) / p * m * b + 2 * (p - 1) * t, "divide by it"),
    (check.flips_in_turn, lambda first, epoch: first, "one way round only"),
    (check.flips_in_turn, lambda first, epoch: ~first, "None of the usual slips"),
    (check.flips_in_turn, lambda first, epoch: first | (epoch % 2 == 1), "mirrored in every epoch"),
    (check.flips_in_turn, lambda first, epoch: first ^ (epoch % 2 == 0), "wrong way round"),
    (check.flips_in_turn, lambda first, epoch: first & (epoch % 2 == 1), "never mirrored"),
    (check.flips_in_turn, lambda first, epoch: torch.full_like(first, epoch % 2 == 1), "All images turn at once"),
    (check.flips_in_turn, lambda first, epoch: None, "`return` missing"),
    (check.loss_scale, 1, "Unscaled it is 0"),
    (check.loss_scale, 2, "rounded to 0"),
    (check.loss_scale, 8, "power of two before it"),
    (check.loss_scale, "4", "not a number"),
    (check.ring_seconds, lambda p, m, t, b: (p - 1) / p * m / b + (p - 1) * t, "goes round twice"),
    (check.ring_seconds, lambda p, m, t, b: 2 * (p - 1) * m / b + 2 * (p - 1) * t, "not all of them"),
    (check.ring_seconds, lambda p, m, t, b: 2 * (p - 1) / p * m / b, "Latency is missing"),
    (check.ring_seconds, lambda p, m, t, b: 2 * (p - 1) / p * m / b + t, "one after the other"),
    (check.ring_seconds, lambda p, m, t, b: 2 * m / b + 2 * p * t, "nothing to send"),
    (check.ring_seconds, lambda p, m: 0, "raised an error"),
]


@pytest.mark.parametrize(("function", "answer", "diagnosis"), WRONG)
def test_slips_get_their_own_diagnosis(function, answer, diagnosis):
    text = said(function, answer)
    assert text.startswith("✗")
    assert diagnosis in text
