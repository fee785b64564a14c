"""Gradients of a network, measured: by layer, by block, by path, and from one image to another.

Every function returns data and leaves the model as it was; `resnet_lib.plots` draws, `resnet_lib.variants` makes
networks to compare.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import jacrev

from resnet_lib.probes import (
    forward,
    forward_loss,
    moments,
    norm,
    position,
    watch_blocks,
    watch_outputs,
    weight_layers,
)
from resnet_lib.variants import last_norm, residual_blocks


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
    with the gradient of all its runs; one that does not run (or whose weight is used without it) has none.

    Raises ValueError if there is no weight layer or images and labels do not fit, FloatingPointError if the loss is
    NaN or infinite.
    """
    layers = weight_layers(model)
    outputs = {}

    def see(name: str, output: Tensor) -> None:
        seen = moments(output)
        outputs[name] = outputs[name] + seen if name in outputs else seen

    with watch_outputs(layers, see):
        loss, leaves = forward_loss(model, images, labels)
    if not loss.isfinite():
        raise FloatingPointError(f"The loss is {loss:g}, so no gradient means anything. Are images and weights finite?")
    ran = {name: layers[name] for name in outputs}
    gradients = torch.autograd.grad(loss, [leaves[layer.weight] for layer in ran.values()], allow_unused=True)
    rows = [_layer_row(*item, gradient) for item, gradient in zip(ran.items(), gradients, strict=True)]
    flow = pd.DataFrame(rows).astype({"block": "Int64"})
    flow.insert(6, "update_to_weight", lr * flow["gradient_norm"] / flow["weight_norm"])
    flow["activation_mean"] = [outputs[name].mean for name in outputs]
    flow["activation_variance"] = [outputs[name].variance for name in outputs]
    flow.attrs = {"loss": loss.item(), "mode": "train" if model.training else "eval", "lr": lr}
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
        loss, leaves = forward_loss(model, images, labels)
        torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    rows = [
        (point.name, *position(point.name), point.moments.mean, point.moments.variance, point.gradient_norm)
        for point in points
    ]
    columns = ["name", "stage", "block", "mean", "variance", "gradient_norm"]
    return pd.DataFrame(rows, columns=columns).astype({"block": "Int64"})


def block_jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The Jacobian of a block, or of a part of it, at one input: (outputs, inputs), both flattened.

    function: a block, a method of one such as `block.residual_branch`, or any function (1, C, H, W) → (1, C', H', W').
        Batch norm in train mode takes its statistics from this one input; its running ones stay as they were.
    x: (C, H, W). A row costs a backward pass and the matrix (C·H·W)² numbers: take few channels and a small image.

    Raises ValueError if x is not one input, or if a function that is not a block's own runs batch norm in train mode.
    """
    if x.ndim != 3:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected one input, (C, H, W).")
    try:
        with _running_statistics_kept(function):
            jacobian = jacrev(lambda one: function(one[None]).flatten())(x)
    except RuntimeError as error:
        if "mutate a captured Tensor" not in str(error):
            raise
        raise ValueError(
            "function updates batch norm's running statistics: call .eval() on the block first."
        ) from error
    return jacobian.flatten(1)


@contextmanager
def _running_statistics_kept(function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let batch norm in train mode work without its running statistics: `torch.func` cannot update them."""
    owner = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    modules = owner.modules() if isinstance(owner, nn.Module) else ()
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d) and module.training]
    kept = [dict(module._buffers) for module in norms]
    for module in norms:
        module._buffers.update(dict.fromkeys(module._buffers))
    try:
        yield
    finally:
        for module, buffers in zip(norms, kept, strict=True):
            module._buffers.update(buffers)


class _Gate(torch.autograd.Function):
    """The identity; on the way back, nothing passes unless `is_open()` at that time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, is_open: Callable[[], bool]) -> Tensor:
        ctx.is_open = is_open
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:
        # None, unlike zeros, spares autograd the whole way behind the gate.
        return (gradient if ctx.is_open() else None), None


@contextmanager
def _gates(blocks: Sequence[nn.Module], path: set[int]) -> Iterator[None]:
    """In what is computed now, gradients will pass block i by its residual branch if i is in `path`, else around it."""

    def gate(is_open: Callable[[], bool]) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        return lambda _module, _inputs, output: _Gate.apply(output, is_open)

    handles = []
    for i, block in enumerate(blocks):
        handles.append(last_norm(block).register_forward_hook(gate(lambda i=i: i in path)))
        handles.append(block.downsample.register_forward_hook(gate(lambda i=i: i not in path)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def path_length_gradients(
    model: nn.Module, images: Tensor, labels: Tensor, samples: int = 20, seed: int = 0
) -> pd.DataFrame:
    """How much gradient travels on paths of each length: a row per length k = 0, …, n for n residual blocks.

    In the unravelled view (Veit et al. 2016, arXiv:1605.06431, §5) a path goes through k of the blocks by their
    residual branch and around the others by their shortcut. One forward pass of all; then for each length `samples`
    backward passes of single paths drawn from `seed`, or one of every path if there are no more than that.

    Arguments and mode are those of `gradient_flow`; the model is one of `resnet_lib.models` with shortcuts.

    Columns: length; paths, how many there are (n over k); sampled; gradient_norm, the root mean square over the sampled
    paths of the norm of the gradient that arrives at the first block's input; total = paths · gradient_norm², and its
    share. Squares, since the gradients of two paths are nearly at right angles: then their squares add up.

    Raises ValueError if the model has no shortcuts or samples is below 1.
    """
    if samples < 1:
        raise ValueError(f"samples={samples}: expected at least 1.")
    blocks = residual_blocks(model)
    path: set[int] = set()  # the blocks that the present path passes by their residual branch
    starts: list[Tensor] = []
    handle = blocks[0].register_forward_pre_hook(lambda _module, inputs: starts.append(inputs[0]))
    try:
        with _gates(blocks, path):
            loss, _ = forward_loss(model, images, labels)
    finally:
        handle.remove()
    random, rows = np.random.default_rng(seed), []
    for length in range(len(blocks) + 1):
        norms = []
        for chosen in _paths(len(blocks), length, samples, random):
            path.clear()
            path.update(chosen)
            norms.append(norm(torch.autograd.grad(loss, starts[0], retain_graph=True)[0]))
        rows.append((length, math.comb(len(blocks), length), len(norms), float(np.sqrt(np.mean(np.square(norms))))))
    table = pd.DataFrame(rows, columns=["length", "paths", "sampled", "gradient_norm"])
    table["total"] = table["paths"] * table["gradient_norm"] ** 2
    return table.assign(share=table["total"] / table["total"].sum())


def _paths(blocks: int, length: int, samples: int, random: np.random.Generator) -> list[Sequence[int]]:
    """Which blocks each path of this length passes by their residual branch."""
    if math.comb(blocks, length) <= samples:
        return list(itertools.combinations(range(blocks), length))
    return [random.choice(blocks, length, replace=False).tolist() for _ in range(samples)]


def gradient_along_line(
    model: nn.Module, start: Tensor, end: Tensor, steps: int = 256, output: int = 0
) -> pd.DataFrame:
    """One output of the model and its slope on the straight line from one input to another.

    start, end: inputs without the batch axis, such as two normalised images (3, H, W). All steps are one batch, in the
    mode the model is in. Balduzzi et al. 2017, arXiv:1702.08591, §2, do this with one-dimensional inputs.

    Columns: t from 0 (start) to 1 (end); output; gradient, the derivative by t of the sum of the outputs (in eval mode,
    or without batch norm, that of the output at t alone).
    """
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device).requires_grad_()
    with torch.enable_grad():
        outputs, _ = forward(model, start + t.reshape(-1, *[1] * start.ndim) * (end - start))
        values = outputs.reshape(steps, -1)[:, output]
        gradient = torch.autograd.grad(values.sum(), t)[0]
    return pd.DataFrame({"t": t.tolist(), "output": values.tolist(), "gradient": gradient.tolist()})


def autocorrelation(series: Sequence[float], max_lag: int) -> np.ndarray:
    """Correlation of a series with itself 0, 1, …, `max_lag` steps on: (max_lag + 1,). NaN if it is constant.

    Close to 1 for long where neighbours agree; about 0 at once for white noise, within ± 2 / √n.

    Raises ValueError unless max_lag is from 0 to the length of the series - 1.
    """
    if not 0 <= max_lag < len(series):
        raise ValueError(f"max_lag={max_lag}: expected 0 to {len(series) - 1}, as the series has {len(series)} values.")
    centred = np.asarray(series, np.float64) - np.mean(series)
    products = [centred[: len(centred) - lag] @ centred[lag:] for lag in range(max_lag + 1)]
    with np.errstate(invalid="ignore"):
        return np.array(products) / products[0]
