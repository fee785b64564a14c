"""Exercises on training: the README's recipe, SGD with momentum, checkpoints."""

from collections.abc import Iterable

import torch
from torch import Tensor

from resnet_lib.checks.verdicts import check_function, check_number, say_not_yet, say_right, say_wrong


def readme_rate(answer: object) -> None:
    """The README's learning rate in epoch 110, counted from 0."""
    check_number(
        answer,
        1e-3,
        "Two milestones, 80 and 110, have been reached, and each divides the rate by ten.",
        "a learning rate",
        "`>=` in the schedule: does a milestone count from its own epoch on, or from the next?",
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


def momentum_step(function: object) -> None:
    """The reader's momentum_step(weight, velocity, gradient, lr, momentum, weight_decay) → the new weight."""

    def reference(weight: Tensor, velocity: Tensor, gradient: Tensor, lr: float, mu: float, decay: float) -> Tensor:
        return weight - lr * (mu * velocity + gradient + decay * weight)

    generator = torch.Generator().manual_seed(1)
    weight, velocity, gradient = torch.randn(3, 5, generator=generator)
    check_function(
        function,
        reference,
        [(weight, velocity, gradient, 0.1, 0.9, 0.05), (weight, velocity, gradient, 0.01, 0.5, 0.3)],
        "the two lines of SGD in this notebook's text, and their order",
        "PyTorch's velocity holds gradients, not steps: the rate multiplies it afresh at each step.",
        [
            (
                lambda w, v, g, lr, mu, wd: w + lr * (mu * v + g + wd * w),
                "The weight moves against the gradient: minus.",
            ),
            (
                lambda w, v, g, lr, mu, wd: w - lr * (mu * v + g),
                "Weight decay is missing: it adds weight_decay · weight to the gradient.",
            ),
            (
                lambda w, v, g, lr, mu, wd: w - lr * (g + wd * w),
                "Momentum is missing: what is left of the old velocity belongs in the step.",
            ),
            (
                lambda w, v, g, lr, mu, wd: w - (mu * v + lr * (g + wd * w)),
                "Only the gradient is multiplied by the rate. In PyTorch the old velocity is too, so that a drop of "
                "the rate shortens the whole step at once.",
            ),
            (
                lambda w, v, g, lr, mu, wd: w - lr * (g + wd * w + mu * (mu * v + g + wd * w)),
                "That is Nesterov's form, which looks a step ahead. The README's is the plain one.",
            ),
            (
                lambda w, v, g, lr, mu, wd: w - lr * (mu * v + g) - wd * w,
                "Weight decay stands outside, untouched by the rate; SGD adds it to the gradient first.",
            ),
            (
                lambda w, v, g, lr, mu, wd: mu * v + g + wd * w,
                "That is the new velocity; the step along it is still to be taken.",
            ),
        ],
    )


STATE_CHOICES = ("weights", "momentum", "batch-norm statistics", "gradients", "epoch number", "test accuracy")


def needed_to_resume(answer: object) -> None:
    """Which of STATE_CHOICES a checkpoint needs for the same bits, when order and rate follow from seed and epoch."""
    needed = {"weights", "momentum", "batch-norm statistics", "epoch number"}
    look = "what one step reads: from the last step, or from the run's start"
    if answer is ...:
        say_not_yet()
        return
    if isinstance(answer, str) or not isinstance(answer, Iterable) or not set(answer) <= set(STATE_CHOICES):
        choices = ", ".join(STATE_CHOICES)
        say_wrong(f"a set of some of: {choices}", repr(answer), "At least one of yours is not among these.", look)
        return
    reasons = {
        "weights": "Without the weights there is nothing to go on from.",
        "momentum": "The velocity remembers the last ten steps or so; started at zero, the next steps differ.",
        "batch-norm statistics": "Running means and variances are no parameters, but evaluation uses them.",
        "epoch number": "The rate and the batches follow from it.",
        "gradients": "Each step computes its own gradients afresh; the last ones are used up.",
        "test accuracy": "It is good to keep in the history, but no step of training ever reads it.",
    }
    answer = set(answer)
    for name in STATE_CHOICES:
        if (name in answer) != (name in needed):
            verb = "has" if name in answer else "lacks"
            say_wrong("what the next step reads, and no more", f"{verb} “{name}”", reasons[name], look)
            return
    say_right(
        "What the next step reads, and no more. (`fit` keeps the history too, for you and not for the optimiser.)"
    )
