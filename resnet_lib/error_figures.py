"""Figures of what a classifier gets wrong: they draw what `resnet_lib.errors` and `analysis.class_accuracies` give."""

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from resnet_lib.analysis import wilson_interval
from resnet_lib.data import Cifar10
from resnet_lib.plots import BLUE, GREEN, GREY, ORANGE, headline, image_row

COLORS, MARKERS = (BLUE, ORANGE, GREEN), "os"
FEWEST_IMAGES = 5  # of which an accuracy is drawn: that of a single image is 0 or 1


def confusions(matrix: pd.DataFrame, title: str) -> Figure:
    """A `confusion_matrix`: the number of images in each field, the shade for the mistakes alone.

    Right answers stand on the diagonal, unshaded: they are so many that a mistake beside them would look like none.
    """
    counts = matrix.to_numpy()
    mistakes = np.where(np.eye(len(counts), dtype=bool), np.nan, counts.astype(float))
    figure, axes = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
    image = axes.imshow(mistakes, cmap="Oranges", vmin=0)
    dark = np.nanmax(mistakes) / 2
    for (row, column), count in np.ndenumerate(counts):
        color, weight = ("white" if mistakes[row, column] > dark else "black"), ("bold" if row == column else "normal")
        if count:
            axes.text(column, row, count, ha="center", va="center", color=color, weight=weight, fontsize="small")
    places = range(len(counts))
    axes.set(title=title, xlabel="answer", ylabel="true class", xticks=places, yticks=places, yticklabels=matrix.index)
    axes.set_xticklabels(matrix.columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.grid(visible=False)
    figure.colorbar(image, label="wrong answers (images)", shrink=0.8)
    return figure


def class_accuracies(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Accuracy of each class with its interval, for one network or more; the lowest of the first at the bottom.

    tables: a name and what `resnet_lib.analysis.class_accuracies` returned.
    """
    order = next(iter(tables.values())).sort_values("accuracy").index
    figure, axes = plt.subplots(figsize=(7, 1.4 + 0.28 * len(order)), layout="constrained")
    shifts = np.linspace(-0.15, 0.15, len(tables)) if len(tables) > 1 else [0]
    for (name, table), color, marker, shift in zip(tables.items(), cycle(COLORS), cycle(MARKERS), shifts):
        table = 100 * table.loc[order, ["accuracy", "low", "high"]]
        reach = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
        places = np.arange(len(order)) + shift
        axes.errorbar(table["accuracy"], places, xerr=reach, fmt=marker, color=color, markersize=5, label=name)
    axes.set(title=title, xlabel="accuracy (%), with 95% interval", yticks=range(len(order)), yticklabels=order)
    if len(tables) > 1:
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def mistake_wall(data: Cifar10, mistakes: pd.DataFrame, title: str, columns: int = 5) -> Figure:
    """The images of `confident_mistakes`, above each its label, and below that the answer and how sure it was.

    data: the images that the mistakes' `index` counts.

    Raises ValueError if there are no mistakes.
    """
    if mistakes.empty:
        raise ValueError("There are no mistakes to draw: every answer was right.")
    lines = [
        f"{data.classes[row.label]}\n{data.classes[row.predicted]}? {100 * row.probability:.1f}%"
        for row in mistakes.itertuples()
    ]
    figure = image_row(data.images[mistakes["index"].tolist()], lines, columns)
    figure.set_size_inches(2 * columns, 2.3 * -(-len(lines) // columns) + 0.4)
    headline(figure, title)
    return figure


def reliability_diagram(tables: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Accuracy over confidence, a line a table of `reliability`, and below how many images have which confidence.

    On the dotted line confidence is accuracy; below it the network is too sure. Bars: 95%, by `wilson_interval`. A bin
    with fewer than 5 images has no point on the line, and stands below alone.
    """
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(6, 5.6), layout="constrained", sharex=True, height_ratios=[3, 1]
    )
    headline(figure, title)
    upper.plot([0, 100], [0, 100], color=GREY, linestyle=":", label="confidence is accuracy")
    for number, ((name, table), color, marker) in enumerate(zip(tables.items(), cycle(COLORS), cycle(MARKERS))):
        drawn = table[table["images"] >= FEWEST_IMAGES]
        right = (drawn["accuracy"] * drawn["images"]).round().astype(int)
        intervals = [wilson_interval(*counts) for counts in zip(right, drawn["images"], strict=True)]
        reach = [[100 * (i.estimate - i.low) for i in intervals], [100 * (i.high - i.estimate) for i in intervals]]
        style = {"color": color, "marker": marker, "markersize": 5, "elinewidth": 1, "linewidth": 1.5, "label": name}
        upper.errorbar(100 * drawn["confidence"], 100 * drawn["accuracy"], yerr=reach, **style)
        width = 100 * (table["high"] - table["low"]) / len(tables)
        lower.bar(100 * table["low"] + (number + 0.5) * width, table["images"], 0.9 * width, color=color)
    upper.set(ylabel="accuracy (%)", ylim=(-3, 103))
    lower.set(xlabel="confidence (%)", ylabel="images", xlim=(0, 102))
    upper.legend(loc="upper left", fontsize="small")
    return figure
