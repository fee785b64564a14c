"""Pictures of the cost model: what was measured with what it predicts, and what it says of many workers."""

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from resnet_lib.cost_model import Measurements, all_reduce_seconds
from resnet_lib.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, headline


def measured_and_predicted(found: Measurements, title: str) -> Figure:
    """Left: the time of an all-reduce by its bytes, and the line through it; right: steps, measured and predicted.

    Dots are medians of the rounds, lines through them reach from the fastest to the slowest.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=[1, 1.1], layout="constrained")
    headline(figure, title)
    table = found.all_reduce
    low, high = table["seconds"] - table["low"], table["high"] - table["seconds"]
    left.errorbar(table["bytes"], table["seconds"], [low, high], fmt="o", color=BLUE, markersize=4, label="measured")
    sizes = np.geomspace(table["bytes"].min(), table["bytes"].max(), 100)
    line = all_reduce_seconds(sizes, 2, found.hardware.latency, found.hardware.bandwidth)
    left.plot(sizes, line, color=ORANGE, label="2 · latency + bytes / bandwidth")
    left.axvline(found.work.gradient_bytes, color=GREY, linestyle=":", label=f"gradients of {found.work.name}")
    left.set(xscale="log", yscale="log", xlabel="bytes of the message", ylabel="seconds")
    left.set_title("all-reduce between two processes", fontsize="medium", fontweight="normal")
    left.legend(fontsize="small")

    steps = found.steps.iloc[::-1]
    rows = np.arange(len(steps))
    spread = [steps["seconds"] - steps["low"], steps["high"] - steps["seconds"]]
    right.errorbar(steps["seconds"], rows, xerr=spread, fmt="o", color=BLUE, label="measured")
    fitted = steps["setting"].str.startswith("1 process")  # the model's parameters come from such steps
    for chosen, marker, label in ((fitted, "s", "fitted"), (~fitted, "D", "predicted")):
        row = steps["predicted"].where(chosen)
        right.plot(row, rows, marker, color=ORANGE, markerfacecolor="none", linestyle="none", label=label)
    right.set_yticks(rows, steps["setting"])
    right.set(xlabel="seconds a step", xlim=(0, None), ylim=(-0.6, len(steps) - 0.4))
    right.grid(visible=False, axis="y")
    batch = steps["batch_size"].iloc[0]
    right.set_title(f"{found.work.name}, {batch} images a step", fontsize="medium", fontweight="normal")
    right.legend(fontsize="small", loc="best")
    return figure


def many_workers(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Speed-up and efficiency by workers, a line for each table of `resnet_lib.cost_model.scaling`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    headline(figure, title)
    colors, markers = (BLUE, ORANGE, GREEN, RED, PURPLE), "os^DvP"
    for (name, table), color, marker in zip(tables.items(), cycle(colors), cycle(markers)):
        style = {"color": color, "marker": marker, "markersize": 4, "label": name}
        left.plot(table["workers"], table["speedup"], **style)
        right.plot(table["workers"], table["efficiency"], **style)
    workers = np.array(sorted(set().union(*(table["workers"] for table in tables.values()))))
    left.plot(workers, workers, color=GREY, linestyle=":", label="as many times as fast")
    left.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up over one worker")
    right.set(xscale="log", ylim=(0, 1.05), xlabel="workers", ylabel="efficiency")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(workers, [f"{count:,}" for count in workers])
        axes.minorticks_off()
        axes.tick_params(axis="x", labelsize="small")
    left.legend(fontsize="small")
    return figure


def parts_of_a_step(table: pd.DataFrame, title: str) -> Figure:
    """What a step's time goes to, by workers: shares of compute and of waiting, as `step_seconds` has them."""
    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    parts = {"arithmetic": BLUE, "overhead": GREY, "exposed": ORANGE, "exchanges": RED}
    names = {
        "overhead": "overhead of a step",
        "exposed": "all-reduce that nothing hides",
        "exchanges": "small exchanges (loss, batch norm)",
    }
    table = table.assign(arithmetic=table["compute"] - table["overhead"])
    places, bottom = np.arange(len(table)), np.zeros(len(table))
    for part, color in parts.items():
        heights = (table[part] / table["step"]).to_numpy()
        if heights.max() < 0.005:
            continue  # too thin to be seen
        axes.bar(places, heights, bottom=bottom, color=color, label=names.get(part, part), width=0.7)
        bottom += heights
    axes.set_xticks(places, [f"{count:,}" for count in table["workers"]], fontsize="small")
    axes.set(title=title, xlabel="workers", ylabel="share of a step", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=False, axis="x")
    figure.legend(fontsize="small", loc="outside lower center", ncols=len(parts))
    return figure
