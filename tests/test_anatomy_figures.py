"""Figures of trained networks show the numbers they are given, and what is plain looks plain in all of them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from resnet_lib import anatomy_figures
from resnet_lib.plots import BLUE, ORANGE


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_curves_are_coloured_by_kind_and_a_second_of_a_kind_is_dashed():
    series = {
        "plain, 44 layers": pd.Series([3.0, 2.0, 1.0], index=[1, 10, 100]),
        "plain, 8 layers": pd.Series([1.0, 1.0, 2.0], index=[1, 10, 100]),
        "residual, 44 layers": pd.Series([5.0, 4.0, 3.0], index=[1, 10, 100]),
    }
    (axes,) = anatomy_figures.curves(series, "step", "loss", "Title", "log linear").axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("step", "loss", "Title")
    for line, (name, values) in zip(axes.lines, series.items(), strict=True):
        assert line.get_label() == name
        assert line.get_xdata().tolist() == values.index.tolist()
        assert line.get_ydata().tolist() == values.tolist()
    assert [line.get_color() for line in axes.lines] == [ORANGE, ORANGE, BLUE]
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", "-"]


def test_maps_of_gradients_have_the_image_at_the_bottom_and_whole_numbers_for_layers():
    table = pd.DataFrame(
        [
            (epoch, layer, 10.0 ** (epoch + place))
            for epoch in (0, 1)
            for place, layer in enumerate(("conv1", "b", "fc"))
        ],
        columns=["epochs_trained", "layer", "gradient_norm"],
    )
    axes = anatomy_figures.gradients_through_training({"plain": table, "residual": table}, "Title").axes[0]
    (mesh,) = axes.collections
    assert mesh.get_array().reshape(3, 2).tolist() == [[1, 10], [10, 100], [100, 1000]]
    ticks = axes.get_yticks()
    assert np.array_equal(ticks, ticks.round())


def test_errors_after_the_last_epoch_are_means_over_seeds():
    columns = ["run", "model", "shortcut", "seed", "epoch", "train_eval_accuracy", "test_accuracy"]
    rows = [
        ("a", "resnet8", "none", 0, 0, 0.1, 0.1),
        ("a", "resnet8", "none", 0, 1, 0.7, 0.6),
        ("b", "resnet8", "none", 1, 1, 0.8, 0.5),
        ("c", "resnet8", "A", 0, 1, 0.9, 0.8),
    ]
    panels = anatomy_figures.last_error_by_depth(pd.DataFrame(rows, columns=columns), "Title").axes
    for axes, plain, residual in zip(panels, (25.0, 45.0), (10.0, 20.0), strict=True):
        means = {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}
        assert means["plain"] == pytest.approx([plain])
        assert means["residual"] == pytest.approx([residual])
