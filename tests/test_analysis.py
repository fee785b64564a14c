"""Intervals against closed forms, published tables and series whose truth is known; gradient noise by hand."""

import copy
import hashlib
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from resnet_lib.analysis import (
    class_accuracies,
    drop_gains,
    epochs_to_reach,
    mean_interval,
    paired_differences,
    student_quantile,
    wilson_interval,
)
from resnet_lib.gradient_noise import loss_along, measure_gradient_noise
from resnet_lib.models import cifar_resnet
from resnet_lib.runs import load_readme_accuracy


def staircase(levels, lengths, slope=0.0):
    """A series of flat stretches, each epoch higher by `slope` besides."""
    series = np.repeat(levels, lengths).astype(float)
    return series + slope * np.arange(len(series))


def wobble(correlation, size, generator):
    """Noise of deviation 1 in which neighbours correlate."""
    steps = generator.normal(size=(*size[:-1], size[-1] + 100)) * math.sqrt(1 - correlation**2)
    noise = np.zeros_like(steps)
    for i in range(1, steps.shape[-1]):
        noise[..., i] = correlation * noise[..., i - 1] + steps[..., i]
    return noise[..., 100:]


# Drops


def test_gains_of_a_staircase_without_noise_are_its_steps():
    gains = drop_gains(staircase([80, 88, 89, 89], [40, 30, 20, 20]), (40, 70, 90))
    assert gains["drop"].tolist() == [40, 70, 90]
    for column in ("gain", "gain_low", "gain_high", "beyond", "beyond_low", "beyond_high"):
        np.testing.assert_allclose(gains[column], [8, 1, 0], atol=1e-9)
    np.testing.assert_allclose(gains[["trend", "before_spread", "after_spread"]], 0, atol=1e-9)


def test_a_steady_rise_is_the_trends_and_not_the_drops():
    """The middles of the windows are 20 epochs apart, so 0.2 an epoch makes 4 without any drop."""
    gains = drop_gains(staircase([50, 53], [30, 20], slope=0.2), (30,))
    row = gains.iloc[0]
    assert (row["gain"], row["trend"], row["beyond"]) == pytest.approx((7, 4, 3))
    assert (row["beyond_low"], row["beyond_high"]) == pytest.approx((3, 3))
    nothing = drop_gains(staircase([50, 50], [30, 20], slope=0.2), (30,)).iloc[0]
    assert (nothing["gain"], nothing["beyond"]) == pytest.approx((4, 0))


def test_the_trend_is_read_over_the_second_half_of_the_stretch():
    """A run that rose for 40 epochs and was level for 40 more has no trend left."""
    series = np.concatenate([np.linspace(40, 80, 40), np.full(40, 80.0), np.full(20, 85.0)])
    assert drop_gains(series, (80,)).iloc[0]["trend"] == pytest.approx(0)


def test_unit_of_the_accuracy_is_that_of_the_gains():
    series = staircase([80, 88], [20, 20]) + np.random.default_rng(1).normal(size=40)
    by_points, by_shares = drop_gains(series, (20,)), drop_gains(series / 100, (20,))
    numbers = by_points.columns.drop("drop")
    np.testing.assert_allclose(by_points[numbers], 100 * by_shares[numbers])


@pytest.mark.parametrize(("correlation", "least"), [(0, 0.87), (0.3, 0.8)])
def test_intervals_hold_the_true_gain_about_as_often_as_they_say(correlation, least):
    """Nominal 95% from 15 epochs a window; the docstring says what to expect of so few."""
    noise = wobble(correlation, (200, 35), np.random.default_rng(0))
    truth = staircase([80, 83], [20, 15])
    rows = pd.concat([drop_gains(truth + one, (20,)) for one in noise])
    for column in ("gain", "beyond"):
        held = rows[f"{column}_low"].le(3) & rows[f"{column}_high"].ge(3)
        assert least < held.mean() < 0.985, column
        assert rows[column].mean() == pytest.approx(3, abs=0.15)


def test_blocks_widen_the_interval_where_neighbours_are_alike():
    noise = wobble(0.7, (40, 40), np.random.default_rng(3))
    width = {
        block: np.mean([np.ptp(drop_gains(one, (20,), block=block)[["gain_low", "gain_high"]]) for one in noise])
        for block in (1, 5)
    }
    assert width[5] > 1.3 * width[1]


def test_the_same_seed_gives_the_same_interval_and_another_nearly_the_same():
    series = staircase([80, 88], [20, 20]) + np.random.default_rng(1).normal(size=40)
    first, again, other = (drop_gains(series, (20,), seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    np.testing.assert_allclose(first["gain_low"], other["gain_low"], atol=0.05)


@pytest.mark.parametrize("block", [1, 4])
def test_two_epochs_a_window_leave_nothing_beside_the_line_to_draw_from(block):
    row = drop_gains([70, 80, 78, 85, 86, 86, 87], (3, 5), window=2, block=block).iloc[0]
    assert row["gain"] == pytest.approx(6.5)
    assert row[["gain_low", "gain_high", "trend", "beyond_low"]].isna().all()


def test_the_guessed_spread_widens_an_interval_by_its_own_confidence():
    """The draws are all but normal, so what remains between two confidences is the ratio of Student's quantiles."""
    series = staircase([80, 90], [20, 20]) + wobble(0, (40,), np.random.default_rng(0))
    widths = {}
    for confidence in (0.5, 0.95):
        row = drop_gains(series, (20,), window=8, block=1, confidence=confidence).iloc[0]
        widths[confidence] = row["gain_high"] - row["gain_low"]
    student = student_quantile(0.95, 6) / student_quantile(0.5, 6)
    assert widths[0.95] / widths[0.5] == pytest.approx(student, rel=0.07)


def test_short_windows_give_gains_and_no_pretence_of_an_interval():
    row = drop_gains([70, 80, 78, 85, 86, 86, 87], (3, 5), window=2).iloc[0]
    assert (row["before"], row["after"], row["gain"]) == pytest.approx((79, 85.5, 6.5))
    assert row[["gain_low", "gain_high", "trend", "beyond", "beyond_low", "beyond_high"]].isna().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accuracy": np.zeros((30, 2))}, r"shape \(30, 2\): expected one finite number an epoch"),
        ({"accuracy": [0.5] * 39 + [math.nan]}, "finite number"),
        ({"drops": ()}, "at least one"),
        ({"drops": (30, 20)}, "rising epochs from 1 to 39"),
        ({"drops": (20, 20)}, "rising"),
        ({"drops": (0,)}, "from 1"),
        ({"drops": (40,)}, "to 39"),
        ({"drops": (20, 30)}, "shortest stretch of one learning rate has 10 epochs. Take 2 to 10"),
        ({"window": 1}, "Take 2 to 20"),
        ({"block": 0}, "block=0"),
        ({"confidence": 95}, "confidence=95"),
    ],
)
def test_bad_input_of_drop_gains_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        drop_gains(**({"accuracy": np.zeros(40), "drops": (20,)} | arguments))


def test_epochs_are_counted_until_a_level_is_first_reached():
    accuracy = [0.3, 0.5, 0.45, 0.6]
    assert [epochs_to_reach(accuracy, level) for level in (0.2, 0.5, 0.55, 0.6)] == [1, 2, 4, 4]
    assert math.isnan(epochs_to_reach(accuracy, 0.7))
    with pytest.raises(ValueError, match="finite number an epoch"):
        epochs_to_reach([0.5, math.nan], 0.4)


# Seeds


@pytest.mark.parametrize(
    ("confidence", "degrees", "table"),
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 3, 3.182), (0.95, 4, 2.776), (0.95, 9, 2.262), (0.95, 30, 2.042),
     (0.99, 2, 9.925), (0.99, 5, 4.032), (0.9, 10, 1.812), (0.5, 1, 1.0), (0.95, 1000, 1.962)],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_printed_tables(confidence, degrees, table):
    assert student_quantile(confidence, degrees) == pytest.approx(table, abs=6e-4)


def test_interval_over_three_seeds_by_hand():
    mean, low, high = mean_interval([90.0, 91.0, 92.0])
    assert mean == 91
    assert high - mean == pytest.approx(mean - low)
    assert high - mean == pytest.approx(4.3027 * 1 / 3**0.5, rel=1e-4)


def test_interval_over_seeds_holds_the_true_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(90, 0.3, size=(2000, 3))
    held = [low <= 90 <= high for _, low, high in map(mean_interval, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_paired_differences_use_the_pairs():
    """Seeds that differ by 10 points, and one recipe ahead by 1 in each of them."""
    table = pd.DataFrame({"constant": [60.0, 70.0, 80.0], "cosine": [60.9, 71.0, 81.1], "linear": [59.0, 71.0, 80.0]})
    paired = paired_differences(table, "constant")
    assert paired.index.tolist() == ["cosine", "linear"]
    assert paired.loc["cosine", "difference"] == pytest.approx(1)
    assert paired.loc["cosine", "low"] == pytest.approx(1 - 4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert paired["ahead"].tolist() == [3, 1]
    assert paired["seeds"].tolist() == [3, 3]
    assert paired.loc["linear", "low"] < 0 < paired.loc["linear", "high"]


@pytest.mark.parametrize("values", [[90.0], [], [[1.0, 2.0]], [90.0, math.nan], [90.0, math.inf]])
def test_too_few_seeds_or_missing_numbers_are_refused(values):
    with pytest.raises(ValueError, match="at least two finite numbers"):
        mean_interval(values)


def test_unknown_baseline_and_degrees_are_refused():
    with pytest.raises(ValueError, match="baseline='b': expected one of 'a'"):
        paired_differences(pd.DataFrame({"a": [1.0, 2.0]}), "b")
    with pytest.raises(ValueError, match="at least 1 degree"):
        student_quantile(0.95, 0)


# Classes


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (the score method).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_is_the_published_one(correct, total, low, high):
    share, *ends = wilson_interval(correct, total)
    assert share == correct / total
    assert ends == pytest.approx([low, high], abs=6e-5)


def test_wilson_interval_solves_the_equation_it_stands_for():
    """At each end p the share lies exactly z deviations sqrt(p (1 - p) / n) away."""
    share, *ends = wilson_interval(94, 100)
    for end in ends:
        assert abs(share - end) / math.sqrt(end * (1 - end) / 100) == pytest.approx(1.959964, abs=1e-5)
    assert wilson_interval(100, 100).high == pytest.approx(1)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 10), (11, 10)])
def test_impossible_counts_are_refused(correct, total):
    with pytest.raises(ValueError, match="0 ≤ right ≤ total"):
        wilson_interval(correct, total)


def test_accuracy_of_each_class_counts_its_own_images():
    labels = torch.tensor([0, 0, 0, 0, 2, 2])
    predicted = torch.tensor([0, 0, 0, 1, 2, 0])
    table = class_accuracies(predicted, labels, ("cat", "dog", "ship"))
    assert table.index.tolist() == ["cat", "ship"]
    assert table["images"].tolist() == [4, 2]
    assert table["accuracy"].tolist() == [0.75, 0.5]
    assert (table["low"] < table["accuracy"]).all()
    for wrong in ((predicted[:2], labels), (predicted[:0], labels[:0]), (predicted, labels + 1)):
        with pytest.raises(ValueError, match="labels"):
            class_accuracies(*wrong, ("cat", "dog", "ship"))


# The README's curve


def test_readmes_curve_is_the_digitised_one():
    curve = load_readme_accuracy()
    assert curve.columns.tolist() == ["epoch", "test_accuracy"]
    assert curve["epoch"].tolist() == list(range(150))
    assert curve["test_accuracy"].between(0.4, 0.95).all()
    means = [curve["test_accuracy"][low:high].mean() for low, high in ((60, 80), (85, 110), (115, 130), (135, 150))]
    assert means == pytest.approx([0.848, 0.932, 0.9426, 0.9437], abs=6e-4)
    digest = hashlib.sha256(curve.to_csv(index=False, float_format="%.4f").encode()).hexdigest()
    assert digest[:12] == "f88b75d62cd5"


def test_readmes_curve_says_where_it_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"readme_accuracy\.csv"):
        load_readme_accuracy(tmp_path)


# Gradient noise


@pytest.fixture
def linear():
    """A linear classifier that starts at 0, so that every class gets 1/3, and 12 points for it."""
    model = nn.Linear(2, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    points = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    return model, points, torch.arange(12) % 3


def gradients_by_hand(points, labels):
    """d loss / d logits is softmax - one-hot, so a row of the gradient is (1/3 - one-hot) times (x, 1)."""
    slopes = 1 / 3 - np.eye(3)[labels]
    weights = slopes[:, :, None] * points.numpy()[:, None, :].astype(float)
    return np.concatenate([weights.reshape(len(labels), -1), slopes], axis=1)


def test_noise_of_single_images_is_the_spread_of_their_gradients(linear):
    model, points, labels = linear
    measured = measure_gradient_noise(model, zip(points.split(1), labels.split(1), strict=True))
    expected = gradients_by_hand(points, labels)
    np.testing.assert_allclose(measured.gradients, expected, atol=1e-6)
    assert measured.signal == pytest.approx(np.linalg.norm(expected.mean(0)), rel=1e-5)
    assert measured.noise == pytest.approx(math.sqrt(expected.var(0).sum()), rel=1e-5)
    assert measured.ratio == pytest.approx(measured.noise / measured.signal)


def test_mean_over_an_epochs_batches_is_the_full_gradient_and_larger_batches_stray_less(linear):
    model, points, labels = linear
    by_size = {
        size: measure_gradient_noise(model, zip(points.split(size), labels.split(size), strict=True)) for size in (1, 6)
    }
    F.cross_entropy(model(points), labels).backward()
    full = torch.cat([value.grad.flatten() for value in model.parameters()])
    for measured in by_size.values():
        torch.testing.assert_close(measured.mean, full, atol=1e-6, rtol=1e-5)
    assert by_size[6].noise < by_size[1].noise


def test_noise_of_random_batches_falls_as_drawing_without_replacement_says(linear):
    """Mean over many orders: noise² of batches of B from N is σ²/B · (N - B)/(N - 1)."""
    model, points, labels = linear
    single = measure_gradient_noise(model, zip(points.split(1), labels.split(1), strict=True)).noise
    squares = []
    for seed in range(200):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
        batches = zip(points[order].split(3), labels[order].split(3), strict=True)
        squares.append(measure_gradient_noise(model, batches).noise ** 2)
    assert np.mean(squares) == pytest.approx(single**2 / 3 * 9 / 11, rel=0.05)


def test_a_mean_of_exactly_zero_has_an_infinite_ratio():
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    points = torch.tensor([[1.0], [1.0]])
    measured = measure_gradient_noise(model, [(points[:1], torch.tensor([0])), (points[1:], torch.tensor([1]))])
    assert measured.signal == 0
    assert measured.ratio == math.inf


def test_a_layer_that_is_not_used_has_gradient_zero(linear):
    model, points, labels = linear

    class WithSpare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = model, nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    batches = list(zip(points.split(6), labels.split(6), strict=True))
    expected = measure_gradient_noise(model, batches).gradients
    measured = measure_gradient_noise(WithSpare(), batches).gradients
    assert torch.equal(measured, F.pad(expected, (0, 6)))


def test_batches_of_unequal_size_or_a_single_one_are_refused(linear):
    model, points, labels = linear
    for batches in ([(points, labels)], list(zip(points.split(5), labels.split(5), strict=True))):
        with pytest.raises(ValueError, match="two or more batches of one size"):
            measure_gradient_noise(model, batches)


def test_loss_along_a_direction_is_that_of_a_model_moved_there():
    torch.manual_seed(0)
    model = cifar_resnet(8).train()
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])
    direction = torch.randn(sum(value.numel() for value in model.parameters()))
    before = copy.deepcopy(model.state_dict())
    losses = loss_along(model, images, labels, direction, (0, 0.01, -0.02))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "left as it was"
    for length, loss in zip((0, 0.01, -0.02), losses, strict=True):
        moved = copy.deepcopy(model)
        vector_to_parameters(parameters_to_vector(moved.parameters()) - length * direction, moved.parameters())
        assert loss == pytest.approx(F.cross_entropy(moved(images), labels).item(), rel=1e-5)


def test_loss_falls_along_its_own_gradient_by_the_square_of_its_norm(linear):
    model, points, labels = linear
    measured = measure_gradient_noise(model, zip(points.split(6), labels.split(6), strict=True))
    at, further = loss_along(model, points, labels, measured.mean, (0, 1e-2))
    assert (at - further) / 1e-2 == pytest.approx(measured.signal**2, rel=0.02)


def test_a_direction_of_another_length_is_refused(linear):
    model, points, labels = linear
    with pytest.raises(ValueError, match="the model has 9 parameters"):
        loss_along(model, points, labels, torch.zeros(8), (0,))
