"""Gradients of a network, measured: by layer, by block, by path, by image.

Every function returns data and leaves the model as it was; `resnet_lib.plots` draws, `resnet_lib.variants` makes
networks to compare.
"""

import math

import pandas as pd
from torch import Tensor, nn

from resnet_lib.probes import loss_gradients, moments, norm, position, watch_blocks, watch_outputs, weight_layers


def gradient_flow(model: nn.Module, images: Tensor, labels: Tensor, lr: float = 0.1) -> pd.DataFrame:
    """How strongly the loss pulls at each weight layer: a row per convolution and linear layer, in forward order.

    images: (N, 3, H, W) float, normalised; labels: (N,) int64. The loss is the mean cross-entropy. The model is
    measured in the mode it is in: after `model.train()` batch norm uses the batch's statistics, as in training.
    Parameters, their `.grad` and `requires_grad`, buffers, hooks, mode and the random state stay as they were.

    Columns
    -------
    name, stage, block, kind: such as "layer1.0.conv1", "layer1", 0, "conv" ("conv" or "linear"; no block: <NA>).
    gradient_norm: Euclidean norm of the loss's gradient by the weight; 0 only if every element is exactly 0.
    weight_norm: Euclidean norm of the weight.
    update_to_weight: lr · gradient_norm / weight_norm, the share by which one step of plain SGD would move it.
    zero_share: share of the gradient's elements that are exactly 0.
    activation_mean, activation_variance: over all elements of the layer's output (before any batch norm).

    `attrs` of the frame holds "loss", "mode" ("train" or "eval") and "lr". A layer that runs several times has one row
    with the gradient of all its runs; one that does not run has none.

    Raises ValueError if there is no weight layer or images and labels do not fit, FloatingPointError if the loss is
    NaN or infinite.
    """
    layers = weight_layers(model)
    outputs = {}

    def see(name: str, output: Tensor) -> None:
        seen = moments(output)
        outputs[name] = outputs[name] + seen if name in outputs else seen

    with watch_outputs(layers, see):
        loss, gradients = loss_gradients(model, images, labels, {name: layer.weight for name, layer in layers.items()})
    if not math.isfinite(loss):
        raise FloatingPointError(f"The loss is {loss}, so no gradient means anything. Are images and weights finite?")
    rows = [_layer_row(name, layers[name], gradients[name]) for name in outputs]
    flow = pd.DataFrame(rows).astype({"block": "Int64"})
    flow.insert(6, "update_to_weight", lr * flow["gradient_norm"] / flow["weight_norm"])
    flow["activation_mean"] = [outputs[name].mean for name in outputs]
    flow["activation_variance"] = [outputs[name].variance for name in outputs]
    flow.attrs = {"loss": loss, "mode": "train" if model.training else "eval", "lr": lr}
    return flow


def _layer_row(name: str, layer: nn.Module, gradient: Tensor | None) -> dict[str, object]:
    stage, block = position(name)
    return {
        "name": name,
        "stage": stage,
        "block": block,
        "kind": "linear" if isinstance(layer, nn.Linear) else "conv",
        # The layer ran, but nothing of its output reaches the loss: the gradient is 0.
        "gradient_norm": 0.0 if gradient is None else norm(gradient),
        "weight_norm": norm(layer.weight),
        "zero_share": 1.0 if gradient is None else (gradient == 0).double().mean().item(),
    }


def signal_flow(model: nn.Module, images: Tensor, labels: Tensor) -> pd.DataFrame:
    """The signal between the blocks, on its way forward and back: a row for the stem and one for every block.

    Arguments, mode and errors are those of `gradient_flow`. Blocks are the entries of the model's stages (its
    outermost `nn.Sequential`s); "stem" is what enters the first of them.

    Columns: name ("stem", "layer1.0", …), stage, block (<NA> for the stem); mean and variance of the block's output
    over images, channels and pixels; gradient_norm, the Euclidean norm of the loss's gradient by that output.

    Raises ValueError if the model has no `nn.Sequential`.
    """
    with watch_blocks(model) as points:
        loss_gradients(model, images, labels, {name: layer.weight for name, layer in weight_layers(model).items()})
    rows = [
        (point.name, *position(point.name), point.moments.mean, point.moments.variance, point.gradient_norm)
        for point in points
    ]
    columns = ["name", "stage", "block", "mean", "variance", "gradient_norm"]
    return pd.DataFrame(rows, columns=columns).astype({"block": "Int64"})
