"""The checks on trained networks: what learners really answer gets a diagnosis of its own, and right answers pass."""

import math

import numpy as np
import pytest
import torch
from check_output import said

from resnet_lib.checks import anatomy as check
from resnet_lib.checks.gradient_tables import TABLES


def fair(table):
    return table.assign(fair=table["gradient_norm"] * table["weight_norm"])


def by_ratio(table):
    first = fair(table)[table["layer"] == "conv1"].set_index("epochs_trained")["fair"]
    last = fair(table)[table["layer"] == "fc"].set_index("epochs_trained")["fair"]
    return bool((first / last > 1e-3).all())


def by_epochs(table):
    for _, epoch in table.groupby("epochs_trained"):
        sizes = (epoch["gradient_norm"] * epoch["weight_norm"]).to_numpy()
        if sizes[0] < sizes[-1] / 1000:
            return False
    return True


def ece_by_histogram(confidence, right, bins):
    total = 0.0
    for low, high in zip(np.arange(bins) / bins, np.arange(1, bins + 1) / bins, strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.double().mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def ece_in_place(confidence, right, bins):
    """Its arguments are spoilt afterwards; the check must not be."""
    error = ece_by_histogram(confidence, right, bins)
    confidence.zero_()
    right.zero_()
    return error


def filters_by_loop(direction, weight):
    for d, w in zip(direction, weight, strict=True):
        d.mul_(w.norm() / d.norm())
    return direction


RIGHT = [
    (check.paths_left, 2**26),
    (check.paths_left, torch.tensor(67_108_864)),
    (check.no_vanishing, by_ratio),
    (check.no_vanishing, by_epochs),
    (check.calibration_error, ece_by_histogram),
    (check.calibration_error, lambda c, r, b: float(ece_by_histogram(c, r, b))),
    (check.calibration_error, ece_in_place),
    (check.errors_apart, lambda a, b, n: (b - a) * n**0.5 / (a - a * a + b - b * b) ** 0.5),
    (check.filter_direction, filters_by_loop),
    (
        check.filter_direction,
        lambda d, w: d * (w.flatten(1).norm(dim=1) / d.flatten(1).norm(dim=1)).view(-1, 1, 1, 1),
    ),
]


@pytest.mark.parametrize(("function", "answer"), RIGHT)
def test_right_answers_pass_in_any_usual_form(function, answer):
    assert said(function, answer).startswith("✓")


def test_two_accuracies_are_as_far_apart_as_simulation_says():
    generator = np.random.default_rng(0)
    a, b = (generator.binomial(1000, p, size=100_000) / 1000 for p in (0.85, 0.87))
    distance = 0.02 / (b - a).std()
    assert said(check.errors_apart, lambda p, q, n: (q - p) / math.sqrt((p * (1 - p) + q * (1 - q)) / n)).startswith(
        "✓"
    )
    assert 0.02 / math.sqrt((0.85 * 0.15 + 0.87 * 0.13) / 1000) == pytest.approx(distance, rel=0.01)


WRONG_PATHS = [
    (2**27, "before the cut"),
    (26, "blocks that are left"),
    (2**27 - 1, "More than one path"),
    (2**25, "once, not twice"),
    (52, "multiply"),
    (2**54, "once a block"),
    (0, "plain network"),
    (0.5, "the share"),
    (12345, "too small"),
    ("many", "not a number"),
]


@pytest.mark.parametrize(("answer", "diagnosis"), WRONG_PATHS)
def test_wrong_counts_of_paths_get_their_own_diagnosis(answer, diagnosis):
    text = said(check.paths_left, answer)
    assert text.startswith("✗")
    assert diagnosis in text


def at(table, epoch, layer):
    return table[(table["epochs_trained"] == epoch) & (table["layer"] == layer)]["gradient_norm"].item()


def raw_ratios(t):
    return [at(t, epoch, "conv1") / at(t, epoch, "fc") for epoch in t["epochs_trained"].unique()]


WRONG_TESTS = [
    (lambda t: at(t, 0, "conv1") > 1e-3 * at(t, 0, "fc"), "vanishes in the last epoch"),
    (lambda t: at(t, t["epochs_trained"].max(), "conv1") > 1e-3 * at(t, t["epochs_trained"].max(), "fc"), "recovered"),
    (lambda t: t["gradient_norm"].min() > 1e-6, "shrink in all layers alike"),
    (lambda t: t["gradient_norm"].min() / t["gradient_norm"].max() > 1e-3, "it explodes"),
    (lambda t: by_ratio(t) and at(t, 0, "conv1") < 100 * at(t, 0, "fc"), "it explodes"),
    (lambda t: (t["gradient_norm"] > 0).all(), "ten-millionth"),
    (lambda t: all(at(t, i, "conv1") > at(t, i, "fc") for i in t["epochs_trained"]), "not below a thousandth"),
    (lambda t: all(at(t, i, "conv1") > 1e-6 * at(t, i, "fc") for i in t["epochs_trained"]), "a ten-thousandth"),
    (lambda t: min(raw_ratios(t)) > 1e-3, "its weights are huge"),
    (lambda t: by_ratio(t) or min(raw_ratios(t)) > 1e-3, "next to nothing"),
    (lambda t: True, "cannot fail"),
    (lambda t: not by_ratio(t), "False"),
    (lambda t: None, "`return` missing"),
    (lambda t: t["gradient_norm"] > 0, "one truth value"),
    (lambda t: t["gradients"].min() > 0, "your test's own"),
    (
        lambda t: (
            t[t["layer"] == "fc"]["gradient_norm"].mean() < 1e3 * t[t["layer"] == "conv1"]["gradient_norm"].mean()
        ),
        "hides the worst",
    ),
]


def by_measure(measure, limit=1e-3, last="fc"):
    """A test by another measure of a layer (of columns g, the gradient norm, and w, the weight norm) or limit."""

    def test(table):
        g, w = (
            table.pivot(index="epochs_trained", columns="layer", values=f"{v}_norm") for v in ("gradient", "weight")
        )
        first, other = measure(g, w)
        other = other.max(axis=1) if last == "largest" else other["fc"]
        return bool((first["conv1"] > limit * other).all())

    return test


WRONG_TESTS += [
    (by_measure(lambda g, w: (g * w, g)), "*both* layers"),
    (by_measure(lambda g, w: (g, g * w)), "huge"),
    (by_measure(lambda g, w: (g * w**2, g * w**2)), "each once"),
    (by_measure(lambda g, w: (g * w, g * w), last="largest"), "Only conv1 and fc"),
    (by_measure(lambda g, w: (g * w, g * w), limit=2e-4), "below a thousandth"),
    (by_measure(lambda g, w: (g * w, g * w), limit=4e-3), "above a thousandth"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_TESTS)
def test_wrong_tests_of_gradients_get_their_own_diagnosis(function, diagnosis):
    text = said(check.no_vanishing, function)
    assert text.startswith("✗")
    assert diagnosis in text


def test_tables_are_as_far_from_a_thousandth_as_they_say():
    for subject in TABLES:
        table = subject.make()
        assert list(table.columns) == ["epochs_trained", "layer", "gradient_norm", "weight_norm"]
        first, last = (
            fair(table)[table["layer"] == layer].set_index("epochs_trained")["fair"] for layer in ("conv1", "fc")
        )
        ratios = first / last
        assert (min(ratios) > 1.2e-3) == subject.sound
        assert (min(ratios) < 0.9e-3) == (not subject.sound)


def in_bins(rule):
    """Over the bins that hold images; rule gets gap and images of each, the number of images, and of bins."""

    def error(confidence, right, bins):
        number = np.ceil(confidence.numpy() * bins)
        members = [torch.from_numpy(number == i) for i in np.unique(number)]
        gaps = [float(confidence[m].mean() - right[m].mean()) for m in members]
        counts = [int(m.sum()) for m in members]
        return rule(np.array(gaps), np.array(counts), len(right), bins)

    return error


def masks(confidence, bins):
    return [(confidence * bins).ceil() == i for i in range(1, bins + 1)]


def ece_of_bins(confidence, right, bins, numbers):
    total = 0.0
    for i in numbers:
        inside = (confidence * bins).ceil() == i
        if inside.any():
            total += inside.double().mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def ece_of_middles(confidence, right, bins):
    gaps = [abs((i + 0.5) / bins - right[m].mean()) * m.sum() for i, m in enumerate(masks(confidence, bins)) if m.any()]
    return sum(gaps) / len(right)


def ece_numbered_by(whole):
    def error(confidence, right, bins):
        number = whole(confidence * bins)
        members = [number == i for i in number.unique()]
        return sum(m.double().mean() * abs(confidence[m].mean() - right[m].mean()) for m in members)

    return error


WRONG_ERRORS = [
    (in_bins(lambda gap, count, n, bins: (gap * count).sum() / n), "both signs cancel"),
    (in_bins(lambda gap, count, n, bins: (gap**2 * count).sum() / n), "squares the gaps"),
    (in_bins(lambda gap, count, n, bins: np.abs(gap).mean()), "All bins count alike"),
    (in_bins(lambda gap, count, n, bins: np.abs(gap).sum() / bins), "All bins count alike"),
    (in_bins(lambda gap, count, n, bins: np.abs(gap).sum()), "unweighted"),
    (in_bins(lambda gap, count, n, bins: (np.abs(gap) * count).sum()), "*share*"),
    (lambda c, r, b: abs(c.mean() - r.mean()), "one bin for all"),
    (lambda c, r, b: (c - r).abs().mean(), "never 80% right"),
    (ece_of_middles, "middle of each bin"),
    (ece_numbered_by(torch.floor), "`ceil`, not `floor`"),
    (ece_numbered_by(torch.round), "moves the edges"),
    (lambda c, r, b: ece_of_bins(c, r, b, range(b)), "last bin is missing"),
    (lambda c, r, b: sum(len(c[m]) * abs(c[m].mean() - r[m].mean()) for m in masks(c, b)) / len(c), "has no mean"),
    (lambda c, r, b: None, "`return` missing"),
    (lambda c, r: 0.0, "raised an error"),
    (lambda c, r, b: torch.stack([c[r == 1].mean() for _ in range(b)]), "None of the usual slips"),
    (in_bins(lambda gap, count, n, bins: np.abs(gap).max()), "None of the usual slips"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_ERRORS)
def test_wrong_calibration_errors_get_their_own_diagnosis(function, diagnosis):
    text = said(check.calibration_error, function)
    assert text.startswith("✗")
    assert diagnosis in text


WRONG_DISTANCES = [
    (lambda a, b, n: abs(b - a) / math.sqrt((a * (1 - a) + b * (1 - b)) / n), "sign is lost"),
    (lambda a, b, n: (a - b) / math.sqrt((a * (1 - a) + b * (1 - b)) / n), "other way round"),
    (lambda a, b, n: (b - a) / math.sqrt(a * (1 - a) / n), "Both of them wobble"),
    (lambda a, b, n: (b - a) / math.sqrt(b * (1 - b) / n), "Both of them wobble"),
    (lambda a, b, n: (b - a) / (math.sqrt(a * (1 - a) / n) + math.sqrt(b * (1 - b) / n)), "Variances add up"),
    (lambda a, b, n: (b - a) / math.sqrt(a * (1 - a) + b * (1 - b)), "single images"),
    (lambda a, b, n: (b - a) * n / math.sqrt(a * (1 - a) + b * (1 - b)), "root of n"),
    (lambda a, b, n: (b - a) * n / (a * (1 - a) + b * (1 - b)), "its root is"),
    (lambda a, b, n: (b - a) / math.sqrt((a + b) / n), "p · (1 - p)"),
    (lambda a, b, n: (b - a) / math.sqrt((a * (1 - a) + b * (1 - b)) / (2 * n)), "has their sum"),
    (lambda a, b, n: (b - a) / math.sqrt((a + b) * (1 - (a + b) / 2) / n), "pools both"),
    (lambda a, b, n: b - a, "That is the difference"),
    (lambda a, b, n: (b - a) / math.sqrt(0.5 / n), "None of the usual slips"),
    (lambda a, b: b - a, "raised an error"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_DISTANCES)
def test_wrong_distances_get_their_own_diagnosis(function, diagnosis):
    text = said(check.errors_apart, function)
    assert text.startswith("✗")
    assert diagnosis in text


def length(values):
    return values.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


WRONG_DIRECTIONS = [
    (lambda d, w: d / d.norm() * w.norm(), "whole layer"),
    (lambda d, w: d / length(d), "norm 1"),
    (lambda d, w: d * length(w), "divide by it first"),
    (lambda d, w: d / length(w) * length(d), "Upside down"),
    (lambda d, w: d / length(w), "Upside down"),
    (lambda d, w: (filters_by_loop(d.transpose(0, 1), w.transpose(0, 1))).transpose(0, 1), "input channel"),
    (lambda d, w: d * w.norm(dim=(2, 3), keepdim=True) / d.norm(dim=(2, 3), keepdim=True), "single 3×3 kernels"),
    (lambda d, w: d * (length(w) / length(d)) ** 2, "squared norms"),
    (lambda d, w: w * length(d) / length(w), "changed places"),
    (lambda d, w: d * abs(w), "single weights"),
    (lambda d, w: d, "as it was drawn"),
    (lambda d, w: w, "Those are the weights"),
    (lambda d, w: d * (abs(w).sum((1, 2, 3)) / abs(d).sum((1, 2, 3))).view(-1, 1, 1, 1), "sums of magnitudes"),
    (lambda d, w: (d * length(w) / length(d))[0], "None of the usual slips"),
    (lambda d, w: d.norm(dim=(1, 2, 3)), "raised an error"),
    (lambda d, w: print(end=""), "`return` missing"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_DIRECTIONS)
def test_wrong_directions_get_their_own_diagnosis(function, diagnosis):
    text = said(check.filter_direction, function)
    assert text.startswith("✗")
    assert diagnosis in text


@pytest.mark.parametrize(
    "function",
    [check.paths_left, check.no_vanishing, check.calibration_error, check.errors_apart, check.filter_direction],
)
def test_untouched_exercises_get_a_friendly_not_yet(function):
    assert said(function, ...).startswith("◦ Not yet")
    if function is not check.paths_left:
        assert said(function, lambda *arguments: ...).startswith("◦ Not yet")
