"""Each figure draws the numbers it was given, where they are."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from resnet_lib import schedule_figures
from resnet_lib.analysis import drop_gains, paired_differences


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def accuracy():
    noise = np.random.default_rng(0).normal(size=70)
    return np.repeat([80, 88, 89], [30, 20, 20]) + noise


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_a_rate_is_drawn_flat_for_its_epoch():
    figure = schedule_figures.schedule_curves({"one": [0.1, 0.1, 0.01], "two": [0.2, 0.1, 0.05]}, "Rates")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    drawn = [patch.get_data() for patch in axes.patches]
    assert [data.values.tolist() for data in drawn] == [[0.1, 0.1, 0.01], [0.2, 0.1, 0.05]]
    assert drawn[0].edges.tolist() == [0, 1, 2, 3]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]


def test_windows_stand_at_their_means_and_the_trend_goes_on_from_them(accuracy):
    gains = drop_gains(accuracy, (30, 50))
    (axes,) = schedule_figures.accuracy_with_windows(accuracy, gains, 15, "Drops").axes
    np.testing.assert_array_equal(lines(axes)["accuracy of each epoch"].get_ydata(), accuracy)
    levels = [segments.get_segments()[0] for segments in axes.collections]
    expected = [(30, accuracy[15:30]), (50, accuracy[35:50]), (70, accuracy[55:70])]
    for level, (end, window) in zip(levels, expected, strict=True):
        assert level.tolist() == [[end - 15.5, pytest.approx(window.mean())], [end - 0.5, pytest.approx(window.mean())]]
    trend = lines(axes)["without the drop, by the trend"]
    assert trend.get_xdata().tolist() == [22, 42], "from the middle of one window to that of the next"
    assert np.diff(trend.get_ydata())[0] == pytest.approx(gains["trend"][0])


def test_an_inset_draws_a_part_of_the_same_again(accuracy):
    gains = drop_gains(accuracy, (30, 50))
    (axes,) = schedule_figures.accuracy_with_windows(accuracy, gains, 15, "Drops", inset=(40, 70, 86, 91)).axes
    (inset,) = axes.child_axes
    assert (*inset.get_xlim(), *inset.get_ylim()) == (40, 70, 86, 91)
    assert [line.get_xydata().tolist() for line in inset.lines] == [line.get_xydata().tolist() for line in axes.lines]
    assert len(inset.collections) == 3, "the windows too"


def test_a_run_without_intervals_still_has_its_points(accuracy):
    tables = {"long": drop_gains(accuracy, (30, 50)), "short": drop_gains(accuracy[25:35], (5, 7), window=2)}
    figure = schedule_figures.gains_with_intervals(tables, "Gains")
    for number, axes in enumerate(figure.axes):
        points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        assert points == pytest.approx([table["gain"][number] for table in tables.values()])
        assert sum(line.get_marker() == "s" for line in axes.lines) == 1, "the short run has no trend"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gain", "beyond the trend"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["drop at epoch 30 or 5", "drop at epoch 50 or 7"]
    (axes,) = schedule_figures.gains_with_intervals({"a": tables["long"][:1], "b": tables["long"][:1]}, "Gains").axes
    assert axes.get_title(loc="left") == "drop at epoch 30"


def test_loss_along_steps_leaves_room_for_the_way_down():
    lengths, losses = (0.1, 1, 10), {"batch": [-0.1, 0.2, 50.0], "all": [-0.1, -0.4, 0.1]}
    (axes,) = schedule_figures.loss_along_steps(lengths, losses, {"rate": 1}, "Steps").axes
    assert lines(axes)["batch"].get_ydata().tolist() == losses["batch"]
    low, high = axes.get_ylim()
    assert low < -0.4
    assert 0 < high < 1, "a loss of 50 does not press the rest flat"


def test_branches_and_range_test_draw_what_they_get():
    (axes,) = schedule_figures.loss_by_step({"a": ([0, 10], [2.0, 1.0]), "b": ([10], [1.5])}, "loss", "Branches").axes
    assert lines(axes)["a"].get_xydata().tolist() == [[0, 2], [10, 1]]
    assert axes.get_ylabel() == "loss"
    (axes,) = schedule_figures.range_test([0.1, 1], [2.0, 3.0], [np.nan, 2.5], "Range").axes
    assert lines(axes)["single batches"].get_ydata().tolist() == [2, 3]
    assert axes.get_xscale() == "log"


def test_bands_go_from_the_lowest_seed_to_the_highest():
    table = pd.DataFrame({0: [50.0, 60.0], 1: [52.0, 66.0], 2: [54.0, 63.0]})
    (axes,) = schedule_figures.bands_over_seeds({"cosine": table}, "accuracy (%)", "Schedules").axes
    assert lines(axes)["cosine (3 seeds)"].get_xydata().tolist() == [[1, 52], [2, 63]]
    corners = axes.collections[0].get_paths()[0].vertices
    assert {(1.0, 50.0), (1.0, 54.0), (2.0, 60.0), (2.0, 66.0)} <= set(map(tuple, corners.tolist()))
    (axes,) = schedule_figures.bands_over_seeds({"cosine": table[[0]]}, "accuracy (%)", "Schedules").axes
    assert lines(axes)["cosine (1 seed)"].get_xydata().tolist() == [[1, 50], [2, 60]]


def test_differences_stand_at_their_means_with_their_intervals():
    table = pd.DataFrame({"constant": [90.0, 91.0], "cosine": [91.0, 92.5]})
    paired = paired_differences(table, "constant")
    (axes,) = schedule_figures.differences_with_intervals(paired, "points", "Against constant").axes
    interval, point = axes.lines[:2]
    assert interval.get_xdata() == pytest.approx(paired.loc["cosine", ["low", "high"]].tolist())
    assert point.get_xdata()[0] == pytest.approx(1.25)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cosine"]
