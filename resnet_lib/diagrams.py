"""Draw residual blocks and whole networks as `resnet_lib.tracing` reads them from the modules.

Convolutions and linear layers are grey, shortcuts coloured by their kind. Each drawing's words are its readings'
`in_words`.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Arc, FancyBboxPatch

from resnet_lib.plots import BLUE, GREEN, GREY, ORANGE
from resnet_lib.tracing import Block, Network, Shape, Step, shape_text

# Colour and line of a shortcut by its kind, and what the legend calls it.
STYLES = {"identity": (BLUE, "-"), "projection": (ORANGE, (0, (3, 1))), "fixed": (GREEN, (0, (1, 1)))}
LEGEND = {"identity": "identity", "projection": "projection", "fixed": "fixed (no weights)"}
# Of a block's drawing, in inches.
GAP = 0.28  # between two boxes, for an arrow
HEIGHT = 0.66  # of a box
RISE = 1.15  # of the shortcut above the branch
END = 0.8  # width of what stands at either end


def block_figure(blocks: Mapping[str, Block], title: str) -> Figure:
    """Each block in a row, under its name: the branch from left to right, the shortcut above it."""
    lengths = [_length(block) for block in blocks.values()]
    figure, rows = plt.subplots(
        len(blocks), 1, figsize=(max(lengths) + 0.3, 2.6 * len(blocks) + 0.4), squeeze=False, layout="constrained"
    )
    for axes, (name, block) in zip(rows[:, 0], blocks.items(), strict=True):
        axes.set(xlim=(0, max(lengths)), ylim=(-0.75, RISE + 0.5), aspect="equal")
        axes.axis("off")
        axes.set_title(name, fontsize="medium", fontweight="normal")
        _draw_block(axes, block)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def _draw_block(axes: Axes, block: Block) -> None:
    _draw_end(axes, 0, "x", block.input_shape)
    x = fork = END
    for step in block.branch:
        x = _draw_step(axes, x, 0, step)
    if block.shortcut is not None:
        x = _draw_arrow(axes, x, 0) + 0.14
        axes.text(
            x, 0, "+", ha="center", va="center", bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "ec": "black"}
        )
        _draw_shortcut(axes, fork, x, block)
        x += 0.14
    for step in block.after:
        x = _draw_step(axes, x, 0, step)
    _draw_end(axes, _draw_arrow(axes, x, 0), "y", block.output_shape)


def _draw_shortcut(axes: Axes, start: float, end: float, block: Block) -> None:
    """Up, along and down to the addition; what stands on it in the middle."""
    color, line = STYLES[block.shortcut_kind]
    style = {"color": color, "linestyle": line, "linewidth": 2.5, "zorder": 1}
    axes.plot([start, start, end, end], [0, RISE, RISE, 0.3], **style)
    axes.annotate("", (end, 0.18), (end, 0.4), arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2.5})
    x = (start + end - _length_of(block.shortcut)) / 2
    for step in block.shortcut:
        _draw_box(axes, x + GAP, RISE, step)
        x += GAP + _width(step)
    if not block.shortcut:
        axes.text((start + end) / 2, RISE + 0.08, "identity", ha="center", va="bottom", color=color)


def _draw_step(axes: Axes, x: float, y: float, step: Step) -> float:
    """An arrow from x, the operation's box, and under a weight layer its shape; return the box's right edge."""
    x = _draw_arrow(axes, x, y)
    _draw_box(axes, x, y, step)
    if step.weight_layer:
        axes.text(x + _width(step) / 2, y - 0.5, shape_text(step.shape), ha="center", va="center", fontsize="x-small")
    return x + _width(step)


def _draw_arrow(axes: Axes, x: float, y: float) -> float:
    arrow = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (x + GAP, y), (x, y), arrowprops=arrow)
    return x + GAP


def _draw_box(axes: Axes, x: float, y: float, step: Step) -> None:
    face = "#d9d9d9" if step.weight_layer else "white"
    box = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": face, "edgecolor": "black", "zorder": 2}
    axes.add_patch(FancyBboxPatch((x, y - HEIGHT / 2), _width(step), HEIGHT, **box))
    text = "\n".join(step.lines)
    axes.text(x + _width(step) / 2, y, text, ha="center", va="center", fontsize="small", linespacing=1.15, zorder=3)


def _draw_end(axes: Axes, x: float, name: str, shape: Shape) -> None:
    axes.text(x + END / 2, 0, name, ha="center", va="center", fontstyle="italic", fontsize="large")
    axes.text(x + END / 2, -0.5, shape_text(shape), ha="center", va="center", fontsize="x-small")


def _width(step: Step) -> float:
    """Wide enough for the longest line, and for the shape beneath."""
    return max(0.95 if step.weight_layer else 0.6, 0.095 * max(map(len, step.lines)))


def _length_of(steps: tuple[Step, ...]) -> float:
    return sum(GAP + _width(step) for step in steps)


def _length(block: Block) -> float:
    addition = 0 if block.shortcut is None else GAP + 0.28
    return 2 * END + _length_of(block.branch) + addition + _length_of(block.after) + GAP


def network_figure(networks: Mapping[str, Network], title: str) -> Figure:
    """Each network in a row: a bar for every weight layer, as high as its feature map; shortcuts are arcs above."""
    figure, rows = plt.subplots(
        len(networks), 1, figsize=(10, 2.8 * len(networks) + 0.4), sharex=True, squeeze=False, layout="constrained"
    )
    # The stages' labels need a width of their own, however narrow the bars become.
    gap = max(len(network.layers) for network in networks.values()) / 17
    for axes, (name, network) in zip(rows[:, 0], networks.items(), strict=True):
        axes.set(xticks=[], ylabel="feature map's side, pixels")
        axes.set_title(name, fontsize="medium", fontweight="normal")
        axes.grid(visible=False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        _draw_network(axes, network, gap)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    kinds = dict.fromkeys(shortcut.kind for network in networks.values() for shortcut in network.shortcuts)
    lines = [Line2D([], [], color=STYLES[kind][0], linestyle=STYLES[kind][1], linewidth=2) for kind in kinds]
    if kinds:
        rows[0, 0].legend(lines, [LEGEND[kind] for kind in kinds], title="shortcuts", loc="upper right")
    return figure


def _draw_network(axes: Axes, network: Network, gap: float) -> None:
    """Bars of width 0.75, one unit apart, and `gap` units more between the stages."""
    sides = [layer.shape[-1] if len(layer.shape) == 3 else 1 for layer in network.layers]
    top = max(sides)
    places = [
        i + gap * number for number, (_, first, last) in enumerate(network.stages) for i in range(first, last + 1)
    ]
    axes.bar(places, sides, width=0.75, color="#bdbdbd", edgecolor=GREY)
    for around in network.shortcuts:
        left, right, side = places[around.first], places[around.last], sides[around.last]
        color, line = STYLES[around.kind]
        size = {"width": right - left + 0.6, "height": 0.36 * top, "theta1": 0, "theta2": 180}
        axes.add_patch(Arc(((left + right) / 2, side), **size, color=color, linestyle=line, linewidth=2))
    for name, first, last in network.stages:
        count = f"\n{last - first + 1} layers" if last > first else ""
        text = f"{name}{count}\n{shape_text(network.layers[last].shape)}"
        axes.text((places[first] + places[last]) / 2, -0.06 * top, text, ha="center", va="top", fontsize="x-small")
    axes.set(ylim=(0, 1.3 * top), yticks=sorted({side for side in sides if 16 * side > top}))
