"""Watch a network during one forward and one backward pass, and leave no trace in it.

`resnet_lib.gradients` measures with these. Nothing here belongs to one architecture: layers and blocks are found by
their types and reported in the order in which the forward pass reaches them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass
class Moments:
    """Mean and variance of `count` numbers; those of several parts add up with `+`."""

    count: int
    mean: float
    variance: float

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        mean = (self.count * self.mean + other.count * other.mean) / count
        spread = sum(part.count * (part.variance + (part.mean - mean) ** 2) for part in (self, other))
        return Moments(count, mean, spread / count)


def moments(values: Tensor) -> Moments:
    """Mean and variance over all elements, in float64: the squares of tiny float32 numbers would be 0."""
    values = values.detach().cpu().double()
    mean = values.mean()
    return Moments(values.numel(), mean.item(), (values - mean).square().mean().item())


def norm(values: Tensor) -> float:
    """Euclidean norm over all elements, in float64 for the same reason as `moments`: 0 only if every element is."""
    return values.detach().cpu().double().norm().item()


def weight_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The convolutions and linear layers by name.

    Raises ValueError if there are none, or if a weight is not a parameter of its own (`torch.nn.utils.parametrize`).
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, (*CONVOLUTIONS, nn.Linear))}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no convolution and no linear layer: nothing to measure.")
    for name, layer in layers.items():
        if "weight" not in layer._parameters:
            raise ValueError(
                f"The weight of {name} is computed from other parameters. Remove its parametrisation first."
            )
    return layers


def position(name: str) -> tuple[str, int | None]:
    """Stage and block of a module's name: "layer2.3.conv1" → ("layer2", 3), "fc" → ("fc", None)."""
    stage, *rest = name.split(".")
    return stage, int(rest[0]) if rest and rest[0].isdecimal() else None


def forward(model: nn.Module, inputs: Tensor) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
    """The model's output with its graph, and the leaf of that graph that stands in for each parameter.

    The model runs in the mode it is in (batch norm with the batch's statistics in train mode), but on stand-ins:
    parameters, their `.grad` and `requires_grad`, buffers, mode and the random state stay as they were.
    """
    # Stand-ins share the parameters' memory, but are leaves of a graph of their own; buffers are copied to be written.
    leaves = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    cuda = [inputs.device] if inputs.is_cuda else []
    with torch.random.fork_rng(devices=cuda), torch.enable_grad():
        outputs = functional_call(model, leaves | buffers, (inputs,))
    return outputs, {parameter: leaves[name] for name, parameter in model.named_parameters()}


def forward_loss(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
    """Mean cross-entropy of the model's logits, with its graph, and the stand-ins of the parameters; see `forward`.

    images: what the model takes, floating point; labels: (N,) int64.
    Raises ValueError if images and labels do not fit each other or the model.
    """
    parameter = next(model.parameters())
    _check_images(images, labels, parameter.dtype)
    images, labels = images.to(parameter.device), labels.to(parameter.device)
    logits, leaves = forward(model, images)
    _check_logits(logits, labels)
    with torch.enable_grad():
        return F.cross_entropy(logits, labels), leaves


def _check_images(images: Tensor, labels: Tensor, dtype: torch.dtype) -> None:
    if not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype}: expected normalised floats, as resnet_lib.data.normalise returns."
        )
    if images.dtype != dtype:
        raise ValueError(f"images are {images.dtype}, the model's weights {dtype}: convert one of them.")
    if labels.ndim != 1 or labels.is_floating_point() or len(labels) != len(images) or len(labels) == 0:
        raise ValueError(
            f"{tuple(images.shape)} images and {tuple(labels.shape)} {labels.dtype} labels: expected one whole number "
            "for every image, and at least one image."
        )


def _check_logits(logits: object, labels: Tensor) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(labels):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"The model returns {shape}: expected logits of shape ({len(labels)}, classes).")
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"labels go from {low} to {high}, but the model tells {logits.shape[1]} classes apart.")


@contextmanager
def watch_outputs(modules: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `see(name, output)` whenever one of these modules has run; what is seen must be used at once.

    A later in-place operation may overwrite the output. The hooks are gone when the block is left.
    """
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: see(name, output))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module's own mode (train or eval) back when the block is left, whatever it was set to meanwhile."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass
class SignalPoint:
    """The signal at one point of the forward pass; `gradient_norm` is known once the loss is backpropagated."""

    name: str
    moments: Moments
    gradient_norm: float = math.nan


@contextmanager
def watch_blocks(model: nn.Module) -> Iterator[list[SignalPoint]]:
    """A list that the next pass fills: a point "stem" before the first block, then one after each block.

    Blocks are the entries of the model's outermost `nn.Sequential`s, such as those of `layer1`.

    Raises ValueError if there are none.
    """
    blocks = dict(_entries_of_stages(model))
    if not blocks:
        raise ValueError(f"{type(model).__name__} has no nn.Sequential, so no blocks to look between.")
    points: list[SignalPoint] = []

    def see(name: str, signal: Tensor) -> None:
        point = SignalPoint(name, moments(signal))
        points.append(point)
        if signal.requires_grad:
            signal.register_hook(lambda gradient: setattr(point, "gradient_norm", norm(gradient)))

    first = next(iter(blocks.values()))
    handle = first.register_forward_pre_hook(lambda _module, inputs: see("stem", inputs[0]))
    try:
        with watch_outputs(blocks, see):
            yield points
    finally:
        handle.remove()


def _entries_of_stages(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(module, nn.Sequential):
            yield prefix + name, child
        else:
            yield from _entries_of_stages(child, f"{prefix}{name}.")
