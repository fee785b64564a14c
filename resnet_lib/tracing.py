"""What a residual block or a whole network does, read from the module itself.

`read_block` and `read_network` trace the forward pass (`torch.fx`) and return it operation by operation and shape by
shape; `in_words` says it, `resnet_lib.diagrams` draws it. What does not run is not in there, so it cannot drift from
the code.
"""

import copy
import operator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import fx, nn

Shape = tuple[int, ...]  # of one image's signal: (channels, height, width), or (numbers,)
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")


@dataclass(frozen=True)
class Step:
    """One operation: its name in the module, what it is (a line or more), the shape that comes out, its weights."""

    name: str
    lines: tuple[str, ...]
    shape: Shape
    weight_layer: bool

    @property
    def in_words(self) -> str:
        return " ".join(self.lines).replace(" conv", " convolution")


@dataclass(frozen=True)
class Block:
    """What a block does: its branch, its shortcut (None: nothing is added; (): the identity), and what comes after."""

    input_shape: Shape
    branch: tuple[Step, ...]
    shortcut: tuple[Step, ...] | None
    after: tuple[Step, ...]

    @property
    def output_shape(self) -> Shape:
        return (self.after or self.branch)[-1].shape

    @property
    def shortcut_kind(self) -> str:
        """ "none", "identity", "projection" (it has a weight layer) or "fixed" (it does something, without one)."""
        if self.shortcut is None:
            return "none"
        if not self.shortcut:
            return "identity"
        return "projection" if any(step.weight_layer for step in self.shortcut) else "fixed"

    @property
    def in_words(self) -> str:
        steps = "; ".join(step.in_words for step in self.branch)
        around = {"none": "there is none, and nothing is added", "identity": "the identity"}
        shortcut = around.get(self.shortcut_kind) or "; ".join(step.in_words for step in self.shortcut)
        after = f" After the addition: {'; '.join(step.in_words for step in self.after)}." if self.after else ""
        ends = f"From {shape_text(self.input_shape)} to {shape_text(self.output_shape)}."
        return f"{ends} Branch: {steps}. Shortcut: {shortcut}.{after}"


@dataclass(frozen=True)
class Around:
    """A shortcut around the weight layers `first` to `last` (positions in the network's list), and its kind."""

    first: int
    last: int
    kind: str


@dataclass(frozen=True)
class Network:
    """The weight layers on the way from image to logits, in order, and the shortcuts around them."""

    input_shape: Shape
    layers: tuple[Step, ...]
    shortcuts: tuple[Around, ...]

    @property
    def stages(self) -> list[tuple[str, int, int]]:
        """Name, first and last position of each run of layers that share the first part of their names."""
        groups = groupby(enumerate(self.layers), key=lambda item: item[1].name.split(".")[0])
        positions = [(name, [i for i, _ in items]) for name, items in groups]
        return [(name, numbers[0], numbers[-1]) for name, numbers in positions]

    def shortcuts_of(self, first: int, last: int) -> dict[str, int]:
        """How many shortcuts of each kind lie around layers `first` to `last`."""
        kinds = [shortcut.kind for shortcut in self.shortcuts if first <= shortcut.first <= last]
        return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}

    @property
    def in_words(self) -> str:
        parts = []
        for name, first, last in self.stages:
            shortcuts = ", ".join(f"{count} {kind}" for kind, count in self.shortcuts_of(first, last).items())
            layers = "1 layer" if first == last else f"{last - first + 1} layers"
            around = f", shortcuts: {shortcuts}" if shortcuts else ""
            parts.append(f"{name}: {layers}, {shape_text(self.layers[last].shape)}{around}")
        return f"{len(self.layers)} weight layers for an image of {shape_text(self.input_shape)}. {'; '.join(parts)}."


def shape_text(shape: Shape) -> str:
    return " × ".join(map(str, shape))


def read_block(block: nn.Module, input_shape: Shape) -> Block:
    """Trace a block for one input of `input_shape` (C, H, W). The block stays as it was.

    Raises ValueError if the block cannot be traced, does not run on this shape, or is more than a chain with one
    addition in it.
    """
    trace = _Trace(block, input_shape)
    node, after = trace.result, []
    while node is not trace.start and len(node.all_input_nodes) == 1:
        after.append(node)
        (node,) = node.all_input_nodes
    after.reverse()
    if node is trace.start:
        return Block(input_shape, trace.steps(after), None, ())
    if node.target not in ADDITIONS:
        raise ValueError(f"{type(block).__name__} ends in {node.name}: expected a sum of two paths, or one path.")
    shortcut, branch = sorted((trace.path(end) for end in node.all_input_nodes), key=len)
    return Block(input_shape, trace.steps(branch), trace.steps(shortcut), trace.steps(after))


def read_network(model: nn.Module, input_shape: Shape = (3, 32, 32)) -> Network:
    """Trace a network for one image of `input_shape` (C, H, W). The model stays as it was.

    Blocks are the modules in its stages (each an `nn.Sequential`). As in the paper's counting, projections on the
    shortcuts are no layers of their own.

    Raises ValueError if the model or a block in it cannot be traced, does not run on this shape, or is not a chain of
    layers and blocks.
    """
    trace = _Trace(model, input_shape)
    layers: list[Step] = []
    shortcuts: list[Around] = []
    for node in trace.path(trace.result):
        module = trace.module(node)
        if module is None or _is_weight_layer(module) or not any(map(_is_weight_layer, module.modules())):
            layers += [step for step in trace.steps([node]) if step.weight_layer]
            continue
        (source,) = node.all_input_nodes
        block = read_block(module, source.meta["shape"])
        inner = [step for step in block.branch if step.weight_layer]
        if block.shortcut is not None:
            shortcuts.append(Around(len(layers), len(layers) + len(inner) - 1, block.shortcut_kind))
        layers += [Step(f"{node.target}.{step.name}", step.lines, step.shape, True) for step in inner]
    return Network(input_shape, tuple(layers), tuple(shortcuts))


def shapes_only(module: nn.Module) -> nn.Module:
    """A copy of the module on the meta device: tensors with shapes and without numbers, so it costs no memory.

    It runs on tensors of that device, computes nothing, and returns the shapes that the module would.
    """
    # What the memo holds counts as copied already, so that no number ever is.
    memo: dict[int, torch.Tensor] = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        for parameter in module.parameters()
    }
    memo |= {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    return copy.deepcopy(module, memo)


class _Trace:
    """The operations that lead from a module's input to its output, with the shape of what each returns."""

    def __init__(self, module: nn.Module, input_shape: Shape) -> None:
        self.root = shapes_only(module).eval()
        try:
            graph = _Tracer().trace(self.root)
        except (fx.proxy.TraceError, TypeError) as error:
            raise ValueError(f"{type(module).__name__} cannot be traced, so it cannot be drawn: {error}") from error
        try:
            _Shapes(fx.GraphModule(self.root, graph)).run(torch.empty(1, *input_shape, device="meta"))
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{type(module).__name__} does not run on {shape_text(input_shape)}: {reason}") from error
        self.start = next(node for node in graph.nodes if node.op == "placeholder")
        self.result: fx.Node = graph.output_node().args[0]

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.root.get_submodule(node.target) if node.op == "call_module" else None

    def path(self, end: fx.Node) -> list[fx.Node]:
        """The operations from the start to `end`, each with one input."""
        nodes = []
        while end is not self.start:
            if len(end.all_input_nodes) != 1:
                raise ValueError(f"{type(self.root).__name__} is no chain: {end.name} joins several paths.")
            nodes.append(end)
            (end,) = end.all_input_nodes
        return nodes[::-1]

    def steps(self, nodes: list[fx.Node]) -> tuple[Step, ...]:
        steps = []
        for node in nodes:
            module = self.module(node)
            if isinstance(module, nn.Identity):
                continue
            # A function has a name of its own, a tensor's method is known by its name alone.
            lines = (getattr(node.target, "__name__", node.target),) if module is None else _lines(module)
            steps.append(Step(str(node.target), lines, node.meta["shape"], _is_weight_layer(module)))
        return tuple(steps)


class _Tracer(fx.Tracer):
    """Looks into the root and into sequences of modules; what they hold counts as one operation each."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return not isinstance(module, nn.Sequential)


class _Shapes(fx.Interpreter):
    """Notes the shape of every tensor that comes out, without the batch."""

    def run_node(self, node: fx.Node) -> object:
        result = super().run_node(node)
        if isinstance(result, torch.Tensor):
            node.meta["shape"] = tuple(result.shape[1:])
        return result


def _is_weight_layer(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear)


def _lines(module: nn.Module) -> tuple[str, ...]:
    """What a module is, in short lines that fit a box."""
    if isinstance(module, nn.Conv2d):
        kernel, channels = "×".join(map(str, module.kernel_size)), f"{module.in_channels} → {module.out_channels}"
        stride = () if module.stride == (1, 1) else (f"stride {module.stride[0]}",)
        return (f"{kernel} conv", channels, *stride)
    if isinstance(module, nn.Linear):
        return ("linear", f"{module.in_features} → {module.out_features}")
    if isinstance(module, nn.BatchNorm2d):
        return ("batch", "norm")
    if isinstance(module, nn.ReLU):
        return ("ReLU",)
    settings = module.extra_repr()
    return (type(module).__name__, *(settings.split(", ") if settings else ()))
