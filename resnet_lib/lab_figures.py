"""The gradient-flow lab's picture without a browser."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resnet_lib.plots import BLUE, GREY, RED, headline

# What the lab uses: vermilion squares without shortcuts, blue circles with them.
STYLES = {"plain": {"color": RED, "marker": "s"}, "residual": {"color": BLUE, "marker": "o"}}
# The lab's axes, the same for every setting; what lies outside is drawn as an arrow at the edge.
NORM_LIMITS = (1e-20, 1e10)
VARIANCE_LIMITS = (1e-18, 1e18)
ZERO_ROW = -0.09  # height of the row for exact zeros, in parts of the axis


def gradient_flow_figure(
    gradients: Mapping[str, pd.DataFrame], variances: Mapping[str, pd.DataFrame], title: str
) -> Figure:
    """Gradient norm of every weight layer, and beneath it the variance of the signal after each block.

    gradients, variances: "plain", "residual" or both, each what `GradientGrid.setting` and `GradientGrid.variance`
        return for networks of one depth. Dots are medians over the seeds, thin lines their range; hollow marks in the
        row under an axis are exact zeros.

    Raises ValueError if there is nothing to draw, or the networks differ in depth.
    """
    depths = {len(table) for table in gradients.values()} | {2 * len(table) for table in variances.values()}
    if len(depths) != 1:
        raise ValueError(f"The tables are of networks with {sorted(depths)} layers: expected one depth.")
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, height_ratios=[2, 1], layout="constrained")
    headline(figure, title)
    _panel(upper, NORM_LIMITS, "gradient norm of each weight layer", every=5)
    _panel(lower, VARIANCE_LIMITS, "signal variance after each block", every=12)
    for role, table in gradients.items():
        _draw(upper, np.arange(1, len(table) + 1) + _shift(role, gradients), table, NORM_LIMITS, role)
    for role, table in variances.items():
        # The stem's signal stands after layer 1, that of block k after its second layer, 2k + 1.
        _draw(lower, 2 * np.arange(len(table)) + 1.5 + _shift(role, variances), table, VARIANCE_LIMITS, role)
    depth = depths.pop()
    upper.set(xlim=(0, depth + 1), xticks=[1, *range(10, depth + 1, 10)])
    lower.set_xlabel("layer, from the image to the loss")
    if any((table["median"] == 0).any() for table in variances.values()):
        lower.tick_params(axis="x", pad=20)  # the row of zeros stands where the numbers would
    _legend(figure, gradients, variances)
    return figure


def _shift(role: str, tables: Mapping[str, pd.DataFrame]) -> float:
    """How far to the side a network's marks stand, so that two networks do not hide each other."""
    return 0 if len(tables) == 1 else {"plain": -0.18, "residual": 0.18}[role]


def _legend(figure: Figure, gradients: Mapping[str, pd.DataFrame], variances: Mapping[str, pd.DataFrame]) -> None:
    """Under the figure, a mark of each kind that is drawn, and what it means."""
    roles = dict.fromkeys([*gradients, *variances])
    marks = [Line2D([], [], linestyle="none", **STYLES[role], label=f"{role}, median") for role in roles]
    marks.append(Line2D([], [], color=GREY, linewidth=1, label="range of the seeds"))
    panels = [(table["median"], NORM_LIMITS) for table in gradients.values()]
    panels += [(table["median"], VARIANCE_LIMITS) for table in variances.values()]
    if any(((median > 0) & (median < low) | (median > high)).any() for median, (low, high) in panels):
        marks.append(Line2D([], [], color=GREY, linestyle="none", marker="v", label="beyond the axis"))
    if any((median == 0).any() for median, _ in panels):
        hollow = {"marker": "o", "markerfacecolor": "none"}
        marks.append(Line2D([], [], color=GREY, linestyle="none", **hollow, label="exactly 0"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize="small")


def _panel(axes: Axes, limits: tuple[float, float], title: str, every: int) -> None:
    """A logarithmic axis with a line every so many decades."""
    low, high = np.log10(limits).round().astype(int)
    axes.set_yscale("log")
    axes.set_ylim(limits)
    axes.set_yticks([10.0**exponent for exponent in range(low - low % -every, high + 1, every)])
    axes.minorticks_off()
    axes.grid(visible=False, axis="x")
    axes.set_title(title, fontsize="medium", fontweight="normal")


def _draw(axes: Axes, x: np.ndarray, table: pd.DataFrame, limits: tuple[float, float], role: str) -> None:
    """One network: median and range in their place, what lies outside at the edge, exact zeros in their row."""
    low, high = limits
    median = table["median"].to_numpy()
    zero, below, above = median == 0, (median > 0) & (median < low), median > high
    inside = ~(zero | below | above)
    style = STYLES[role] | {"markersize": float(np.clip(200 / len(table), 2, 6)), "linestyle": "none"}
    ends = table[["minimum", "maximum"]].clip(*limits).to_numpy().T
    axes.vlines(x[~zero], *ends[:, ~zero], color=style["color"], linewidth=1)
    axes.plot(x[inside], median[inside], **style, label=role)
    # Heights from here on are parts of the axis.
    style |= {"transform": axes.get_xaxis_transform(), "clip_on": False, "in_layout": False}
    axes.plot(x[below], np.full(below.sum(), 0.02), **style | {"marker": "v"})
    axes.plot(x[above], np.full(above.sum(), 0.98), **style | {"marker": "^"})
    axes.plot(x[zero], np.full(zero.sum(), ZERO_ROW), **style, markerfacecolor="none")
    if zero.any():
        axes.text(-0.012, ZERO_ROW, "exactly 0", transform=axes.transAxes, ha="right", va="center", fontsize="small")
