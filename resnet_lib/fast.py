"""A residual network and a recipe made to train quickly without a GPU.

The tricks, each a few lines that can be switched off, are those of K. Jordan's airbench (2024, arXiv:2404.00498; its
later version with Muon) and of hlb-CIFAR10 (tysam-code, 2023), whose quickest networks have no shortcuts; here they
train a residual one. Smaller images in the first epochs are an older idea: J. Howard's progressive resizing (DAWNBench,
2018).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from resnet_lib.data import BatchLoader, Cifar10, load_cifar10, normalise, take_pixels
from resnet_lib.models import ResNet, conv3x3, create_model
from resnet_lib.muon import Muon
from resnet_lib.recipes import Recipe

# Channels of each stage, by the network's name.
WIDTHS = {"fast_resnet": (64, 256, 256), "fast_resnet_wide": (96, 384, 384)}


class FastBlock(nn.Module):
    """y = x + activation(bn(conv(x))): one convolution on the residual branch, nothing on the shortcut or after it.

    (N, channels, H, W) → the same shape. shortcut: False for the plain twin.
    """

    def __init__(self, channels: int, activation: type[nn.Module] = nn.GELU, shortcut: bool = True) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)
        self.bn = nn.BatchNorm2d(channels)
        self.activation = activation()
        self.shortcut = shortcut

    def extra_repr(self) -> str:
        """Tells the plain twin apart: a checkpoint of the one must not be taken for the other's."""
        return "" if self.shortcut else "shortcut=False"

    def residual_branch(self, x: Tensor) -> Tensor:
        """What the block adds to its shortcut."""
        return self.activation(self.bn(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual_branch(x)
        return x + out if self.shortcut else out


class FastResNet(nn.Module):
    """A fixed whitening convolution, three stages, global max-pooling and a linear classifier without bias.

    (N, 3, H, W) float, normalised, H and W at least 9 → (N, num_classes) logits. A stage is a convolution to its
    width, a 2×2 max-pool, batch norm, activation, and its blocks.

    Parameters
    ----------
    whitening: filters (C, 3, k, k) of the first convolution, from `whitening_filters`; None: a trained 3×3 convolution
        to 24 channels instead.
    widths, blocks_per_stage: channels and `FastBlock`s of each stage.
    frozen_scale: batch norm's scale stays 1; a `FastRecipe` would train it at the high rate of the biases.
    identity_init: each convolution starts as the identity, as far as its channels go, and random beyond them.
    small_head: the classifier starts near 0 (deviation 1 / channels), so that the first answers are guesses and say so.
    """

    def __init__(
        self,
        whitening: Tensor | None = None,
        widths: Sequence[int] = WIDTHS["fast_resnet"],
        blocks_per_stage: Sequence[int] = (1, 1, 1),
        num_classes: int = 10,
        activation: type[nn.Module] = nn.GELU,
        shortcut: bool = True,
        frozen_scale: bool = True,
        identity_init: bool = True,
        small_head: bool = True,
    ) -> None:
        super().__init__()
        if len(blocks_per_stage) != len(widths) or not widths:
            raise ValueError(f"{len(blocks_per_stage)} stages but {len(widths)} widths: one width a stage, please.")
        if whitening is None:
            self.conv1 = conv3x3(3, 24)
        else:
            self.conv1 = nn.Conv2d(3, len(whitening), whitening.shape[-1])
            self.conv1.weight = nn.Parameter(whitening.clone(), requires_grad=False)
            nn.init.zeros_(self.conv1.bias)
        self.activation = activation()
        self.stages = nn.Sequential()
        channels = self.conv1.out_channels
        for width, blocks in zip(widths, blocks_per_stage, strict=True):
            stage = [conv3x3(channels, width), nn.MaxPool2d(2), nn.BatchNorm2d(width), activation()]
            stage += [FastBlock(width, activation, shortcut) for _ in range(blocks)]
            self.stages.append(nn.Sequential(*stage))
            channels = width
        self.fc = nn.Linear(channels, num_classes, bias=False)
        self._initialise(frozen_scale, identity_init, small_head)

    def _initialise(self, frozen_scale: bool, identity_init: bool, small_head: bool) -> None:
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d) and identity_init:
                nn.init.dirac_(module.weight[: module.in_channels])
            if isinstance(module, nn.BatchNorm2d):
                module.weight.requires_grad_(not frozen_scale)
        if small_head:
            with torch.no_grad():
                self.fc.weight /= self.fc.weight.std() * self.fc.in_features

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.stages(self.activation(self.conv1(images))).amax((2, 3)))


def whitening_filters(images: Tensor, size: int = 2, smoothing: float = 5e-4) -> Tensor:
    """Filters whose outputs on patches of `images` are uncorrelated and of variance 1, each with both signs.

    images: (N, 3, H, W) float, normalised → (2 · 3 · size², 3, size, size), strongest component last in each half.
    The filters are eigenvectors of the patches' second moments, divided by the root of (eigenvalue + smoothing), since
    the weakest components are mostly noise. hlb-CIFAR10 (tysam-code, 2023), after D. Page 2018, "How to train your
    ResNet".
    """
    moments, count = 0.0, 0
    for some in images.split(500):  # all patches at once, in float64, take 0.4 GB for 4,500 images
        patches = F.unfold(some, size).transpose(1, 2).flatten(0, 1).double()  # (N · positions, 3 · size²)
        moments, count = moments + patches.T @ patches, count + len(patches)
    variances, directions = torch.linalg.eigh(moments / count)
    filters = (directions / (variances + smoothing).sqrt()).T.float().unflatten(1, (3, size, size))
    return torch.cat([filters, -filters])


def fast_resnet(**options: Any) -> FastResNet:
    """`FastResNet` with filters that whiten patches of the bundled training images, without those for validation."""
    if "whitening" not in options:
        options["whitening"] = whitening_filters(normalise(load_cifar10("train_part", "bundled").images))
    return FastResNet(**options)


def create_network(name: str, stem: str = "cifar", shortcut: str | None = None) -> ResNet | FastResNet:
    """`create_model`, which also knows the networks of `WIDTHS`; there shortcut="none" is the plain twin, and
    None or "A" the identity (no shortcut of theirs has anything to pad).

    Raises ValueError on an unknown name, stem or shortcut.
    """
    if name not in WIDTHS:
        return create_model(name, stem=stem, shortcut=shortcut)
    if stem != "cifar":
        raise ValueError(f"stem={stem!r}: {name} has a stem of its own.")
    if shortcut not in (None, "A", "none"):
        raise ValueError(f"shortcut={shortcut!r}: those of {name} are the identity, or none with shortcut='none'.")
    return fast_resnet(widths=WIDTHS[name], shortcut=shortcut != "none")


@dataclass(frozen=True)
class FastRecipe(Recipe):
    """A `Recipe` whose `peak_lr` is that of the filters, in Muon's steps, and which adds to it:

    vector_lr, head_lr: peak rates of biases and batch norm, and of the last layer, in SGD's steps on the mean loss.
    filter_momentum: of the filters; `momentum` is that of the rest. Both are Nesterov's, whatever `nesterov` says.
    muon: False trains the filters by SGD too.
    padding: pixels by which the images are moved at most each way, over their own mirror image.
    cutout: side, in pixels, of a square of each image that is painted over with the mean colour, somewhere wholly
        inside; 0 for none. T. DeVries, G. Taylor 2017, arXiv:1708.04552 (there it may stick out).
    alternating_flip: each image is mirrored in every second epoch, not at random. K. Jordan 2024, §3.6.
    low_resolution: images are scaled down to this size, 9 or more, in the first `low_epochs` epochs.
    """

    vector_lr: float = 25.0
    head_lr: float = 0.005
    filter_momentum: float = 0.6
    muon: bool = True
    padding: int = 2
    cutout: int = 0
    alternating_flip: bool = True
    low_resolution: int = 20
    low_epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.peak_lr, self.vector_lr, self.head_lr) <= 0:
            rates = f"peak_lr={self.peak_lr}, vector_lr={self.vector_lr}, head_lr={self.head_lr}"
            raise ValueError(f"{rates}: all must be above 0, since each group's rate is a multiple of the first.")
        if not 0 <= self.filter_momentum < 1:
            raise ValueError(f"filter_momentum={self.filter_momentum}: expected 0 or more, and less than 1.")
        self._check_whole("low_epochs", "low_resolution", "padding", "cutout")
        # Of an image smaller than that `FastResNet`'s pooling leaves nothing.
        if not 0 <= self.low_epochs <= self.epochs or self.low_resolution < 9:
            raise ValueError(
                f"low_epochs={self.low_epochs}, low_resolution={self.low_resolution}: expected 0 to "
                f"epochs={self.epochs}, and at least 9."
            )
        if not (0 <= self.padding < 32 and 0 <= self.cutout < 32):
            raise ValueError(f"padding={self.padding}, cutout={self.cutout}: expected 0 to 31, an image has 32 pixels.")

    def scaled_to(self, epochs: int) -> "FastRecipe":
        """`Recipe.scaled_to`; the epochs at low resolution keep their share."""
        low_epochs = round(self.low_epochs * epochs / self.epochs)
        scaled = Recipe.scaled_to(replace(self, low_epochs=0), epochs)  # which may be fewer than those of now
        return replace(scaled, low_epochs=low_epochs)

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """Muon for what has the shape of a filter, SGD for the rest; `fit` sets each rate to its share of the first."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        filters = [parameter for parameter in trained if parameter.ndim == 4]
        vectors = [parameter for parameter in trained if parameter.ndim not in (2, 4)]
        head = [parameter for parameter in trained if parameter.ndim == 2]

        def group(params: list[nn.Parameter], lr: float) -> dict[str, Any]:
            # The penalty is given for a rate of 1, so that a group's decay does not depend on its rate.
            return {"params": params, "lr_factor": lr / self.peak_lr, "weight_decay": self.weight_decay / lr}

        muon = {"orthogonal": True, "momentum": self.filter_momentum, "weight_decay": 0.0} if self.muon else {}
        groups = [group(filters, self.peak_lr) | muon, group(vectors, self.vector_lr), group(head, self.head_lr)]
        return Muon(groups, lr=self.peak_lr, momentum=self.momentum)

    def make_loader(self, data: Cifar10, rank: int = 0, world_size: int = 1) -> "FastLoader":
        """Batches as this recipe augments them."""
        return FastLoader(data, self, rank, world_size)


# A small image, 20 × 20 pixels, costs a third of a large one. The rates are K. Jordan's (airbench94_muon, 2024, without
# shortcuts), brought from batches of 2,000 and a loss *summed* over the batch to batches of 500 and their mean:
# - biases: 500 times 0.053.
# - last layer: 500 times 0.67, over 256², since there logits are divided by 256, and here its first weights.
# - filters: half of 0.24. A step of Muon is as long as its rate whatever the loss and the batch, and random steps, four
#   times as many, add up to twice the way. (An argument: in 28 epochs neither was clearly better, see notebook 08.)
# The penalty, there too, is 2e-6 for each image of a batch.
FAST_CPU = FastRecipe(
    epochs=18,
    batch_size=500,
    peak_lr=0.12,
    schedule="linear",
    momentum=0.85,
    weight_decay=1e-3,
    label_smoothing=0.2,
    vector_lr=26.5,
    head_lr=0.0051,
    low_resolution=20,
    low_epochs=10,
)
# For the wide network, an image of which costs 2.2 times as much. The filters' rate is the published one, which came
# first on the validation split (notebook 08, section 6); the last layer's is over 384², its channels.
FAST_WIDE = replace(FAST_CPU, peak_lr=0.24, head_lr=0.0023)


def training_flops(model: nn.Module, recipe: FastRecipe, images: int) -> int:
    """Floating-point operations of a training on so many images: forward, backward, and Muon's matrix products.

    A multiply-add counts as two; what is not a convolution or a matrix product is left out, as in torch's counter.
    """
    copied = copy.deepcopy(model).cpu().train()
    optimizer = recipe.make_optimizer(copied)
    per_image = {}
    for size in (recipe.low_resolution, 32):
        with FlopCounterMode(display=False) as counter:
            copied(torch.zeros(2, 3, size, size)).sum().backward()
        per_image[size] = counter.get_total_flops() / 2
    with FlopCounterMode(display=False) as counter:
        optimizer.step()
    steps = -(-images // recipe.batch_size) * recipe.epochs
    low, full = recipe.low_epochs * images, (recipe.epochs - recipe.low_epochs) * images
    return round(low * per_image[recipe.low_resolution] + full * per_image[32] + steps * counter.get_total_flops())


class FastLoader(BatchLoader):
    """`BatchLoader` with the augmentation of a `FastRecipe`."""

    def __init__(self, data: Cifar10, recipe: FastRecipe, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(data, recipe.batch_size, recipe.augment, True, recipe.seed, rank, world_size)
        self.recipe = recipe
        self.mirrored_first = torch.rand(len(data), generator=torch.Generator().manual_seed(recipe.seed)) < 0.5

    def inputs(self, chosen: Tensor, share: slice, generator: torch.Generator, epoch: int) -> Tensor:
        """As `BatchLoader.inputs`, height and width `low_resolution` in the first epochs."""
        images = self.data.images.index_select(0, chosen[share])
        if self.augment:
            padding = self.recipe.padding
            top, left = torch.randint(-padding, padding + 1, (2, len(chosen), 1), generator=generator)
            mirrored = torch.rand(len(chosen), generator=generator) < 0.5
            if self.recipe.alternating_flip:
                mirrored = self.mirrored_first[chosen] ^ (epoch % 2 == 1)
            images = move_and_mirror(images, top[share], left[share], mirrored[share])
        images = normalise(images)
        if self.augment and self.recipe.cutout:
            corners = torch.randint(32 - self.recipe.cutout + 1, (2, len(chosen), 1), generator=generator)
            images = cut_out(images, *corners[:, share], self.recipe.cutout)
        if epoch >= self.recipe.low_epochs:
            return images
        # antialias: each new pixel is the mean of all that it covers.
        return F.interpolate(images, size=self.recipe.low_resolution, mode="bilinear", antialias=True)


def move_and_mirror(images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """Each image's pixel (top, left) moved to its corner, the gap filled with the image's reflection; then mirrored.

    images: (N, H, W, C); top, left: (N, 1) whole numbers, of either sign; mirrored: (N,) bool → (N, H, W, C).
    """
    _, height, width, _ = images.shape
    rows = reflected(top + torch.arange(height), height)
    columns = reflected(left + torch.arange(width), width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return take_pixels(images, rows, columns)


def cut_out(images: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Zeros, the mean colour of normalised images, in a square of size × size pixels from pixel (top, left) on.

    images: (N, C, H, W); top, left: (N, 1) whole numbers → (N, C, H, W).
    """
    rows = (torch.arange(images.shape[2]) - top) // size == 0
    columns = (torch.arange(images.shape[3]) - left) // size == 0
    # Not `masked_fill`: what that returns is no longer channels_last.
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], 0.0, images)


def reflected(index: Tensor, size: int) -> Tensor:
    """Indices outside 0 … size - 1 brought back in, the first and last not repeated: -1 → 1, size → size - 2."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
