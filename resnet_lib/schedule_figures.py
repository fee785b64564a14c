"""Figures of learning-rate schedules: the rates, what drops bought, and why; they draw what `analysis` measures."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from resnet_lib.plots import BLUE, BROWN, GREEN, GREY, ORANGE, PINK, PURPLE, RED, headline, kind_color

# One colour more than dashes, so that a sixth line does not look like the first.
COLORS = (BLUE, ORANGE, GREEN, PURPLE, BROWN, PINK)
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # lines can be told apart without their colours


def schedule_curves(rates: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Learning rate of each epoch on a logarithmic axis, a line a schedule; a rate holds for its whole epoch."""
    figure, axes = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
    for (name, values), color, dashes in zip(rates.items(), cycle(COLORS), cycle(DASHES)):
        edges = np.arange(len(values) + 1)
        axes.stairs(values, edges, baseline=None, color=color, linestyle=dashes, linewidth=2, label=name)
    axes.set(title=title, xlabel="epoch, counted from 0", ylabel="learning rate", yscale="log")
    if len(rates) > 1:
        axes.legend(loc="lower left")
    return figure


def accuracy_with_windows(
    accuracy: ArrayLike,
    gains: pd.DataFrame,
    window: int,
    title: str,
    inset: tuple[float, float, float, float] | None = None,
) -> Figure:
    """Accuracy by epoch in percent, the windows that `analysis.drop_gains` compared, and the trend drawn on.

    accuracy: in percent; gains: what `drop_gains` made of it with this `window`. inset: draw this part again, larger,
    in the right half, below the upper quarter: first and last epoch, lowest and highest accuracy.
    """
    figure, axes = plt.subplots(figsize=(8, 3.8 if inset is None else 4.6), layout="constrained")
    _windows(axes, np.asarray(accuracy), gains, window)
    low = min(gains["before"].min(), gains["after"].min()) - (5 if inset is None else 3)  # the inset needs room
    axes.set(title=title, xlabel="epoch, counted from 0", ylabel="accuracy (%)", ylim=(low, None))
    axes.legend(loc="upper left")
    if inset is not None:
        first, last, lowest, highest = inset
        larger = axes.inset_axes((0.64, 0.41, 0.34, 0.28), xlim=(first, last), ylim=(lowest, highest))
        _windows(larger, np.asarray(accuracy), gains, window)
        larger.tick_params(labelsize="small")
        # Behind its tick labels too, or the lines of the large axes would run through them.
        behind = plt.Rectangle((0.59, 0.335), 0.41, 0.37, transform=axes.transAxes, facecolor="white", zorder=4)
        axes.add_patch(behind)
        axes.indicate_inset_zoom(larger)
    return figure


def _windows(axes: Axes, accuracy: np.ndarray, gains: pd.DataFrame, window: int) -> None:
    drops = gains["drop"].tolist()
    axes.plot(accuracy, color=GREY, linewidth=1.2, label="accuracy of each epoch")
    for number, (end, level) in enumerate(
        zip([*drops, len(accuracy)], [gains["before"][0], *gains["after"]], strict=True)
    ):
        label = f"mean of {window} epochs" if number == 0 else None
        axes.hlines(level, end - window - 0.5, end - 0.5, color=BLUE, linewidth=4, label=label)
    for number, row in gains.iterrows():
        label = {"line": "learning rate drops", "trend": "without the drop, by the trend"} if number == 0 else {}
        axes.axvline(row["drop"] - 0.5, color=RED, linestyle=":", label=label.get("line"))
        if np.isfinite(row["trend"]):
            end = [*drops, len(accuracy)][number + 1]
            middles = [row["drop"] - (window + 1) / 2, end - (window + 1) / 2]
            expected = [row["before"], row["before"] + row["trend"]]
            axes.plot(middles, expected, color=ORANGE, linestyle="--", linewidth=2, label=label.get("trend"))


def gains_with_intervals(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """The gain of each drop and what of it is beyond the trend, with intervals: a panel a drop, each with its own axis.

    tables: a name and what `analysis.drop_gains` returned, of runs with equally many drops. Where there is no interval,
    there is a point alone.
    """
    panels = max(len(table) for table in tables.values())
    figure, row = plt.subplots(
        1, panels, figsize=(9, 1.3 + 0.75 * len(tables)), layout="constrained", sharey=True, squeeze=False
    )
    headline(figure, title)
    for number, axes in enumerate(row[0]):
        for place, table in enumerate(tables.values()):
            drop = table.iloc[number]
            _interval(axes, place - 0.15, drop["gain"], drop["gain_low"], drop["gain_high"], BLUE, "o", "gain")
            beyond = drop["beyond"], drop["beyond_low"], drop["beyond_high"]
            _interval(axes, place + 0.15, *beyond, ORANGE, "s", "beyond the trend")
        axes.axvline(0, color=GREY, linestyle=":")
        epochs = dict.fromkeys(str(table["drop"].iloc[number]) for table in tables.values())
        axes.set_title(f"drop at epoch {' or '.join(epochs)}", fontsize="medium", fontweight="normal")
        axes.set_xlabel("points of accuracy")
        axes.margins(x=0.15)
        axes.locator_params(axis="x", nbins=5, min_n_ticks=4)
    row[0][0].set(yticks=range(len(tables)), yticklabels=tables, ylim=(len(tables) - 0.5, -0.5))
    handles, labels = row[0][0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique, loc="outside lower center", ncols=2)
    return figure


def _interval(
    axes: Axes, y: float, value: float, low: float, high: float, color: tuple, marker: str, label: str
) -> None:
    if not np.isfinite(value):
        return
    if np.isfinite(low):
        axes.plot([low, high], [y, y], color=color, linewidth=2)
    axes.plot(value, y, marker=marker, color=color, linestyle="none", label=label)


def loss_along_steps(
    lengths: Sequence[float], losses: Mapping[str, Sequence[float]], marks: Mapping[str, float], title: str
) -> Figure:
    """How the loss changes along directions: a line a direction over the length of the step, marks at some lengths.

    losses: change of the loss against the start, for each length.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for (name, changes), color, marker in zip(losses.items(), cycle((ORANGE, BLUE, GREEN, PURPLE)), cycle("os^")):
        axes.plot(lengths, changes, color=color, marker=marker, label=name)
    axes.axhline(0, color=GREY, linestyle=":")
    # The loss of a step far too long would press all else flat.
    lowest = min(min(changes) for changes in losses.values())
    axes.set_ylim(1.5 * lowest, -1.5 * lowest)
    for name, length in marks.items():
        axes.axvline(length, color=GREY, linewidth=1)
        axes.annotate(name, (length, 0.97), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right")
    axes.set(title=title, xscale="log", xlabel="length of the step, in gradients", ylabel="change of the loss")
    axes.legend(loc="lower left")
    return figure


def loss_by_step(branches: Mapping[str, tuple[Sequence[int], Sequence[float]]], ylabel: str, title: str) -> Figure:
    """Loss by step of training: a name, its steps and losses; a line each."""
    figure, axes = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    for (name, (steps, losses)), color, dashes in zip(branches.items(), cycle(COLORS), cycle(DASHES)):
        axes.plot(steps, losses, color=color, linestyle=dashes, linewidth=2, label=name)
    axes.set(title=title, xlabel="step", ylabel=ylabel)
    axes.legend()
    return figure


def range_test(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], title: str) -> Figure:
    """Loss of each batch while the rate rises, and its running mean; Smith 2017, arXiv:1506.01186, §3.3.

    smoothed: as long as rates, NaN where there is no mean.
    """
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    axes.plot(rates, losses, ".", color=GREY, label="single batches")
    axes.plot(rates, smoothed, color=BLUE, linewidth=2.5, label="running mean")
    axes.axhline(np.log(10), color=RED, linestyle=":", label="guessing, ln 10")
    axes.set(title=title, xscale="log", xlabel="learning rate", ylabel="training loss", ylim=(1.5, 3.5))
    axes.legend(loc="upper left")
    return figure


def bands_over_seeds(curves: Mapping[str, pd.DataFrame], ylabel: str, title: str) -> Figure:
    """Curves by epoch of several things compared: the mean over seeds, and the band from the lowest to the highest.

    curves: a name and a table with a row an epoch and a column a seed. Plain and residual networks have their colours.
    """
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for (name, table), color, dashes in zip(curves.items(), cycle(COLORS), cycle(DASHES)):
        color = kind_color(name) or color
        epochs, seeds = np.arange(1, len(table) + 1), table.shape[1]
        axes.fill_between(epochs, table.min(axis=1), table.max(axis=1), color=color, alpha=0.2, linewidth=0)
        axes.plot(
            epochs,
            table.mean(axis=1),
            color=color,
            linestyle=dashes,
            linewidth=2,
            label=f"{name} ({seeds} seed{'s' if seeds > 1 else ''})",
        )
    axes.set(title=title, xlabel="epochs trained", ylabel=ylabel)
    axes.legend(loc="lower right")
    return figure


def differences_with_intervals(
    differences: pd.DataFrame, unit: str, title: str, zoom: tuple[float, float] | None = None
) -> Figure:
    """What `analysis.paired_differences` found: a row a thing compared, its mean difference and interval.

    zoom: the two ends of a stretch that a second panel shows enlarged.
    """
    size = (7 if zoom is None else 10, 1.2 + 0.4 * len(differences))
    figure, panels = plt.subplots(
        1, 1 if zoom is None else 2, sharey=True, squeeze=False, figsize=size, layout="constrained"
    )
    for axes in panels[0]:
        for place, (_, row) in enumerate(differences.iterrows()):
            _interval(axes, place, row["difference"], row["low"], row["high"], BLUE, "o", "difference")
        axes.axvline(0, color=GREY, linestyle=":")
    axes = panels[0, 0]
    axes.set(yticks=range(len(differences)), yticklabels=differences.index, ylim=(len(differences) - 0.5, -0.5))
    if zoom is not None:
        panels[0, 1].set(xlim=zoom)
        panels[0, 1].set_title("enlarged", fontsize="medium", fontweight="normal")
    headline(figure, title)
    figure.supxlabel(unit, fontsize="medium")
    return figure
