"""Figures of trained networks: degradation by depth, gradients along the way, surgery, the loss around the weights.

They draw what `runs`, `surgery` and `loss_surface` give; each takes its message as `title`.
"""

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resnet_lib.loss_surface import surface_grid
from resnet_lib.plots import BLUE, GREEN, GREY, KIND_COLORS, ORANGE, PURPLE, RED, headline, kind_color

LEVELS = 13  # contours, equally far apart on the logarithm of the loss
KINDS = {"none": "plain", "A": "residual", "B": "residual", "C": "residual"}
MARKERS = "os^Dv"


# --- Degradation: tables of `resnet_lib.runs.load_runs`


def degradation(runs: pd.DataFrame, title: str) -> Figure:
    """Error by epoch, plain and residual side by side, a colour a depth: He et al. 2015, figure 6.

    runs: of `load_runs`, with `train_eval_accuracy`. Dashed: training images; solid: test images. Lines are means over
    seeds; a thin line is a seed.
    """
    runs = _with_depth(runs)
    depths = sorted(runs["depth"].unique())
    figure, row = plt.subplots(1, 2, figsize=(8.6, 3.7), layout="constrained", sharex=True, sharey=True)
    headline(figure, title)
    for axes, kind in zip(row, KIND_COLORS, strict=True):
        for depth, color in zip(depths, _shades(len(depths)), strict=True):
            table = runs[(runs["kind"] == kind) & (runs["depth"] == depth)]
            for column, dashes in (("train_eval_accuracy", "--"), ("test_accuracy", "-")):
                error = 100 * (1 - table.pivot(index="epoch", columns="seed", values=column))
                axes.plot(error.index + 1, error, color=color, linestyle=dashes, linewidth=0.6, alpha=0.7)
                axes.plot(error.index + 1, error.mean(axis=1), color=color, linestyle=dashes, linewidth=2)
        axes.set(xlabel="epoch")
        axes.set_title(kind, fontsize="medium", fontweight="normal")
    row[0].set_ylabel("error (%)")
    handles = [
        Line2D([], [], color=color, label=f"{depth} layers")
        for depth, color in zip(depths, _shades(len(depths)), strict=True)
    ]
    handles += [
        Line2D([], [], color=GREY, linestyle=dashes, label=name)
        for name, dashes in (("training images", "--"), ("test images", "-"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def last_error_by_depth(runs: pd.DataFrame, title: str) -> Figure:
    """Error after the last epoch by depth, on training and on test images: a small mark a seed, lines the means."""
    runs = _with_depth(runs)
    last = runs[runs["epoch"] == runs.groupby("run")["epoch"].transform("max")]
    depths = sorted(last["depth"].unique())
    figure, row = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    headline(figure, title)
    panels = {"training images": "train_eval_accuracy", "test images": "test_accuracy"}
    for axes, (name, column) in zip(row, panels.items(), strict=True):
        for (kind, color), marker in zip(KIND_COLORS.items(), MARKERS, strict=False):
            table = last[last["kind"] == kind]
            places = [depths.index(depth) for depth in table["depth"]]
            axes.plot(places, 100 * (1 - table[column]), marker, color=color, markersize=5)
            means = 100 * (1 - table.groupby("depth")[column].mean())
            axes.plot([depths.index(depth) for depth in means.index], means, color=color, marker=marker, label=kind)
        axes.set(xlabel="layers", xticks=range(len(depths)), xticklabels=depths)
        axes.set_title(name, fontsize="medium", fontweight="normal")
    row[0].set_ylabel("error (%)")
    row[0].legend()
    return figure


def _with_depth(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.assign(depth=runs["model"].str.removeprefix("resnet").astype(int), kind=runs["shortcut"].map(KINDS))


def _shades(count: int) -> list[tuple[float, float, float]]:
    """From light to dark, for what has an order; all dark enough on white."""
    return sns.color_palette("viridis_r", count + 1)[1:]


# --- Gradients: tables of `resnet_lib.runs.load_layers`


def gradients_through_training(tables: Mapping[str, pd.DataFrame], title: str, column: str = "gradient_norm") -> Figure:
    """A map for each network: layers upwards, epochs to the right, the colour a power of ten; one scale for all.

    tables: a name and what `load_layers` returned. Exact zeros are white.
    """
    grids = {
        name: table.pivot(index="layer", columns="epochs_trained", values=column).loc[table["layer"].unique()]
        for name, table in tables.items()
    }
    values = np.concatenate([grid.to_numpy().ravel() for grid in grids.values()])
    scale = LogNorm(values[values > 0].min(), values.max())
    figure, row = plt.subplots(1, len(grids), figsize=(4.5 * len(grids), 4), layout="constrained", squeeze=False)
    headline(figure, title)
    for axes, (name, grid) in zip(row[0], grids.items(), strict=True):
        edges = np.arange(len(grid) + 1) + 0.5
        columns = np.append(grid.columns, grid.columns[-1] + 1) - 0.5
        mesh = axes.pcolormesh(columns, edges, np.where(grid > 0, grid, np.nan), norm=scale, cmap="viridis")
        axes.set(xlabel="epochs trained", ylabel="layer, from the image to the loss")
        axes.set_title(name, fontsize="medium", fontweight="normal")
        axes.grid(visible=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
    bar = figure.colorbar(mesh, ax=row[0], label=column.replace("_", " "))
    _plain_numbers(bar.ax.yaxis)
    return figure


def curves(series: Mapping[str, pd.Series], xlabel: str, ylabel: str, title: str, scales: str = "linear log") -> Figure:
    """A line for each series over its index, in the colour of its kind; a second one of a kind is dashed.

    series: names such as "plain, 44 layers". scales: of x and of y.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    seen = set()
    for (name, values), marker in zip(series.items(), cycle(MARKERS)):
        color = kind_color(name) or GREY
        dashes = "--" if color in seen else "-"
        seen.add(color)
        marker = marker if len(values) < 20 else None
        axes.plot(values.index, values, color=color, linestyle=dashes, marker=marker, linewidth=2, label=name)
    xscale, yscale = scales.split()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    for axis, scale in ((axes.xaxis, xscale), (axes.yaxis, yscale)):
        if scale == "log":
            _plain_numbers(axis)
    axes.legend()
    return figure


def _plain_numbers(axis: Axis) -> None:
    """0.3 and 40 on a logarithmic axis, not 3 × 10⁻¹ and 4 × 10¹; 2, 3 and 5 of each power only if there are few."""
    low, high = axis.get_view_interval()
    between = "235" if high / low < 50 else ""
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in between else "")


# --- Surgery: tables of `resnet_lib.surgery`


def dropped_blocks(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Error without each block, a panel a network: bars over the blocks, a line at the whole network's error.

    tables: of `drop_each_block`. Hatched: blocks that change the shape. Diamonds, where there are such: the error once
    batch norm's statistics are measured anew.
    """
    figure, panels = plt.subplots(
        len(tables), 1, figsize=(8, 1 + 2.2 * len(tables)), layout="constrained", sharex=False, squeeze=False
    )
    headline(figure, title)
    for axes, (name, table) in zip(panels[:, 0], tables.items(), strict=True):
        color = kind_color(name) or BLUE
        places = np.arange(len(table))
        hatches = ["///" if changes else "" for changes in table["changes_shape"]]
        axes.bar(places, 100 * table["error_after"], color=color, hatch=hatches, edgecolor="white", linewidth=0)
        if "error_recalibrated" in table:
            anew = 100 * table["error_recalibrated"]
            axes.plot(places, anew, "D", color="white", markersize=5, markeredgecolor="black")
        axes.axhline(100 * table["error_before"].iloc[0], color=GREY, linestyle="--")
        axes.axhline(90, color=RED, linestyle=":")
        axes.set(ylabel="error (%)", ylim=(0, 100), xticks=places)
        axes.set_xticklabels(table["block"].str.removeprefix("layer"), rotation=90 if len(table) > 12 else 0)
        axes.set_title(name, fontsize="medium", fontweight="normal")
        axes.grid(visible=False, axis="x")
    panels[-1, 0].set_xlabel("dropped block (stage.block)")
    figure.legend(handles=_surgery_legend(tables), loc="outside lower center", ncols=4)
    return figure


def _surgery_legend(tables: Mapping[str, pd.DataFrame]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=GREY, linestyle="--", label="whole network"),
        Line2D([], [], color=RED, linestyle=":", label="guessing"),
        plt.Rectangle((0, 0), 1, 1, facecolor=GREY, hatch="///", edgecolor="white", label="changes the shape"),
    ]
    if any("error_recalibrated" in table for table in tables.values()):
        label = "statistics measured anew"
        style = {"color": "white", "markeredgecolor": "black", "linestyle": "none"}
        handles.append(Line2D([], [], marker="D", label=label, **style))
    return handles


def errors_along(tables: Mapping[str, pd.DataFrame], column: str, xlabel: str, title: str) -> Figure:
    """Error over what was done to the network, a line a table; dashed, once batch norm's statistics are measured anew.

    tables: a name and a table with `column`, error_after and perhaps error_recalibrated, such as of `scale_all_blocks`
    (column "factor").
    """
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    colors = [kind_color(name) for name in tables]
    if None in colors or len(set(colors)) < len(colors):
        colors = [GREEN, PURPLE, BLUE, ORANGE]  # two parts of one network: not the colours of plain and residual
    for (name, table), color, marker in zip(tables.items(), cycle(colors), cycle(MARKERS)):
        style = {"color": color, "marker": marker, "markersize": 6}
        axes.plot(table[column], 100 * table["error_after"], label=name, **style)
        if "error_recalibrated" in table:
            anew = 100 * table["error_recalibrated"]
            axes.plot(table[column], anew, "--", markerfacecolor="white", label=f"{name}, statistics anew", **style)
    axes.axhline(90, color=RED, linestyle=":", label="guessing")
    axes.set(title=title, xlabel=xlabel, ylabel="error (%)", ylim=(0, 100))
    figure.legend(loc="outside right upper")
    return figure


# --- The loss around trained weights: tables of `resnet_lib.loss_surface`


def surface_contours(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """The loss from above, a panel a network, two in a row.

    A colour and a line mean the same loss in all panels, on a logarithmic scale.
    """
    grids = {name: surface_grid(table) for name, table in tables.items()}
    levels = _levels(grids)
    rows = -(-len(grids) // 2)
    figure, panels = plt.subplots(
        rows, 2, figsize=(6.8, 2.8 * rows + 0.4), layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    headline(figure, title)
    for axes, (name, (steps, losses)) in zip(panels.flat, grids.items(), strict=False):
        filled = axes.contourf(steps, steps, losses, levels, norm=LogNorm(levels[0], levels[-1]), cmap="viridis_r")
        axes.contour(steps, steps, losses, levels, colors="white", linewidths=0.5)
        axes.plot(0, 0, "*", color=RED, markersize=11, markeredgecolor="white")
        axes.set(aspect="equal")
        axes.set_title(name, fontsize="medium", fontweight="normal")
        axes.grid(visible=False)
    figure.supxlabel("first direction", fontsize="medium")
    figure.supylabel("second direction", fontsize="medium")
    figure.colorbar(filled, ax=panels, label="loss", ticks=levels[::3], format="%.2g", shrink=0.85)
    return figure


def surface_mountains(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """The logarithm of the loss as height, a panel a network; heights and colours mean the same in all."""
    grids = {name: surface_grid(table) for name, table in tables.items()}
    levels = np.log10(_levels(grids))
    figure = plt.figure(figsize=(4.6 * len(grids), 4.2), layout="constrained")
    headline(figure, title)
    for number, (name, (steps, losses)) in enumerate(grids.items(), 1):
        axes = figure.add_subplot(1, len(grids), number, projection="3d")
        first, second = np.meshgrid(steps, steps)
        height = np.log10(losses)
        axes.plot_surface(
            first,
            second,
            height,
            cmap="viridis_r",
            vmin=levels[0],
            vmax=levels[-1],
            linewidth=0.2,
            rcount=60,
            ccount=60,
        )
        axes.set(xlabel="first direction", ylabel="second direction", zlabel="loss", zlim=(levels[0], levels[-1]))
        axes.xaxis.labelpad = axes.yaxis.labelpad = axes.zaxis.labelpad = 8
        ticks = np.linspace(levels[0], levels[-1], 5)
        axes.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        axes.set_zticks(ticks, [f"{10**tick:.2g}" for tick in ticks])
        axes.set_title(name, fontsize="medium", fontweight="normal", loc="center")
        axes.set_box_aspect(None, zoom=0.85)
    return figure


def _levels(grids: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    losses = np.concatenate([grid.ravel() for _, grid in grids.values()])
    losses = losses[np.isfinite(losses)]
    return np.geomspace(losses.min() * 0.999, losses.max() * 1.001, LEVELS)
