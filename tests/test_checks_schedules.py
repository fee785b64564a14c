"""The checks on schedules: what learners really answer gets a diagnosis of its own, and right answers pass."""

import math

import numpy as np
import pytest
import torch
from check_output import said

from resnet_lib.checks import schedules as check


def cosine_by_numpy(epoch, peak_lr, epochs):
    return peak_lr * np.cos(np.pi / 2 * epoch / epochs) ** 2  # the half angle: cos² is (1 + cos) / 2


def simulated_loss(rate=0.2, walkers=200_000, steps=80):
    """The valley of the exercise, walked by many."""
    generator = np.random.default_rng(0)
    w = np.zeros(walkers)
    for _ in range(steps):
        w -= rate * (w + generator.normal(size=walkers))
    return (w**2).mean() / 2


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (check.cosine_rate, cosine_by_numpy),
        (check.cosine_rate, lambda epoch, peak_lr, epochs: peak_lr * (1 + math.cos(math.pi * epoch / epochs)) / 2),
        (check.gain_of_drop, lambda a, drop, window: (a[-window:] - a[drop - window : drop]).mean()),
        (check.gain_of_drop, lambda a, drop, window: np.mean(a[-window:].numpy()) - a[drop - window : drop].mean()),
        (check.loss_left, 0.0556),
        (check.loss_left, 0.056),
        (check.loss_left, torch.tensor(0.2 / 3.6)),
        (check.interval_of_three, 0.25),
        (check.interval_of_three, 4.303 * np.std([0.1, 0.2, 0.3], ddof=1) / 3**0.5),
    ],
)
def test_right_answers_pass_in_any_usual_form(function, answer):
    assert said(function, answer).startswith("✓")


def test_the_valleys_right_answer_is_what_walkers_find():
    assert said(check.loss_left, 0.2 / 3.6).startswith("✓")
    assert simulated_loss() == pytest.approx(0.2 / 3.6, rel=0.01)


WRONG_COSINES = [
    (lambda e, p, n: p * math.cos(math.pi * e / n), "cannot be negative"),
    (lambda e, p, n: p * (1 + math.cos(math.pi * e / n)), "twice the peak"),
    (lambda e, p, n: p * (1 + math.cos(2 * math.pi * e / n)) / 2, "whole wave"),
    (lambda e, p, n: p * math.cos(math.pi * e / n / 2), "quarter of a wave"),
    (lambda e, p, n: p * (1 - math.cos(math.pi * e / n)) / 2, "begins at 0"),
    (lambda e, p, n: p * (1 + math.cos(math.radians(math.pi * e / n))) / 2, "radians already"),
    (lambda e, p, n: p * (1 - e / n), "linear decay"),
    (lambda e, p, n: p * (1 + math.cos(180 * e / n)) / 2, "not 180"),
    (lambda e, p, n: p * (1 + math.cos(e / n)) / 2, "ends at 1"),
    (lambda e, p, n: p * (1 + math.cos(math.pi * e / (n - 1))) / 2, "one epoch too soon"),
    (lambda e, p, n: (1 + math.cos(math.pi * e / n)) / 2, "peak is missing"),
    (lambda e, p, n: p * 0.95**e, "None of the usual slips"),
    (lambda e, p, n: p * (1 + torch.cos(math.pi * e / n)) / 2, "raised an error"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_COSINES)
def test_wrong_cosines_get_their_own_diagnosis(function, diagnosis):
    text = said(check.cosine_rate, function)
    assert text.startswith("✗")
    assert diagnosis in text


WRONG_GAINS = [
    (lambda a, d, w: a[d] - a[d - 1], "two single epochs"),
    (lambda a, d, w: a[-1] - a[d - 1], "two single epochs"),
    (lambda a, d, w: a[-w:].max() - a[d - w : d].max(), "chosen by luck"),
    (lambda a, d, w: a[d:].max() - a[:d].max(), "more so among more epochs"),
    (lambda a, d, w: a[-w:].mean() - a[d - w + 1 : d + 1].mean(), "first at the lower rate"),
    (lambda a, d, w: a[d : d + w].mean() - a[d - w : d].mean(), "still on their way"),
    (lambda a, d, w: a[d:].mean() - a[:d].mean(), "knew nothing"),
    (lambda a, d, w: a[d - w : d].mean() - a[-w:].mean(), "other way round"),
    (lambda a, d, w: a[-w:].sum() - a[d - w : d].sum(), "Sums grow"),
    (lambda a, d, w: a[-w:].mean() - a[d - w : d + 1].mean(), "end before their end"),
    (lambda a, d, w: a[-w:].mean() - a[d - w - 1 : d - 1].mean(), "last epoch before the drop"),
    (lambda a, d, w: a[-w - 1 : -1].mean() - a[d - w : d].mean(), "run's last epoch"),
    (lambda a, d, w: a[-w:].mean() - a[:w].mean(), "first epochs of the run"),
    (lambda a, d, w: a[-w:].median() - a[d - w : d].median(), "medians"),
    (lambda a, d, w: a[d - w : d].mean(), "None of the usual slips"),
    (lambda a, d, w: a[-w:] - a[d - w : d], "None of the usual slips"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_GAINS)
def test_wrong_gains_get_their_own_diagnosis(function, diagnosis):
    text = said(check.gain_of_drop, function)
    assert text.startswith("✗")
    assert diagnosis in text


WRONG_NUMBERS = [
    (check.loss_left, 0.2 / 1.8, "half of it"),
    (check.loss_left, 0.05, "whole formula"),
    (check.loss_left, 0.1, "nearly 4"),
    (check.loss_left, 0.2 / 4.4, "The sign"),
    (check.loss_left, 0.04 / 3.6, "stands there once"),
    (check.loss_left, 0.02 / 3.96, "rate of 0.02"),
    (check.loss_left, 0.09, "denominator"),
    (check.loss_left, 0, "does not stop"),
    (check.loss_left, 3, "too large"),
    (check.interval_of_three, 1.96 * 0.1 / 3**0.5, "deviation that is known"),
    (check.interval_of_three, 0.1 / 3**0.5, "standard error"),
    (check.interval_of_three, 0.1, "single seeds differ"),
    (check.interval_of_three, 0.43, "for a single seed"),
    (check.interval_of_three, 0.196, "less than one"),
    (check.interval_of_three, 4.303 * np.std([0.1, 0.2, 0.3]) / 3**0.5, "n - 1"),
    (check.interval_of_three, 3.182 * 0.1 / 3**0.5, "3 degrees"),
    (check.interval_of_three, 0.497, "whole width"),
    (check.interval_of_three, 0.448, "upper end"),
    (check.interval_of_three, -0.0484, "lower end"),
    (check.interval_of_three, 0.01, "too small"),
]


@pytest.mark.parametrize(("function", "answer", "diagnosis"), WRONG_NUMBERS)
def test_wrong_numbers_get_their_own_diagnosis(function, answer, diagnosis):
    text = said(function, answer)
    assert text.startswith("✗")
    assert diagnosis in text


@pytest.mark.parametrize(
    ("function", "stub"),
    [
        (check.cosine_rate, lambda epoch, peak_lr, epochs: ...),
        (check.cosine_rate, ...),
        (check.gain_of_drop, lambda accuracy, drop, window: ...),
        (check.loss_left, ...),
        (check.interval_of_three, ...),
    ],
)
def test_stubs_get_a_friendly_not_yet(function, stub):
    assert said(function, stub).startswith("◦ Not yet")
