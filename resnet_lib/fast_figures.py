"""Pictures of notebook 08: what a training costs, where its speed comes from, and what fast runs reach."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from resnet_lib.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, evaluated_column, headline
from resnet_lib.runs import Run

Series = tuple[str, np.ndarray, np.ndarray]
# One marker more than colours, so that a sixth line does not look like the first.
COLORS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE, RED), "os^DvP"


def cost_in_steps(costs: Mapping[str, float], title: str) -> Figure:
    """A dot for each step on the way, from what is dear to what is cheap; costs: name → floating-point operations."""
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.45 * len(costs)), layout="constrained")
    pflop = np.array(list(costs.values())) / 1e15
    places = np.arange(len(costs))
    axes.plot(pflop, places, "o-", color=BLUE, markersize=9)
    for place, cost in enumerate(pflop):
        factor = "" if place == 0 else f"  (÷ {pflop[place - 1] / cost:.1f})"
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(cost * 1.15, place, f"{cost:.3g}{factor}", va="center", fontsize="small", bbox=behind)
    axes.set(title=title, xscale="log", xlabel="PFLOP (10¹⁵ operations)", xlim=(pflop.min() / 1.5, pflop.max() * 2.5))
    axes.set(yticks=places, yticklabels=list(costs), ylim=(len(costs) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    return figure


def filters_row(filters: Tensor, title: str) -> Figure:
    """Filters (C, 3, k, k) as little pictures: grey where they weigh nothing, each stretched to its largest weight."""
    columns = -(-len(filters) // 2)
    figure, panels = plt.subplots(2, columns, figsize=(1.1 * columns, 2.8), layout="constrained")
    headline(figure, title)
    for panel, weights in zip(panels.flat, filters, strict=False):
        picture = 0.5 + 0.5 * weights / weights.abs().max()
        panel.imshow(picture.permute(1, 2, 0).numpy())
        panel.set(xticks=[], yticks=[])  # a frame stays: a filter may be as white as the page
        panel.grid(visible=False)
    return figure


def second_moments(tables: Mapping[str, Tensor], title: str) -> Figure:
    """Matrices of second moments (d, d) side by side, in one scale of colours up to the largest entry of all."""
    figure, panels = plt.subplots(1, len(tables), figsize=(3.6 * len(tables), 3.5), layout="constrained", squeeze=False)
    headline(figure, title)
    largest = max(matrix.abs().max().item() for matrix in tables.values())
    for panel, (name, matrix) in zip(panels[0], tables.items(), strict=True):
        drawn = panel.imshow(matrix.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
        panel.set(xticks=[], yticks=[], xlabel=name, ylabel=name)
        panel.grid(visible=False)
    figure.colorbar(drawn, ax=panels, shrink=0.75)
    return figure


def singular_values(values: Mapping[str, Tensor], title: str) -> Figure:
    """Singular values in falling order, each line divided by its largest."""
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for (name, line), color, marker in zip(values.items(), cycle(COLORS), cycle(MARKERS)):
        line = line.sort(descending=True).values
        axes.plot(np.arange(1, len(line) + 1), line / line[0], color=color, marker=marker, markersize=3, label=name)
    axes.set(title=title, xlabel="direction, strongest first", ylabel="singular value\n(largest = 1)", yscale="log")
    axes.legend()
    return figure


def accuracy_by_cost(runs: Sequence[Run], small_cost: float, other: Series, title: str) -> Figure:
    """Left: accuracy after each epoch against what the run had cost by then; right: where each run ends.

    Runs of one network, number of epochs and peak rate have one colour. Accuracy is that on the images the runs were
    measured on, of one view; on the right a star is the mean of two. The cost of an epoch is its share of the run's
    `flop`. small_cost: what a small image costs, of a large one. other: the name of another run, its operations so far,
    and its accuracy (0 to 1) there.
    """
    if not runs:
        raise ValueError("No runs: there is nothing to draw.")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", width_ratios=(3, 2))
    headline(figure, title)
    name, flop, accuracy = other
    left.plot(flop / 1e15, 100 * accuracy, color=GREY, label=name)
    end = {"color": GREY, "linestyle": "--", "linewidth": 1.5}
    left.axhline(100 * accuracy[-1], **end, label=f"… and its end, {accuracy[-1]:.1%}")
    right.axvline(100 * accuracy[-1], **end)
    recipes = [run.settings["recipe"] for run in runs]
    kinds = [f"{recipe['epochs']} epochs, rate {recipe['peak_lr']:g}" for recipe in recipes]
    labels = [f"{run.settings['model']}, {kind}" for run, kind in zip(runs, kinds, strict=True)]
    styles = dict(zip(dict.fromkeys(labels), zip(cycle(COLORS), cycle(MARKERS), strict=False), strict=False))
    for place, (run, label) in enumerate(zip(runs, labels, strict=True)):
        recipe, column = run.settings["recipe"], evaluated_column(run.history)
        color, marker = styles[label]
        share = np.ones(len(run.history))
        share[: recipe["low_epochs"]] = small_cost
        pflop = run.flop / 1e15 * np.cumsum(share) / share.sum()
        first = label not in left.get_legend_handles_labels()[1]
        left.plot(pflop, 100 * run.history[column], color=color, linewidth=1, label=label if first else None)
        right.plot(100 * run.history[column].iloc[-1], place, marker, color=color, markersize=7)
        right.plot(100 * run.mirrored_accuracy, place, "*", color=color, markersize=12)
    left.set(xscale="log", xlabel="PFLOP spent", ylabel=f"{column.removesuffix('_accuracy')} accuracy (%)")
    names = [f"{kind}, seed {recipe['seed']}" for kind, recipe in zip(kinds, recipes, strict=True)]
    right.set(yticks=range(len(runs)), yticklabels=names, ylim=(len(runs) - 0.5, -0.5))
    right.set(xlabel="the last epoch's (%); star: with two views")
    right.xaxis.set_major_locator(MaxNLocator(4))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def speeds(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Images a second of several ways to train: a panel a network; columns way, median, slowest, fastest."""
    figure, panels = plt.subplots(1, len(tables), figsize=(11, 2.6), layout="constrained", squeeze=False)
    headline(figure, title)
    for panel, (name, table) in zip(panels[0], tables.items(), strict=True):
        places = np.arange(len(table))
        spread = [table["median"] - table["slowest"], table["fastest"] - table["median"]]
        panel.barh(places, table["median"], xerr=spread, color=[GREY, GREY, BLUE][: len(table)], height=0.6)
        panel.set_yticks(places, table["way"])
        panel.invert_yaxis()
        panel.set(xlabel="images a second", title=name)
        panel.title.set_fontsize("medium")
        panel.grid(visible=False, axis="y")
    return figure


def small_for_float16(magnitudes: Mapping[str, np.ndarray], title: str) -> Figure:
    """How large gradients are, a histogram on a log axis each, and where float16 is coarse or has nothing but 0."""
    figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
    everything = np.concatenate([values[values > 0] for values in magnitudes.values()])
    bins = np.geomspace(max(everything.min(), 1e-11), everything.max(), 80)
    for (name, values), color in zip(magnitudes.items(), cycle(COLORS)):
        shares = np.full(len(values), 100 / len(values))  # layers are of different size
        axes.hist(values, bins, weights=shares, histtype="step", linewidth=2, color=color, label=name)
    # The smallest normal number, and half of the smallest of all, below which numbers are rounded to 0.
    normal, zero = 2.0**-14, 2.0**-25
    axes.axvspan(zero, normal, color=ORANGE, alpha=0.12, label="float16 is coarse")
    axes.axvspan(bins[0], zero, color=RED, alpha=0.2, label="float16 rounds to 0")
    axes.set(title=title, xscale="log", xlim=(bins[0], bins[-1]))
    axes.set(xlabel="magnitude of a gradient", ylabel="share of the layer's (%)")
    axes.legend(loc="upper left")
    return figure
