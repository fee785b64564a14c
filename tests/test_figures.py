"""Figures draw all that they are given, or say why they cannot."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

from resnet_lib import error_figures, fast_figures, plots, scaling_figures, schedule_figures
from resnet_lib.data import load_cifar10
from resnet_lib.errors import confident_mistakes
from resnet_lib.runs import Run

SEVEN = [f"number {number}" for number in range(7)]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def look(line):
    return to_hex(line.get_color()), line.get_marker(), line.get_linestyle()


def of_seven(make):
    """What is asked for, seven times, by name."""
    return {name: make(number) for number, name in enumerate(SEVEN)}


def flow(number):
    return pd.DataFrame({"gradient_norm": [1.0, 2.0 + number]})


def block_lines():
    figure, axes = plt.subplots()
    plots.block_lines(axes, of_seven(lambda number: [1.0, 2.0 + number]))
    return figure


def workers(number):
    return pd.DataFrame({"workers": [1, 2], "speedup": [1.0, 1.5 + number], "efficiency": [1.0, 0.75]})


def seeds(number):
    return pd.DataFrame({0: [50.0, 60.0], 1: [52.0, 66.0 + number]})


def classes(number):
    index = ["cat", "dog"]
    return pd.DataFrame({"accuracy": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7 + number / 100]}, index)


OF_SEVEN = {
    "gradient_norms": lambda: plots.gradient_norms(of_seven(flow), "Seven"),
    "block_lines": block_lines,
    "loss_along_steps": lambda: schedule_figures.loss_along_steps(
        (1, 2), of_seven(lambda number: [-1, number]), {}, "Seven"
    ),
    "loss_by_step": lambda: schedule_figures.loss_by_step(
        of_seven(lambda number: ([0, 1], [1, number])), "loss", "Seven"
    ),
    "bands_over_seeds": lambda: schedule_figures.bands_over_seeds(of_seven(seeds), "accuracy (%)", "Seven"),
    "many_workers": lambda: scaling_figures.many_workers(of_seven(workers), "Seven"),
    "singular_values": lambda: fast_figures.singular_values(
        of_seven(lambda number: torch.tensor([1.0, 2.0 + number])), "Seven"
    ),
}


@pytest.mark.parametrize("draw", OF_SEVEN.values(), ids=OF_SEVEN)
def test_seven_lines_are_drawn_and_can_be_told_apart(draw):
    figure = draw()
    drawn = [line for line in figure.axes[0].lines if line.get_label().startswith("number")]
    assert [line.get_label().removesuffix(" (2 seeds)") for line in drawn] == SEVEN
    assert len(set(map(look, drawn))) == 7


def test_seven_schedules_are_drawn_and_can_be_told_apart():
    (axes,) = schedule_figures.schedule_curves(of_seven(lambda number: [0.1, 0.01]), "Seven").axes
    assert [patch.get_label() for patch in axes.patches] == SEVEN
    looks = {(to_hex(patch.get_edgecolor()), str(patch.get_linestyle())) for patch in axes.patches}
    assert len(looks) == 7


def test_seven_histograms_are_drawn():
    (axes,) = fast_figures.small_for_float16(of_seven(lambda number: np.array([1e-6, 1e-3])), "Seven").axes
    assert set(SEVEN) <= {text.get_text() for text in axes.get_legend().get_texts()}


def test_classes_of_three_networks_are_drawn():
    three = {name: classes(number) for number, name in enumerate(SEVEN[:3])}
    figure = error_figures.class_accuracies(three, "Three")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == SEVEN[:3]


def test_networks_that_outnumber_the_colours_given_are_drawn():
    (axes,) = plots.gradient_norms(of_seven(flow), "Seven", colors=["red"], markers="o").axes
    assert len([line for line in axes.lines if line.get_label() in SEVEN]) == 7


@pytest.mark.parametrize("titles", [["a"], ["a", "b", "c"], []])
def test_each_image_wants_its_title(titles):
    with pytest.raises(ValueError, match=f"2 images and {len(titles)} titles"):
        plots.image_row(torch.zeros(2, 32, 32, 3, dtype=torch.uint8), titles)


def test_a_row_without_images_is_refused():
    with pytest.raises(ValueError, match="0 images"):
        plots.image_row(torch.zeros(0, 32, 32, 3, dtype=torch.uint8), [])


# Accuracy by cost


def fast_run(accuracies, two_views, low_epochs, seed=0, model="fast_resnet"):
    recipe = {"epochs": len(accuracies), "low_epochs": low_epochs, "seed": seed, "peak_lr": 0.1}
    table = pd.DataFrame({"train_accuracy": 0.99, "test_accuracy": accuracies})
    return Run("fast", table, {"model": model, "recipe": recipe}, 1, [], flop=10**15, mirrored_accuracy=two_views)


def by_cost(*runs, other=(0.5, 0.8)):
    series = ("another", np.array([1e15, 2e15]), np.array(other))
    return fast_figures.accuracy_by_cost(runs, 0.5, series, "Cost").axes


def test_an_epoch_of_small_images_costs_its_share():
    # Small images cost half: epochs of 1, 1, 2 and 2 sixths.
    left, _ = by_cost(fast_run([0.3, 0.4, 0.8, 0.9], 0.91, 2))
    line = left.lines[2]
    assert line.get_ydata().tolist() == pytest.approx([30, 40, 80, 90])
    assert line.get_xdata().tolist() == pytest.approx([1 / 6, 2 / 6, 4 / 6, 1])


def test_each_run_ends_in_a_row_of_its_own_with_one_view_and_two():
    runs = [fast_run([0.5, 0.8], 0.85, 1, seed) for seed in (0, 1)] + [fast_run([0.5, 0.6, 0.9], 0.95, 0)]
    runs += [fast_run([0.5, 0.9], 0.95, 1, model="wide")]
    left, right = by_cost(*runs, other=(0.5, 0.7))
    assert [text.get_text() for text in right.get_yticklabels()] == [
        "2 epochs, rate 0.1, seed 0",
        "2 epochs, rate 0.1, seed 1",
        "3 epochs, rate 0.1, seed 0",
        "2 epochs, rate 0.1, seed 0",
    ]
    ends = [(line.get_xdata()[0], line.get_ydata()[0]) for line in right.lines[1:]]
    np.testing.assert_allclose(ends, [(80, 0), (85, 0), (80, 1), (85, 1), (90, 2), (95, 2), (90, 3), (95, 3)])
    assert right.lines[0].get_xdata() == pytest.approx([70, 70])
    low, high = right.get_xlim()
    assert low < 70
    assert high > 95
    colors = [line.get_color() for line in left.lines[2:]]
    assert colors[0] == colors[1]
    assert len(set(colors)) == 3  # one for each network and length
    shown = left.get_legend_handles_labels()[1]
    assert shown[:2] == ["another", "… and its end, 70.0%"]
    assert shown[2:] == [
        f"{kind}, rate 0.1" for kind in ("fast_resnet, 2 epochs", "fast_resnet, 3 epochs", "wide, 2 epochs")
    ]


def test_no_runs_cannot_be_drawn():
    with pytest.raises(ValueError, match="No runs"):
        by_cost()


# Calibration


def reliability_table(images, accuracy):
    edges = np.linspace(0, 1, len(images) + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    columns = {"low": edges[:-1], "high": edges[1:], "images": images, "confidence": middle, "accuracy": accuracy}
    return pd.DataFrame(columns)


def test_three_calibrations_are_drawn_side_by_side():
    tables = {name: reliability_table([20, 30], [0.2, 0.8]) for name in SEVEN[:3]}
    upper, lower = error_figures.reliability_diagram(tables, "Three").axes
    lines = [container for container in upper.containers if isinstance(container, ErrorbarContainer)]
    assert [line.get_label() for line in lines] == SEVEN[:3]
    bars = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bars in lower.containers for bar in bars)
    assert len(bars) == 6
    assert all(end <= start for (_, end), (start, _) in pairwise(bars)), "none hides another"


def test_an_accuracy_of_fewer_than_five_images_is_none():
    table = reliability_table([1, 4, 5, 0, 30], [1.0, 0.5, 0.6, np.nan, 0.8])
    upper, lower = error_figures.reliability_diagram({"one": table, "few": table[:2]}, "Few").axes
    line, nothing = (container[0] for container in upper.containers)
    np.testing.assert_allclose(line.get_xydata(), [[50, 60], [90, 80]])
    assert len(nothing.get_xydata()) == 0
    assert [bar.get_height() for bar in lower.containers[0]] == [1, 4, 5, 0, 30], "the images are shown all the same"


# Mistakes


def test_mistakes_are_drawn_with_label_and_answer():
    test = load_cifar10("test", "bundled")[:3]
    wrong = pd.DataFrame({"index": [2, 0], "label": [8, 3], "predicted": [0, 5], "probability": [0.9, 0.8]})
    figure = error_figures.mistake_wall(test, wrong, "Mistakes")
    assert [axes.get_title() for axes in figure.axes[:2]] == ["ship\nairplane? 90.0%", "cat\ndog? 80.0%"]
    assert np.array_equal(figure.axes[0].images[0].get_array(), test.images[2])


def test_where_there_are_no_mistakes_that_is_said():
    test = load_cifar10("test", "bundled")[:3]
    right = F.one_hot(test.labels, 10).double()
    with pytest.raises(ValueError, match="no mistakes to draw"):
        error_figures.mistake_wall(test, confident_mistakes(right, test.labels), "Mistakes")


# Accuracy by epoch


def history(*columns):
    return pd.DataFrame({"epoch": [0, 1]} | {name: [0.1 * n, 0.1 * n + 0.3] for n, name in enumerate(columns, 1)})


@pytest.mark.parametrize(
    ("columns", "evaluated"),
    [
        (("train_accuracy", "test_accuracy"), "test"),
        (("train_accuracy", "validation_accuracy"), "validation"),
        (("train_accuracy", "train_eval_accuracy", "test_accuracy"), "test"),
        (("train_accuracy", "evaluated_accuracy"), "evaluated"),
    ],
)
def test_what_was_evaluated_is_drawn_beside_training(columns, evaluated):
    table = history(*columns)
    (axes,) = plots.accuracy_curve(table, "Accuracy").axes
    training, other = axes.lines
    assert training.get_ydata().tolist() == table["train_accuracy"].tolist()
    assert other.get_ydata().tolist() == table[f"{evaluated}_accuracy"].tolist()
    assert other.get_label() == evaluated


@pytest.mark.parametrize("columns", [("train_accuracy",), ("train_accuracy", "train_eval_accuracy")])
def test_where_nothing_was_evaluated_training_is_drawn_alone(columns):
    (axes,) = plots.accuracy_curve(history(*columns), "Accuracy").axes
    assert [line.get_label() for line in axes.lines] == ["training (augmented batches)"]
