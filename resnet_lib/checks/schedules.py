"""Exercises on learning-rate schedules: the cosine, the gain of a drop, noise in a valley, three seeds."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from resnet_lib import schedules
from resnet_lib.checks.verdicts import check_function, check_number


def cosine_rate(function: object) -> None:
    """The reader's rate(epoch, peak_lr, epochs): half a cosine wave from the peak down to 0."""
    check_function(
        function,
        schedules.cosine,
        [(10, 0.4, 40), (0, 0.1, 30), (15, 0.1, 30), (2.5, 0.2, 15), (30, 0.1, 30)],
        "section 3: the values at the start, in the middle and at the end are the peak, half of it, and 0",
        "Slow at the start, fastest in the middle, slow again at the end, with nothing to choose but the peak.",
        [
            (
                lambda epoch, peak, epochs: peak * math.cos(math.pi * epoch / epochs),
                "The cosine goes on to -1, and a rate cannot be negative: lift it by 1 and take the half.",
            ),
            (
                lambda epoch, peak, epochs: peak * (1 + math.cos(math.pi * epoch / epochs)),
                "It starts at twice the peak: 1 + cos is between 0 and 2, so take the half.",
            ),
            (
                lambda epoch, peak, epochs: peak * (1 + math.cos(2 * math.pi * epoch / epochs)) / 2,
                "That is a whole wave: it comes up again. Half a wave ends at π.",
            ),
            (
                lambda epoch, peak, epochs: peak * math.cos(math.pi / 2 * epoch / epochs),
                "A quarter of a wave also ends at 0, but steeply. The usual schedule is half a wave, lifted by 1.",
            ),
            (
                lambda epoch, peak, epochs: peak * (1 - math.cos(math.pi * epoch / epochs)) / 2,
                "That begins at 0 and rises: plus, not minus.",
            ),
            (
                lambda epoch, peak, epochs: peak * (1 + math.cos(math.radians(math.pi * epoch / epochs))) / 2,
                "`math.cos` takes radians already.",
            ),
            (
                lambda epoch, peak, epochs: peak * (1 + math.cos(180 * epoch / epochs)) / 2,
                "`math.cos` takes radians: half a wave is π, not 180.",
            ),
            (
                lambda epoch, peak, epochs: peak * (1 + math.cos(epoch / epochs)) / 2,
                "The angle ends at 1, a sixth of a wave. Half a wave is π: `math.pi * epoch / epochs`.",
            ),
            (
                lambda epoch, peak, epochs: peak * (1 + math.cos(math.pi * epoch / (epochs - 1))) / 2,
                "That is 0 one epoch too soon: the exercise asks for 0 at `epochs`, so divide by `epochs`.",
            ),
            (lambda epoch, peak, epochs: peak * (1 - epoch / epochs), "That is linear decay: a line, not a wave."),
            (
                lambda epoch, peak, epochs: (1 + math.cos(math.pi * epoch / epochs)) / 2,
                "The peak is missing: that is a share of it.",
            ),
        ],
    )


def gain_of_drop(function: object) -> None:
    """The reader's gain(accuracy, drop, window): mean of the last `window` epochs minus that before the drop."""
    generator = torch.Generator().manual_seed(0)
    level = torch.tensor([80.0] * 20 + [88.0] * 12, dtype=torch.float64)
    noisy = level + torch.randn(32, generator=generator, dtype=torch.float64)
    rising = torch.linspace(60, 90, 25, dtype=torch.float64) ** 1.01

    def means(before: Callable, after: Callable) -> Callable:
        return lambda a, drop, window: after(a, drop, window).mean() - before(a, drop, window).mean()

    def last(a: Tensor, drop: int, window: int) -> Tensor:
        return a[-window:]

    def last_before(a: Tensor, drop: int, window: int) -> Tensor:
        return a[drop - window : drop]

    check_function(
        function,
        means(last_before, last),
        [(noisy, 20, 6), (rising, 10, 5)],
        "section 4: which epochs are compared, and which of them is the first at the lower rate?",
        "Means of several epochs on each side, and no epoch chosen because it looked good.",
        [
            (
                lambda a, drop, window: a[drop] - a[drop - 1],
                "That compares two single epochs, whose wobble is as large as many a gain. Take means of windows.",
            ),
            (
                lambda a, drop, window: a[-1] - a[drop - 1],
                "That compares two single epochs, whose wobble is as large as many a gain. Take means of windows.",
            ),
            (
                lambda a, drop, window: a[-window:].max() - a[drop - window : drop].max(),
                "The best epoch of a window is chosen by luck as well; the mean of a window is not.",
            ),
            (
                lambda a, drop, window: a[drop:].max() - a[:drop].max(),
                "The best epoch of many is chosen by luck as well, more so among more epochs. Take means of windows.",
            ),
            (
                means(lambda a, drop, window: a[drop - window + 1 : drop + 1], last),
                "Epoch `drop` is the first at the lower rate, so it is not one of those before. Slices end before "
                "their end: `accuracy[drop - window:drop]`.",
            ),
            (
                means(last_before, lambda a, drop, window: a[drop : drop + window]),
                "The first epochs after the drop are still on their way. The question asks for the last ones.",
            ),
            (
                means(last_before, lambda a, drop, window: a[drop:]),
                "The first epochs after the drop are still on their way: take the last `window`.",
            ),
            (
                means(lambda a, drop, window: a[:drop], last),
                "Before the drop are also the first epochs, of a net that knew nothing. Take `window` of them.",
            ),
            (
                means(lambda a, drop, window: a[:drop], lambda a, drop, window: a[drop:]),
                "Before the drop are also the first epochs, of a net that knew nothing. Take `window` of them.",
            ),
            (
                means(lambda a, drop, window: a[drop - window : drop + 1], last),
                "Slices end before their end, and epoch `drop` is the first at the lower rate: "
                "`accuracy[drop - window:drop]`.",
            ),
            (
                means(lambda a, drop, window: a[drop - window - 1 : drop - 1], last),
                "That leaves out the last epoch before the drop: a slice ends before its end already.",
            ),
            (
                means(last_before, lambda a, drop, window: a[-window - 1 : -1]),
                "That leaves out the run's last epoch: `accuracy[-window:]` goes to the end.",
            ),
            (
                means(lambda a, drop, window: a[:window], last),
                "Those are the first epochs of the run. Take the last ones before the drop.",
            ),
            (
                lambda a, drop, window: a[-window:].median() - a[drop - window : drop].median(),
                "Those are medians; asked are means.",
            ),
            (means(last, last_before), "The sign is the other way round: after minus before."),
            (
                lambda a, drop, window: a[-window:].sum() - a[drop - window : drop].sum(),
                "Sums grow with the window; divide by its length, or take `.mean()`.",
            ),
        ],
    )


def loss_left(answer: object) -> None:
    """The loss that noise of deviation 1 leaves in a valley of steepness 1 at rate 0.2: η / (2 (2 - η))."""
    check_number(
        answer,
        0.2 / (2 * 1.8),
        "At 0.02 it is 0.0051, eleven times less: the level falls a little faster than the rate.",
        "a loss, with two digits or more",
        "the formula of section 6, and what stands in front of w² in the loss",
        {
            0.2 / 1.8: "That is the mean of w². The loss is half of it.",
            0.05: "That is η σ² / 4, for rates that are small against 2 / h. Here η h is 0.2: use the whole formula.",
            0.1: "That is η σ² / 2. The denominator has 2 (2 - η h), which is nearly 4.",
            0.2
            / (2 * 2.2): "The sign: 2 - η h. At η h = 2 the steps no longer come to rest, so the loss must grow there.",
            0.2**2
            / (2 * 1.8): "The rate stands there once: each step adds η² σ², and takes a share of about 2 η h away.",
            0.02 / (2 * 1.98): "That is for a rate of 0.02.",
            0.2 / 4 * 1.8: "2 - η h belongs in the denominator.",
            0: "The noise does not stop, so the steps do not come to rest at the bottom.",
        },
        rel_tol=4e-2,  # walkers, as many as in the solution, stray by less
    )


def interval_of_three(answer: object) -> None:
    """Half the width of the 95% interval of the mean of 0.1, 0.2 and 0.3: 4.303 · 0.1 / sqrt(3)."""
    deviation = 0.1
    check_number(
        answer,
        4.302653 * deviation / math.sqrt(3),
        "0.2 ± 0.25 points: although the one is ahead in all three seeds, zero lies within the interval.",
        "half the width of an interval, in points, with two digits or more",
        "`mean_interval`: how many deviations of the mean, and how many seeds is that for?",
        {
            1.96 * deviation / math.sqrt(3): "1.96 is for a deviation that is known. From three seeds it is a guess "
            "itself, and Student's quantile with 2 degrees of freedom makes up for it: 4.30.",
            deviation / math.sqrt(3): "That is the standard error. 95% takes 4.30 of them when there are three seeds.",
            deviation: "That is how much single seeds differ. The mean of three differs by sqrt(3) less, and 95% takes "
            "4.30 of that.",
            4.302653 * deviation: "That is for a single seed. The mean of n has sqrt(n) times less.",
            1.96
            * deviation: "The mean of n seeds varies by sqrt(n) less than one; and with three of them 95% takes 4.30.",
            4.302653 * math.sqrt(0.02 / 3) / math.sqrt(3): "The deviation was divided by n: with so few seeds by n - 1 "
            "(`ddof=1` in NumPy).",
            3.182446
            * deviation
            / math.sqrt(3): "That quantile is for 3 degrees of freedom. Three seeds have 2: one is spent on the mean.",
            2
            * 4.302653
            * deviation
            / math.sqrt(3): "That is the whole width; asked is how far it reaches to each side.",
            0.2 + 4.302653 * deviation / math.sqrt(3): "That is the interval's upper end: subtract the mean.",
            0.2 - 4.302653 * deviation / math.sqrt(3): "That is the interval's lower end: subtract it from the mean.",
        },
        rel_tol=8e-3,
    )
