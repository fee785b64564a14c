"""Draw what other modules measure: a function takes data and returns a matplotlib figure; `show` puts it on the page.

Colours are seaborn's colour-blind palette throughout: blue for training, orange for what was held out.
"""

import html
import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import seaborn as sns
from IPython.display import HTML, Image, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike
from torch import Tensor

from resnet_lib.data import Cifar10

# Out of sight, but not hidden from screen readers.
UNSEEN = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY = sns.color_palette("colorblind")[:8]
KIND_COLORS = {"plain": ORANGE, "residual": BLUE}

sns.set_theme(style="whitegrid", palette="colorblind", rc={"axes.titlelocation": "left", "axes.titleweight": "bold"})


def kind_color(name: str) -> tuple[float, float, float] | None:
    """The colour of the kind of network that a name begins with, such as "plain, 56 layers"; None for other names."""
    return next((color for kind, color in KIND_COLORS.items() if name.startswith(kind)), None)


def show(figure: Figure, alt: str) -> None:
    """Show a figure with `alt`, the words that stand for it where it cannot be seen, and free its memory.

    JupyterLab does not pass an image's alt text on to the page, so the words also come as a line of text of their own,
    which only screen readers (and pages that strip styles) show.
    """
    drawn, png = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=144, bbox_inches="tight")
    plt.close(figure)
    # Nothing shines through: without its alpha channel the same picture is a tenth smaller.
    PIL.Image.open(drawn).convert("RGB").save(png, format="png", optimize=True)
    display(HTML(f'<span style="{UNSEEN}">Figure: {html.escape(alt)}</span>'))
    display(Image(png.getvalue(), retina=True, alt=alt))


def image_wall(data: Cifar10, per_class: int = 10) -> Figure:
    """The first `per_class` images of each class: a row a class."""
    figure, axes = plt.subplots(
        len(data.classes), 1, figsize=(0.62 * per_class + 1.2, 0.62 * len(data.classes)), layout="constrained"
    )
    for label, (name, row) in enumerate(zip(data.classes, axes, strict=True)):
        images = data.images[data.labels == label][:per_class]
        row.imshow(images.permute(1, 0, 2, 3).flatten(1, 2), interpolation="nearest")
        row.set_ylabel(name, rotation=0, ha="right", va="center")
        row.set(xticks=[], yticks=[])
        row.grid(visible=False)
        sns.despine(ax=row, left=True, bottom=True)
    return figure


def image_row(images: Tensor, titles: Sequence[str], columns: int = 5) -> Figure:
    """Images (N, 32, 32, 3) uint8 with a line of text above each.

    Raises ValueError if there are no images, or not as many titles.
    """
    if len(images) == 0 or len(images) != len(titles):
        raise ValueError(f"{len(images)} images and {len(titles)} titles: expected one or more, and one for each.")
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.7 * columns, 2 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(title, fontsize="small", fontweight="normal", loc="center")
    return figure


def evaluated_column(history: pd.DataFrame) -> str | None:
    """The column of a history with the accuracy on the images that `fit` evaluated on; None if there were none."""
    of_training = ("train_accuracy", "train_eval_accuracy")
    return next((name for name in history if name.endswith("_accuracy") and name not in of_training), None)


def accuracy_curve(
    history: pd.DataFrame, title: str, milestones: Sequence[int] = (), axes: Axes | None = None
) -> Figure:
    """Accuracy by epoch in a history of `resnet_lib.training.fit`, with a dotted line before each milestone's epoch.

    Where nothing was evaluated, that of training alone.
    """
    if axes is None:
        _, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    evaluated = evaluated_column(history)
    marker = "." if len(history) <= 30 else None
    epochs = history["epoch"] + 1
    axes.plot(epochs, history["train_accuracy"], color=BLUE, marker=marker, label="training (augmented batches)")
    if evaluated is not None:
        axes.plot(epochs, history[evaluated], color=ORANGE, marker=marker, label=evaluated.removesuffix("_accuracy"))
    for number, epoch in enumerate(milestones):
        axes.axvline(epoch + 0.5, color=GREY, linestyle=":", label="learning rate drops" if number == 0 else None)
    axes.set(title=title, xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="lower right")
    return axes.figure


def log_line(axes: Axes, x: ArrayLike, values: ArrayLike, marker: str, **style: Any) -> None:
    """A line on a logarithmic axis. Exact zeros have no logarithm: they are hollow marks on the bottom edge."""
    x, values = np.asarray(x), np.asarray(values)
    axes.set_yscale("log")
    # Where all is zero the label still needs a line to stand for it.
    (line,) = axes.plot(x, np.where(values > 0, values, np.nan), marker=marker, **style)
    zeros = x[values == 0]
    bottom = {"transform": axes.get_xaxis_transform(), "clip_on": False, "in_layout": False, "linestyle": "none"}
    axes.plot(zeros, np.zeros(len(zeros)), marker, color=line.get_color(), markerfacecolor="none", **bottom)


def gradient_norms(
    flows: Mapping[str, pd.DataFrame],
    title: str,
    column: str = "gradient_norm",
    colors: Sequence[Any] = (ORANGE, BLUE, GREEN, PINK, PURPLE),
    markers: str = "os^D",
) -> Figure:
    """A column of `resnet_lib.gradients.gradient_flow` by layer, a line for each network; zeros as in `log_line`.

    colors, markers: by the order of the networks; from the start again where there are more of these.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for (name, flow), color, marker in zip(flows.items(), cycle(colors), cycle(markers)):
        values = flow[column].to_numpy()
        label = name if values.any() else f"{name} (exactly 0 throughout)"
        log_line(axes, np.arange(1, len(values) + 1), values, marker, color=color, markersize=3.5, label=label)
    axes.set(title=title, xlabel="layer, from the image to the loss", ylabel=column.replace("_", " "))
    layers = max(map(len, flows.values()))
    axes.set_xticks([1, *range(10, layers + 1, 10)])  # there is no layer 0
    axes.legend()
    return figure


def headline(figure: Figure, text: str) -> None:
    """The message of a figure with several panels, above them all."""
    figure.suptitle(text, x=0.01, ha="left", fontweight="bold")


def block_lines(axes: Axes, curves: Mapping[str, ArrayLike], first: int = 0) -> None:
    """A line for each name, over the blocks `first`, `first` + 1, …; colour and marker by the order of the names.

    The name "plain" has the colour of plain networks, which no other name here gets.
    """
    colors, markers = (BLUE, RED, GREEN, PURPLE, BROWN), "os^D"
    for (name, values), color, marker in zip(curves.items(), cycle(colors), cycle(markers)):
        color = kind_color(name) or color
        blocks = first + np.arange(len(values))
        axes.plot(blocks, values, marker=marker, markersize=4, color=color, label=name)
    axes.set_xlabel("block")
