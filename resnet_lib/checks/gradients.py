"""Exercises on vanishing and exploding gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

from resnet_lib.checks.verdicts import check_function, check_number


def largest_sigmoid_factor(answer: object) -> None:
    """The most that ten sigmoid layers of weight 1 can let through: (1/4)^10."""
    check_number(
        answer,
        0.25**10,
        "Each layer multiplies by σ' ≤ 1/4, so ten let through at most one part in a million.",
        "a factor",
        "the largest value of σ'(z) = σ(z)(1 − σ(z)), and how ten factors combine",
        {
            0.5**10: "1/2 is σ at 0. The chain rule multiplies derivatives, and σ' at 0 is 1/4.",
            2.5: "The layers stand one after the other: their factors multiply, they do not add up.",
            0.025: "That divides once by ten. Ten layers multiply ten times.",
            0.25: "That is one layer. There are ten.",
            1.0: "That would be a chain of layers with slope 1, such as ReLU where it is open.",
        },
        rel_tol=0.06,  # "one in a million" is right too
    )


def xavier_relu_variance(answer: object) -> None:
    """By what factor 20 ReLU layers with Xavier's weights change the signal's mean square: (1/2)^20."""
    check_number(
        answer,
        0.5**20,
        "Xavier's weights keep the mean square, and each ReLU then throws away half of it: 2⁻²⁰, a millionth.",
        "a factor",
        "what ReLU does to a signal that is as often negative as positive",
        {
            0.5**10: "That is the factor of the signal's size, the square root. The question is about its mean square.",
            2.0**-19: "Every one of the 20 layers halves it.",
            1.0: "Xavier's weights alone would keep it; but ReLU sets the negative half to 0.",
            2.0**20: "It shrinks: after each layer half of the mean square is gone.",
            0.25**20: "1/4 is the sigmoid's bound on a derivative. ReLU keeps half of the mean square.",
            10.0: "Factors multiply.",
        },
        rel_tol=0.06,
    )


def weights_that_moved(answer: object) -> None:
    """How many of 50 weights of 0.1 and 50 of 0.01 move in 1,000 steps of 10⁻⁹ each, in float32: the smaller ones."""
    check_number(
        answer,
        50,
        "Next to 0.1 float32 has steps of 7·10⁻⁹, so each sum rounds back; next to 0.01 they are 0.9·10⁻⁹.",
        "a count of weights, out of 100",
        "the last paragraph of section 3: what does float32 do with 0.1 + 10⁻⁹, and with 0.01 + 10⁻⁹?",
        {
            100: "With exact numbers all would move, by 10⁻⁶. But each sum is rounded before the next step is added.",
            0: "So it is next to 0.1. But float32 keeps seven digits of each number: smaller steps at 0.01.",
            1000: "That is the number of steps.",
        },
    )


def growth_with_batch_norm(function: object) -> None:
    """The reader's growth(z, activation): what a layer with batch norm multiplies the gradient's norm by.

    √(E[φ'(z)²] / Var φ(z)) for z from N(0, 1). Yang et al. 2019, arXiv:1902.08129.
    """

    def parts(z: Tensor, activation: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        z = z.double().requires_grad_()
        after = activation(z)
        return torch.autograd.grad(after.sum(), z)[0], after.detach()

    def of(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable:
        """`measure` of the slopes and of what comes out of the activation."""
        return lambda z, activation: measure(*parts(z, activation))

    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    slips = {
        "That is the factor of the gradient's square. The norm is its root.": lambda d, a: d.square().mean() / a.var(),
        "That divides by the mean square. The next batch norm takes the mean away before it divides: the variance.": (
            lambda d, a: (d.square().mean() / a.square().mean()).sqrt()
        ),
        "That is upside down: a small variance in front of batch norm makes the gradient large.": (
            lambda d, a: (a.var() / d.square().mean()).sqrt()
        ),
        "That is the way back alone. The next batch norm divides, by the root of the variance.": (
            lambda d, a: d.square().mean().sqrt()
        ),
        "That is the next batch norm alone. On the way back the activation multiplies by its slopes.": (
            lambda d, a: 1 / a.std()
        ),
        "That squares the slopes' mean. A norm needs the mean of their squares.": lambda d, a: d.mean() / a.std(),
        "The slopes' square is divided by a deviation: divide by the variance, then take the root.": (
            lambda d, a: d.square().mean() / a.std()
        ),
        "The slopes are not squared before their mean is taken. For ReLU, 0 or 1, that is the same; here it is not.": (
            lambda d, a: (d.mean() / a.var()).sqrt()
        ),
        "That takes the variance of the slopes. Their mean passes gradient on, too: take their mean square.": (
            lambda d, a: (d.var() / a.var()).sqrt()
        ),
        "That is measured without slopes: the activation's values went into both places.": (
            lambda d, a: (a.square().mean() / a.var()).sqrt()
        ),
    }
    check_function(
        function,
        of(lambda d, a: (d.square().mean() / a.var()).sqrt()),
        [(z, torch.tanh), (z, torch.relu), (2 * z[:100_000], torch.sigmoid)],
        "the two points on *back* and *forward* in section 6",
        "Of all activations only a straight line has 1; the more an activation bends, the more the gradient grows.",
        [(of(slip), why) for why, slip in slips.items()],
    )
