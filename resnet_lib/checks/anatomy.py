"""Exercises on trained networks: vanishing gradients in a table, paths, calibration, two accuracies, filters."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from resnet_lib.checks.gradient_tables import TABLES
from resnet_lib.checks.judging import check_test
from resnet_lib.checks.verdicts import call_on_copies, check_function, check_number, say_wrong
from resnet_lib.loss_surface import filter_normalise


def paths_left(answer: object) -> None:
    """The paths through the 27 blocks of ResNet-56 that are left when one block is dropped."""
    check_number(
        answer,
        2**26,
        "Half of all paths went through the dropped block's branch; the other half never met it.",
        "a count of paths",
        "each block doubles the number of paths: around it, or through it. What does the dropped one do?",
        {
            2**27: "That is all of them, before the cut: 2 for each of 27 blocks.",
            26: "That is the blocks that are left. Each of them lets every path go two ways.",
            27: "That is the blocks. Each of them lets every path go two ways, so they multiply.",
            2**27 - 1: "More than one path goes through the dropped branch: whatever way it takes elsewhere.",
            2**25: "One block fewer halves the number of paths once, not twice.",
            2 * 26: "Two ways at each block, but ways multiply: 2 · 2 · 2 · …",
            2**55: "Two layers make a block, and a path chooses once a block.",
            2**54: "Two layers make a block, and a path chooses once a block.",
            26**2: "Two to the power of the blocks, not the other way round.",
            1: "That is a plain network. Around every other block the shortcuts still let paths go two ways.",
            0: "That is a plain network: its one path went through the dropped block.",
            0.5: "That is the share that is left. How many are they?",
        },
        rel_tol=1e-10,
    )


def no_vanishing(function: object) -> None:
    """The reader's no_vanishing(table): False if in some epoch conv1's gradient × weight is below 1/1000 of fc's."""
    check_test(
        function,
        TABLES,
        (),
        "It compares layers of one epoch with each other, in every epoch, and only too small a ratio counts.",
        "what vanishes is a ratio: the first layer's gradient times weight norm to the last one's, epoch by epoch",
    )


# --- Calibration


def _binned(gap: Callable[[Tensor, Tensor, int], Tensor | float], whole: Callable = torch.ceil) -> Callable:
    """The sum of `gap` over the bins that hold images; gap gets the bin's confidences, its hits, and N."""

    def error(confidence: Tensor, right: Tensor, bins: int) -> Tensor:
        number = whole(confidence * bins)
        parts = [(confidence[number == i], right[number == i]) for i in number.unique()]
        return torch.as_tensor(sum(gap(c, r, len(right)) for c, r in parts))

    return error


def calibration_error(function: object) -> None:
    """The reader's calibration_error(confidence, right, bins): the gaps of equally wide bins, weighted by images."""
    generator = torch.Generator().manual_seed(0)
    confidence = 0.02 + 0.96 * torch.rand(60, generator=generator, dtype=torch.float64) ** 0.5
    right = (torch.rand(60, generator=generator, dtype=torch.float64) < 0.8 * confidence).double()
    look = "two means and one weight for each bin: its images' confidence, their share of right answers, and how many"
    few = torch.tensor([1.0, 0.95, 0.9, 0.8, 0.55, 0.35], dtype=torch.float64)
    sides = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)

    def distance(c: Tensor, r: Tensor, n: int) -> Tensor:
        return len(r) / n * (c.mean() - r.mean()).abs()

    weighted = _binned(distance)
    if function is not ... and _gives_nan(function, (few, sides, 5)):
        why = "A bin without images has no mean: leave it out of the sum."
        say_wrong(f"{weighted(few, sides, 5).item():.4g}", "nan", why, look)
        return

    def to_middles(confidence: Tensor, right: Tensor, bins: int) -> Tensor:
        return weighted(((confidence * bins).ceil() - 0.5) / bins, right, bins)

    def without_the_last(confidence: Tensor, right: Tensor, bins: int) -> Tensor:
        inside = (confidence * bins).ceil() < bins
        return weighted(confidence[inside], right[inside], bins) * inside.double().mean()

    def unweighted(confidence: Tensor, right: Tensor, bins: int) -> Tensor:
        number = (confidence * bins).ceil()
        return _binned(lambda c, r, n: (c.mean() - r.mean()).abs())(confidence, right, bins) / len(number.unique())

    check_function(
        function,
        weighted,
        [(few, sides, 5), (confidence, right, 10)],
        look,
        "A network that is sure where it is right and unsure where it is wrong has an error near 0.",
        [
            (
                _binned(lambda c, r, n: len(r) / n * (c.mean() - r.mean())),
                "Gaps of both signs cancel. Take each bin's distance: `abs`.",
            ),
            (
                _binned(lambda c, r, n: len(r) / n * (c.mean() - r.mean()) ** 2),
                "That squares the gaps. The expected calibration error takes their size: `abs`.",
            ),
            (
                lambda c, r, bins: (c.mean() - r.mean()).abs(),
                "That is one bin for all: whoever is too sure of some and not sure enough of others comes out well.",
            ),
            (
                lambda c, r, bins: (c - r).abs().mean(),
                "Single images are right or wrong, never 80% right. Only the share of a bin can meet a confidence.",
            ),
            (
                unweighted,
                "All bins count alike, however few images they hold. Weight each by its share of the images.",
            ),
            (
                lambda c, r, bins: unweighted(c, r, bins) * len((c * bins).ceil().unique()) / bins,
                "All bins count alike, however few images they hold. Weight each by its share of the images.",
            ),
            (
                _binned(lambda c, r, n: (c.mean() - r.mean()).abs()),
                "That adds up the gaps unweighted. Weight each by its share of the images.",
            ),
            (
                _binned(lambda c, r, n: len(r) * (c.mean() - r.mean()).abs()),
                "Weight each gap by the bin's *share* of the images: divide by all of them.",
            ),
            (
                _binned(distance, torch.floor),
                "An image on the edge of two bins is in the lower one, and 1.0 is in the last: `ceil`, not `floor`.",
            ),
            (
                _binned(distance, torch.round),
                "`round` moves the edges of the bins to their middles. A bin's number is its upper edge's: `ceil`.",
            ),
            (to_middles, "That takes the middle of each bin. Take the mean confidence of the images in it."),
            (without_the_last, "The last bin is missing: their numbers go from 1 to `bins`."),
        ],
    )


def _gives_nan(function: Callable, case: tuple) -> bool:
    try:
        return math.isnan(call_on_copies(function, case))
    except Exception:  # no number at all: for the check itself to show
        return False


# --- Two accuracies


def errors_apart(function: object) -> None:
    """The reader's errors_apart(a, b, images): b - a in standard errors of the difference, each on its own images."""

    def apart(spread: Callable[[float, float, int], float]) -> Callable:
        return lambda a, b, images: (b - a) / spread(a, b, images)

    def variance(share: float) -> float:
        return share * (1 - share)

    check_function(
        function,
        apart(lambda a, b, n: math.sqrt((variance(a) + variance(b)) / n)),
        [(0.60, 0.90, 50), (0.85, 0.87, 1000), (0.70, 0.64, 400), (0.90, 0.91, 10_000)],
        "the variance of one image is p · (1 - p); of a mean over n, that over n; of a difference, the sum of two",
        "On 1,000 images 85% and 87% are 1.3 standard errors apart: no evidence of a difference.",
        [
            (
                lambda a, b, n: abs(b - a) / math.sqrt((variance(a) + variance(b)) / n),
                "The sign is lost: where b is below a, the number is negative.",
            ),
            (
                lambda a, b, n: (a - b) / math.sqrt((variance(a) + variance(b)) / n),
                "The sign is the other way round: b - a.",
            ),
            (
                apart(lambda a, b, n: math.sqrt(variance(a) / n)),
                "That is the standard error of one accuracy. Both of them wobble: add their variances.",
            ),
            (
                apart(lambda a, b, n: math.sqrt(variance(b) / n)),
                "That is the standard error of one accuracy. Both of them wobble: add their variances.",
            ),
            (
                apart(lambda a, b, n: math.sqrt(variance(a) / n) + math.sqrt(variance(b) / n)),
                "Variances add up, not standard errors: square, add, and take the root.",
            ),
            (
                apart(lambda a, b, n: math.sqrt(variance(a) + variance(b))),
                "That is the deviation of single images. The mean of n images wobbles less, by the root of n.",
            ),
            (
                apart(lambda a, b, n: math.sqrt(variance(a) + variance(b)) / n),
                "The variance is divided by n, so the standard error by the root of n.",
            ),
            (
                apart(lambda a, b, n: (variance(a) + variance(b)) / n),
                "That is the variance of the difference; its root is the standard error.",
            ),
            (
                apart(lambda a, b, n: math.sqrt((a + b) / n)),
                "The variance of right-or-wrong is p · (1 - p): nothing wobbles if all is right.",
            ),
            (
                apart(lambda a, b, n: math.sqrt((variance(a) + variance(b)) / (2 * n))),
                "That is the mean of the two variances. The difference has their sum.",
            ),
            (
                apart(lambda a, b, n: math.sqrt(2 * variance((a + b) / 2) / n)),
                "That pools both into one accuracy, as a test of *equal* ones does; close, but asked is for the "
                "variance of each.",
            ),
            (lambda a, b, n: b - a, "That is the difference. How many standard errors is it?"),
        ],
    )


# --- Directions


def filter_direction(function: object) -> None:
    """The reader's filter_direction(direction, weight): each filter of the direction with the norm of its weights."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.Size((4, 3, 3, 3))
    direction, weight = torch.randn(2, *shape, generator=generator)
    weight *= torch.tensor([0.1, 1.0, 3.0, 0.5])[:, None, None, None]

    def norm(values: Tensor, axes: tuple[int, ...] = (1, 2, 3)) -> Tensor:
        return values.square().sum(axes, keepdim=True).sqrt()

    check_function(
        function,
        filter_normalise,
        [(direction, weight)],
        "section 6: which axis counts the filters, and over which axes is the norm of one?",
        "Each filter moves by its own size, so a network with large weights is not flat by that alone.",
        [
            (
                lambda d, w: d * w.norm() / d.norm(),
                "That is one factor for the whole layer. Each filter, `direction[i]`, has one of its own.",
            ),
            (
                lambda d, w: d / norm(d),
                "That brings each filter to norm 1. It should have the norm of `weight[i]`.",
            ),
            (
                lambda d, w: d * norm(w),
                "The direction's own norm is still in it: divide by it first.",
            ),
            (
                lambda d, w: d * norm(d) / norm(w),
                "Upside down: divide by the direction's norm, multiply by the weights'.",
            ),
            (
                lambda d, w: d / norm(w),
                "Upside down: divide by the direction's norm, multiply by the weights'.",
            ),
            (
                lambda d, w: d / norm(d, (0, 2, 3)) * norm(w, (0, 2, 3)),
                "That goes by input channel, axis 1. The filters, one an output channel, are along axis 0.",
            ),
            (
                lambda d, w: d / norm(d, (2, 3)) * norm(w, (2, 3)),
                "That goes by single 3×3 kernels. A filter has one for each input channel: sum over axis 1 too.",
            ),
            (
                lambda d, w: d / norm(d) ** 2 * norm(w) ** 2,
                "Those are squared norms: take the root of the sum of squares.",
            ),
            (
                lambda d, w: w / norm(w) * norm(d),
                "Direction and weight have changed places: the result points where the direction does.",
            ),
            (lambda d, w: w, "Those are the weights: the result has to point where `direction` does."),
            (
                lambda d, w: d * w.abs().sum((1, 2, 3), keepdim=True) / d.abs().sum((1, 2, 3), keepdim=True),
                "Those are sums of magnitudes. The norm is the root of the sum of squares.",
            ),
            (lambda d, w: d * w.abs(), "That goes by single weights. A filter keeps its own direction."),
            (lambda d, w: d, "The direction is as it was drawn."),
        ],
    )
