"""Cut into a trained network and look at what it still can: drop blocks, swap them, scale their two paths.

Every operation works on a copy and leaves the network it was given as it was. Veit, Wilber & Belongie 2016, "Residual
Networks Behave Like Ensembles of Relatively Shallow Networks", arXiv:1605.06431, §4.
"""

import copy
from collections.abc import Iterable

import pandas as pd
import torch
from torch import nn

from resnet_lib.data import BatchLoader, Cifar10
from resnet_lib.models import BasicBlock, Bottleneck, make_shortcut
from resnet_lib.training import evaluate
from resnet_lib.variants import Scale, last_norm, scale_shortcuts

BLOCKS = BasicBlock, Bottleneck
PARTS = ("shortcut", "branch")


def block_names(model: nn.Module) -> list[str]:
    """The names of the model's blocks in forward order, such as "layer2.0".

    Raises ValueError if it has none of `resnet_lib.models`.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, BLOCKS)]
    if not names:
        raise ValueError(f"{type(model).__name__} has no blocks: expected a network of resnet_lib.models.")
    return names


def changes_shape(block: BasicBlock | Bottleneck) -> bool:
    """Whether what comes out has another shape than what goes in: the first block of most stages."""
    channels_in, channels_out, stride = _shape(block)
    return channels_in != channels_out or stride != 1


def swappable_pairs(model: nn.Module) -> list[tuple[str, str]]:
    """All pairs of blocks that may take each other's place: in one stage, and of one shape."""
    names = block_names(model)
    shapes = {name: (name.rpartition(".")[0], *_shape(model.get_submodule(name))) for name in names}
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if shapes[a] == shapes[b]]


# --- Operations


def drop_blocks(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy without these blocks.

    A residual block keeps its shortcut, y = ReLU(shortcut(x)): where that is the identity, y = x, since x comes out of
    a ReLU and is nowhere negative. A plain block is replaced by the shortcut that it lacks, option A: the identity, and
    where the shape changes every second pixel and channels of zeros (He et al. 2015, §3.3), for no plain path around
    such a block exists. So both kinds of network are left with the same thing in the block's place.

    Raises ValueError on a name that is no block's.
    """
    changed = copy.deepcopy(model)
    for name in names:
        block = _block(changed, name)
        around = block.downsample
        if around is None:
            around = make_shortcut(*_shape(block), shortcut="A")
        changed.set_submodule(name, nn.Sequential(around, nn.ReLU()))
    return changed


def swap_blocks(model: nn.Module, first: str, second: str) -> nn.Module:
    """A copy in which two blocks of a stage have changed places.

    Raises ValueError on a name that is no block's, or if the two do not fit each other's place: a stage's first block
    does not, where it changes the shape.
    """
    changed = copy.deepcopy(model)
    blocks = _block(changed, first), _block(changed, second)
    if not {(first, second), (second, first)} & set(swappable_pairs(changed)):
        raise ValueError(
            f"{first} and {second} cannot change places: expected two blocks of one stage that take and give one "
            f"shape, such as {swappable_pairs(model)[:1] or 'none in this network'}."
        )
    changed.set_submodule(first, blocks[1])
    changed.set_submodule(second, blocks[0])
    return changed


def scale_paths(model: nn.Module, shortcut: float = 1.0, branch: float = 1.0) -> nn.Module:
    """A copy with y = ReLU(shortcut · shortcut(x) + branch · F(x)) in every block; plain blocks have a branch only.

    Raises ValueError if a shortcut is to be scaled that is not there.
    """
    changed = copy.deepcopy(model)
    if shortcut != 1:
        scale_shortcuts(changed, shortcut)
    if branch != 1:
        for name in block_names(changed):
            block = _block(changed, name)
            norm = "bn3" if isinstance(block, Bottleneck) else "bn2"
            setattr(block, norm, nn.Sequential(last_norm(block), Scale(branch)))
    return changed


def recalibrate(model: nn.Module, data: Cifar10, batch_size: int = 250) -> nn.Module:
    """A copy whose batch norms have their running mean and variance measured anew on these images; no weight moves.

    After an operation the statistics are still those of the uncut network. What comes back when they are measured anew
    was lost to stale statistics, not to what the missing block computed.
    """
    changed = copy.deepcopy(model).train()
    for module in changed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches, each of equal weight
    device = next(changed.parameters()).device
    with torch.no_grad():
        for images, _ in BatchLoader(data, batch_size):
            changed(images.to(device))
    return changed.eval()


# --- Tables of what an operation costs; errors are shares of wrong answers, from 0 to 1


def drop_each_block(model: nn.Module, data: Cifar10, statistics: Cifar10 | None = None) -> pd.DataFrame:
    """The error without each block in turn: a row a block, in forward order.

    Columns: block, changes_shape, error_before (the whole network's), error_after; where images for `recalibrate` are
    given as `statistics`, also error_recalibrated.
    """
    before = 1 - evaluate(model, data)
    rows = []
    for name in block_names(model):
        row = {"block": name, "changes_shape": changes_shape(_block(model, name)), "error_before": before}
        rows.append(row | _errors(drop_blocks(model, [name]), data, statistics))
    return pd.DataFrame(rows)


def swap_each_pair(model: nn.Module, data: Cifar10, statistics: Cifar10 | None = None) -> pd.DataFrame:
    """The error after each swap in turn: a row for each of `swappable_pairs`.

    Columns: first, second, error_before, error_after, error_recalibrated as in `drop_each_block`. Veit et al. 2016,
    §4.3.
    """
    before = 1 - evaluate(model, data)
    rows = []
    for first, second in swappable_pairs(model):
        row = {"first": first, "second": second, "error_before": before}
        rows.append(row | _errors(swap_blocks(model, first, second), data, statistics))
    return pd.DataFrame(rows)


def scale_all_blocks(
    model: nn.Module, data: Cifar10, part: str, factors: Iterable[float], statistics: Cifar10 | None = None
) -> pd.DataFrame:
    """The error with all shortcuts, or all branches, times each factor: a row a factor.

    part: "shortcut" or "branch". Columns: part, factor, error_after, error_recalibrated as in `drop_each_block`; the
    factor 1 is the network as it is.
    Raises ValueError on another part, and as `scale_paths` does.
    """
    if part not in PARTS:
        raise ValueError(f"part={part!r}: expected one of {', '.join(map(repr, PARTS))}.")
    rows = []
    for factor in factors:
        row = {"part": part, "factor": factor}
        rows.append(row | _errors(scale_paths(model, **{part: factor}), data, statistics))
    return pd.DataFrame(rows)


def _errors(changed: nn.Module, data: Cifar10, statistics: Cifar10 | None) -> dict[str, float]:
    errors = {"error_after": 1 - evaluate(changed, data)}
    if statistics is not None:
        errors["error_recalibrated"] = 1 - evaluate(recalibrate(changed, statistics), data)
    return errors


def _block(model: nn.Module, name: str) -> BasicBlock | Bottleneck:
    names = block_names(model)
    if name not in names:
        raise ValueError(f"{name!r} is no block of this network. Its blocks: {', '.join(names)}.")
    return model.get_submodule(name)


def _shape(block: BasicBlock | Bottleneck) -> tuple[int, int, int]:
    """Channels in, channels out, stride."""
    if isinstance(block, Bottleneck):
        return block.conv1.in_channels, block.conv3.out_channels, block.conv2.stride[0]
    return block.conv1.in_channels, block.conv2.out_channels, block.conv1.stride[0]
