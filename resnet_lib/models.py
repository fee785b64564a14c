"""Residual networks: one file, from one convolution to ResNet-50.

Module and parameter names are torchvision's (`conv1`, `bn1`, `layer1.0.downsample.0`, `fc`), so that its
`state_dict`s load here by name.

References
----------
He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORTCUTS = ("A", "B", "C", "none")
STEMS = ("cifar", "readme", "imagenet")


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution that keeps height and width at stride 1; no bias, since batch norm has one."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """1×1 convolution: the same linear map of the channels at every pixel; no bias."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


class PaddedIdentity(nn.Module):
    """Option A: take every `stride`-th pixel and append `extra_channels` channels of zeros.

    (N, C, H, W) → (N, C + extra_channels, ⌈H / stride⌉, ⌈W / stride⌉). No parameters. He et al. 2015, §3.3.
    """

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.extra_channels))

    def extra_repr(self) -> str:
        return f"extra_channels={self.extra_channels}, stride={self.stride}"


def make_shortcut(in_channels: int, out_channels: int, stride: int, shortcut: str) -> nn.Module | None:
    """The path around a block's residual branch, or None for a plain block.

    `shortcut` takes He et al.'s options (2015, §4.1, table 3): "A" identity, padded with zeros where the shape
    changes; "B" projection where the shape changes, identity elsewhere; "C" projection in every block; "none"
    no shortcut at all: the plain twin.

    Raises ValueError if `shortcut` is none of these, or if "A" would have to drop channels.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut={shortcut!r}: expected one of {', '.join(map(repr, SHORTCUTS))}.")
    if shortcut == "none":
        return None
    same_shape = stride == 1 and in_channels == out_channels
    if same_shape and shortcut != "C":
        return nn.Identity()
    if shortcut == "A":
        if out_channels < in_channels:
            raise ValueError(
                f"shortcut='A' pads with zero channels and cannot go from {in_channels} channels down to "
                f"{out_channels}. Use 'B'."
            )
        return PaddedIdentity(out_channels - in_channels, stride)
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: y = ReLU(F(x) + shortcut(x)). He et al. 2015, figure 5, left.

    (N, in_channels, H, W) → (N, channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1, shortcut: str = "B") -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample = make_shortcut(in_channels, channels, stride, shortcut)

    def residual_branch(self, x: Tensor) -> Tensor:
        """F(x) of the paper: what the block adds to its shortcut."""
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual_branch(x)
        if self.downsample is not None:
            out = out + self.downsample(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut. He et al. 2015, figure 5, right.

    (N, in_channels, H, W) → (N, 4 · channels, ⌈H / stride⌉, ⌈W / stride⌉). The stride stands on the 3×3
    convolution, as in torchvision; the paper has it on the first 1×1.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1, shortcut: str = "B") -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample = make_shortcut(in_channels, out_channels, stride, shortcut)

    def residual_branch(self, x: Tensor) -> Tensor:
        """F(x) of the paper: what the block adds to its shortcut."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))

    forward = BasicBlock.forward


class ResNet(nn.Module):
    """A stem, stages of blocks (each stage after the first halves height and width), pooling and a classifier.

    (N, 3, H, W) float, normalised → (N, num_classes) logits.

    Parameters
    ----------
    block: `BasicBlock` or `Bottleneck`.
    blocks_per_stage: how many blocks each stage has, such as (3, 4, 6, 3).
    num_classes: number of logits.
    stem: "cifar" (3×3 convolution, stride 1: He et al. 2015, §4.2), "imagenet" (7×7, stride 2, and a 3×3
        max-pool of stride 2: table 1), or "readme" (7×7 and the max-pool, both with stride 1).
    shortcut: "A", "B", "C" or "none"; see `make_shortcut`.
    widths: channels of each stage; the stem has those of the first.

    Raises ValueError on an unknown stem or shortcut, without a stage, or where stages and widths differ in number.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks_per_stage: Sequence[int],
        num_classes: int = 10,
        stem: str = "cifar",
        shortcut: str = "B",
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        if len(blocks_per_stage) != len(widths):
            raise ValueError(f"{len(blocks_per_stage)} stages but {len(widths)} widths: one width a stage, please.")
        if not widths:
            raise ValueError("blocks_per_stage and widths are empty: a network needs at least one stage.")
        self.conv1, self.maxpool = make_stem(stem, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        channels = widths[0]
        self.stage_names = [f"layer{i}" for i in range(1, len(widths) + 1)]
        for name, blocks, width in zip(self.stage_names, blocks_per_stage, widths, strict=True):
            stage = nn.Sequential()
            for i in range(blocks):
                stride = 2 if i == 0 and name != "layer1" else 1
                stage.append(block(channels, width, stride, shortcut))
                channels = width * block.expansion
            self.add_module(name, stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for name in self.stage_names:
            x = getattr(self, name)(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def make_stem(stem: str, channels: int) -> tuple[nn.Conv2d, nn.Module]:
    """The first convolution and the pooling after it; see `ResNet`."""
    if stem == "cifar":
        return conv3x3(3, channels), nn.Identity()
    if stem not in STEMS:
        raise ValueError(f"stem={stem!r}: expected one of {', '.join(map(repr, STEMS))}.")
    stride = 2 if stem == "imagenet" else 1
    conv = nn.Conv2d(3, channels, kernel_size=7, stride=stride, padding=3, bias=False)
    return conv, nn.MaxPool2d(kernel_size=3, stride=stride, padding=1)


def initialise(model: nn.Module) -> None:
    """Draw every convolution from N(0, 2 / fan_out) (He et al. 2015, arXiv:1502.01852, §2.2), as torchvision does.

    Batch norm keeps PyTorch's own start (scale 1, shift 0), and so does the last linear layer.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet18(num_classes: int = 10, stem: str = "cifar", shortcut: str = "B") -> ResNet:
    """ResNet-18: 2-2-2-2 basic blocks. He et al. 2015, table 1."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, stem, shortcut)


def resnet34(num_classes: int = 10, stem: str = "cifar", shortcut: str = "B") -> ResNet:
    """ResNet-34: 3-4-6-3 basic blocks. He et al. 2015, table 1."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, stem, shortcut)


def resnet50(num_classes: int = 10, stem: str = "cifar", shortcut: str = "B") -> ResNet:
    """ResNet-50: 3-4-6-3 bottlenecks. He et al. 2015, table 1."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, stem, shortcut)


def cifar_resnet(depth: int, shortcut: str = "A", num_classes: int = 10) -> ResNet:
    """He et al.'s network for CIFAR-10 with `depth` = 6n + 2 weighted layers: n blocks in each of 3 stages.

    Widths 16, 32, 64; depths 20, 32, 44, 56 and 110 are in the paper (2015, §4.2, table 6).

    Raises ValueError if depth is not 6n + 2 with n ≥ 1.
    """
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise ValueError(f"depth={depth}: expected 6n + 2 with n ≥ 1, such as 8, 14, 20, 32, 44, 56 or 110.")
    return ResNet(BasicBlock, (n, n, n), num_classes, "cifar", shortcut, widths=(16, 32, 64))


def create_model(name: str, num_classes: int = 10, stem: str = "cifar", shortcut: str | None = None) -> ResNet:
    """A network by its name: "resnet18", "resnet34", "resnet50", or "resnet" and a depth 6n + 2, such as "resnet20".

    shortcut: that of the network's own constructor by default ("B", or "A" for the 6n + 2 nets, which have only
        the "cifar" stem).

    Raises ValueError on an unknown name, stem or shortcut.
    """
    constructors = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
    if name in constructors:
        return constructors[name](num_classes, stem, shortcut or "B")
    depth = name.removeprefix("resnet")
    if not depth.isdecimal() or depth == name:
        raise ValueError(
            f"model {name!r}: expected {', '.join(constructors)}, or resnet and a depth, such as resnet20."
        )
    if stem != "cifar":
        raise ValueError(f"{name} is made for the 'cifar' stem, not {stem!r}.")
    return cifar_resnet(int(depth), shortcut or "A", num_classes)
