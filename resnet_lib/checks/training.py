"""Exercises on training: the README's recipe, checkpoints, SGD with decoupled weight decay."""

from collections.abc import Callable

import torch
from torch import Tensor

from resnet_lib.checks.verdicts import check_choices, check_function, check_number


def readme_rate(answer: object) -> None:
    """The README's learning rate in epoch 110, counted from 0."""
    check_number(
        answer,
        1e-3,
        "Two milestones, 80 and 110, have been reached, and each divides the rate by ten.",
        "a learning rate",
        "section 3: does a drop count from its own epoch on, or from the next?",
        {
            1e-2: "That is the rate up to epoch 109. A milestone counts from its own epoch on.",
            1e-4: "That is the rate from epoch 130 on; only two of the three milestones have been reached.",
            1e-1: "That is the rate at the start, before any milestone.",
        },
    )


def readme_steps(answer: object) -> None:
    """The optimiser steps of the README's whole run."""
    check_number(
        answer,
        150 * 1563,
        "1,563 steps an epoch (the last one with 16 images), 150 epochs: nearly a quarter of a million steps.",
        "a count of steps",
        "the number of batches in one epoch of 50,000 images, the last and smaller one included",
        {
            150 * 1562: "Each epoch has one more step: the batch of the 16 images that are left.",
            150 * 1562.5: "There are no half steps: the last batch is smaller, but it is a step.",
            150 * 391: "That is for batches of 128, as He et al. have it. The README's batches hold 32.",
            1563: "That is one epoch. The run has 150 of them.",
            150 * 50_000: "That would be one image a step.",
        },
    )


def decoupled_step(function: object) -> None:
    """The reader's decoupled_step(weight, velocity, gradient, lr, momentum, weight_decay) → new weight and velocity."""
    generator = torch.Generator().manual_seed(1)
    weight, velocity, gradient = torch.randn(3, 5, generator=generator)

    def stacked(*arguments: object) -> object:
        result = function(*arguments)
        is_pair = isinstance(result, tuple | list) and len(result) == 2
        return torch.stack(list(result)) if is_pair and all(isinstance(part, Tensor) for part in result) else result

    check_function(
        function if function is ... else stacked,
        _pair(_gradients_alone, _decayed),
        [(weight, velocity, gradient, 0.1, 0.9, 0.05), (weight, velocity, gradient, 0.01, 0.5, 0.3)],
        "the two lines of SGD in section 1: where does the decay leave the first, and come into the second?",
        "The velocity holds gradients alone, and a step's decay is over with the step.",
        _SLIPS,
    )


def _pair(velocity_rule: Callable, step_rule: Callable) -> Callable:
    """A whole step: first the new velocity, then the new weight from it; both in one tensor."""

    def step(w: Tensor, v: Tensor, g: Tensor, lr: float, mu: float, wd: float) -> Tensor:
        new = velocity_rule(w, v, g, lr, mu, wd)
        return torch.stack([step_rule(w, new, g, lr, mu, wd), new])

    return step


def _gradients_alone(w: Tensor, v: Tensor, g: Tensor, lr: float, mu: float, wd: float) -> Tensor:
    return mu * v + g


def _decayed(w: Tensor, v: Tensor, g: Tensor, lr: float, mu: float, wd: float) -> Tensor:
    return w - lr * v - lr * wd * w


_SLIPS = [
    (
        _pair(lambda w, v, g, lr, mu, wd: mu * v + g + wd * w, lambda w, v, g, lr, mu, wd: w - lr * v),
        "That is section 1's step: the decay is in the velocity, and goes on acting in later steps.",
    ),
    (
        _pair(lambda w, v, g, lr, mu, wd: mu * v + g + wd * w, _decayed),
        "The decay acts twice: it is in the velocity still, and in the step as well.",
    ),
    (
        _pair(_gradients_alone, lambda w, v, g, lr, mu, wd: w - lr * v),
        "Weight decay is missing: the weight also loses lr · weight_decay · weight.",
    ),
    (
        _pair(_gradients_alone, lambda w, v, g, lr, mu, wd: w - lr * v - wd * w),
        "The share that the weight loses is lr · weight_decay; yours is weight_decay, whatever the rate.",
    ),
    (
        _pair(_gradients_alone, lambda w, v, g, lr, mu, wd: (w - lr * v) * (1 - lr * wd)),
        "The weight was moved first and shrunk then. It loses a share of what it was before the step.",
    ),
    (
        _pair(_gradients_alone, lambda w, v, g, lr, mu, wd: w - lr * v + lr * wd * w),
        "The weight grows by its share. Decay takes it away: minus.",
    ),
    (
        _pair(_gradients_alone, lambda w, v, g, lr, mu, wd: w + lr * v - lr * wd * w),
        "The weight moves against the velocity: minus.",
    ),
    (
        _pair(lambda w, v, g, lr, mu, wd: g, _decayed),
        "Momentum is missing: what is left of the old velocity belongs in the new one.",
    ),
    (
        _pair(lambda w, v, g, lr, mu, wd: mu * v + lr * g, lambda w, v, g, lr, mu, wd: w - v - lr * wd * w),
        "The rate went into the velocity. Leave it outside, as section 1 does, so that a drop of the rate shortens the "
        "whole next step at once.",
    ),
    (
        _pair(lambda w, v, g, lr, mu, wd: mu * v + (1 - mu) * g, _decayed),
        "That is a mean of gradients (as in Adam); SGD adds the whole gradient, without a factor 1 - momentum.",
    ),
    (
        _pair(_gradients_alone, lambda w, v, g, lr, mu, wd: w - v - lr * wd * w),
        "The learning rate is missing in front of the velocity.",
    ),
    (
        lambda w, v, g, lr, mu, wd: torch.stack([_decayed(w, v, g, lr, mu, wd), mu * v + g]),
        "The step went by the old velocity: first renew the velocity, then move the weight by it.",
    ),
    (
        lambda *arguments: _pair(_gradients_alone, _decayed)(*arguments)[0],
        "That is the new weight alone; the next step needs the velocity too. Return both.",
    ),
    (
        lambda *arguments: _pair(_gradients_alone, _decayed)(*arguments).flip(0),
        "The two are right, but in the other order: first the weight, then the velocity.",
    ),
]


STATE_CHOICES = {
    "weights": "Without the weights there is nothing to go on from.",
    "velocity": "The velocity remembers the last ten steps or so; started at zero, the next steps differ.",
    "batch-norm statistics": "Running means and variances are no parameters, but evaluation uses them.",
    "gradients": "Each step computes its own gradients afresh; the last ones are used up.",
    "epoch number": "The rate and the batches follow from it.",
    "test accuracy": "It is good to keep in the history, but no step of training ever reads it.",
}


def needed_to_resume(answer: object) -> None:
    """Which of STATE_CHOICES a checkpoint needs for the same bits, when order and rate follow from seed and epoch."""
    check_choices(
        answer,
        STATE_CHOICES,
        {"weights", "velocity", "batch-norm statistics", "epoch number"},
        "what the rest of the run reads, and no more",
        "what the rest of the run reads: its steps, and its evaluations",
        "What the rest of the run reads, and no more. (`fit` keeps the history too: for you, not for the optimiser.)",
    )
