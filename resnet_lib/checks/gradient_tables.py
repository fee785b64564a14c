"""Tables of gradients by layer and epoch, sound and vanishing, for a reader's test to judge."""

import numpy as np
import pandas as pd

from resnet_lib.checks.judging import Subject

LAYERS = (
    "conv1",
    *(f"layer{stage}.{block}.conv{i}" for stage in (1, 2, 3) for block in (0, 1, 2) for i in (1, 2)),
    "fc",
)


def gradient_table(by_epoch: list[list[float]], first_weight: float = 5.0, last_weight: float = 5.0) -> pd.DataFrame:
    """A table like that of `resnet_lib.runs.load_layers`; a list of norms, one a layer, for each epoch.

    first_weight, last_weight: the weight norms of conv1 and fc; that of all other layers is 5.
    """
    weights = [first_weight] + [5.0] * (len(LAYERS) - 2) + [last_weight]
    tables = [
        pd.DataFrame({"epochs_trained": epoch, "layer": LAYERS, "gradient_norm": norms, "weight_norm": weights})
        for epoch, norms in enumerate(by_epoch)
    ]
    return pd.concat(tables, ignore_index=True)


def _norms(first: float, last: float) -> list[float]:
    """From the first layer to the last in equal factors, with some unevenness."""
    uneven = [1.0, 1.6, 0.7, 1.2, 0.8] * 4
    return [float(norm * factor) for norm, factor in zip(np.geomspace(first, last, len(LAYERS)), uneven, strict=True)]


TABLES = (
    Subject(
        lambda: gradient_table([_norms(0.5, 0.4), _norms(0.8, 0.3), _norms(0.6, 0.2)]),
        True,
        "gradients of one size in all layers",
        "Nothing vanishes here: conv1's gradient is as large as the others.",
    ),
    Subject(
        lambda: gradient_table([_norms(1e-8, 0.5), _norms(1e-7, 0.6), _norms(1e-7, 0.5)]),
        False,
        "a table in which conv1's gradient is a ten-millionth of fc's",
        "That is what vanishing looks like: each layer's gradient is smaller than the next one's, down to the image.",
    ),
    Subject(
        lambda: gradient_table([_norms(300, 0.5), _norms(40, 0.3), _norms(20, 0.3)]),
        True,
        "a table in which conv1's gradient is a thousand times fc's",
        "That is the opposite: it explodes. Ask for a ratio that is far too *small*.",
    ),
    Subject(
        lambda: gradient_table([_norms(0.5, 0.5), _norms(1e-4, 1e-4), _norms(1e-7, 1e-7)]),
        True,
        "gradients that shrink in all layers alike",
        "A network that fits its images has small gradients everywhere. Vanishing is about one layer *against* another "
        "of the same epoch.",
    ),
    Subject(
        lambda: gradient_table([_norms(0.4, 0.5), _norms(1e-3, 0.6), _norms(1e-9, 0.5)]),
        False,
        "a table that is healthy at the start and vanishes in the last epoch",
        "The question was of the whole training: look at every epoch. The start is not it, and a mean over epochs "
        "hides the worst of them.",
    ),
    Subject(
        lambda: gradient_table([_norms(1e-9, 0.5), _norms(1e-3, 0.6), _norms(0.4, 0.5)]),
        False,
        "a table that vanishes at the start and has recovered in the last epoch",
        "Look at every epoch, not at the last alone.",
    ),
    Subject(
        lambda: gradient_table([[0.0] * 10 + _norms(0.3, 0.5)[10:], _norms(0.3, 0.5)]),
        False,
        "a table with gradients of exactly 0",
        "0 is as vanished as can be. (Does your test divide by it, or take its logarithm?)",
    ),
    Subject(
        lambda: gradient_table([_norms(0.3, 0.5), _norms(0.003, 0.5), _norms(0.004, 0.3)]),
        True,
        "a table in which conv1's gradient is a hundredth of fc's",
        "That is smaller, but not below a thousandth, which is the limit that was asked for.",
    ),
    Subject(
        lambda: gradient_table([_norms(0.3, 0.5), _norms(5e-5, 0.5), _norms(0.2, 0.3)]),
        False,
        "a table in which conv1's gradient once is a ten-thousandth of fc's",
        "That is below a thousandth, in one epoch.",
    ),
    Subject(
        lambda: gradient_table([_norms(2e-4, 0.5), _norms(1e-4, 0.6), _norms(1e-4, 0.5)], first_weight=5e4),
        True,
        "a table in which conv1's gradient is tiny and its weights are huge",
        "The gradient is small in the measure in which the weights are large, as section 2 saw it after an explosion. "
        "Judge the gradient times the size of the weights.",
    ),
    Subject(
        lambda: gradient_table([_norms(0.4, 0.5), _norms(0.5, 0.6), _norms(0.4, 0.5)], first_weight=5e-5),
        False,
        "a table in which conv1's gradient is as large as fc's, for weights that are next to nothing",
        "In front of a batch norm such small weights make a gradient look large. Judge the gradient times the size of "
        "the weights.",
    ),
    Subject(
        lambda: gradient_table([[*_norms(0.4, 0.5)[:9], 5e3, *_norms(0.4, 0.5)[10:]]]),
        True,
        "a table in which a layer in the middle has by far the largest gradient",
        "Only conv1 and fc are compared.",
    ),
    Subject(
        lambda: gradient_table([_norms(1e-4, 0.5), _norms(2e-4, 0.6), _norms(1e-4, 0.5)], last_weight=0.005),
        True,
        "a table in which fc's gradient is large and its weights are next to nothing",
        "The measure is gradient times weight for *both* layers, fc's too.",
    ),
    Subject(
        lambda: gradient_table([_norms(0.4, 0.5), _norms(0.5, 0.6), _norms(0.4, 0.5)], last_weight=5e4),
        False,
        "a table in which fc's weights are huge",
        "The measure is gradient times weight for *both* layers, fc's too.",
    ),
    Subject(
        lambda: gradient_table([_norms(0.01, 0.5), _norms(0.02, 0.6), _norms(0.01, 0.5)], first_weight=0.5),
        True,
        "a table in which conv1's gradient times weight is a five-hundredth of fc's",
        "That is above a thousandth. (Gradient times weight, each once.)",
    ),
    Subject(
        lambda: gradient_table([_norms(0.4, 0.5), _norms(4e-4, 0.625), _norms(0.4, 0.5)]),
        False,
        "a table in which conv1's gradient once is between a two-thousandth and a thousandth of fc's",
        "That is below a thousandth, in one epoch.",
    ),
)
