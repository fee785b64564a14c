"""CIFAR-10 as tensors: the bundled subset, the full set, a fixed validation split, and batches.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images". Where the files come from: `data/README.md`;
how to get the full set: `python -m resnet_lib data` (`resnet_lib.download`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Of the 50,000 training images on the 0–1 scale, by channel: red, green, blue. Notebook 04 computes them.
MEAN = (0.49139968, 0.48215841, 0.44653091)
STD = (0.24703223, 0.24348513, 0.26158784)

SPLITS = ("train", "train_part", "validation", "test")
SIZES = ("auto", "full", "bundled")
DATA_DIR = Path(__file__).resolve().parent.parent / "data"
FULL_FILE = "cifar10.safetensors"
DOWNLOAD_COMMAND = "python -m resnet_lib data"
BUNDLED_FILE = "cifar10_bundled_{split}.webp"
BUNDLED_COLUMNS = 50  # images side by side in a bundled sheet
PADDING = 4  # pixels by which the training images may move: He et al. 2015, §4.2


class DataError(RuntimeError):
    """The data is missing, damaged or not what it should be; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Cifar10:
    """Images and their labels.

    images: (N, 32, 32, 3) uint8, red, green, blue; labels: (N,) int64, indices into `classes`;
    split: which part this is; size: "full" or "bundled".
    """

    images: Tensor
    labels: Tensor
    split: str
    size: str
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "Cifar10":
        """The same for some of the images: a slice, or a tensor of positions or of booleans."""
        labels = self.labels[index]
        if labels.ndim != 1:
            raise TypeError(f"{index!r} is no subset. For one image: data.images[i] and data.labels[i].")
        return Cifar10(self.images[index], labels, self.split, self.size, self.classes)

    def __repr__(self) -> str:
        return f"Cifar10({self.size} {self.split}: {len(self):,} images)"


def load_cifar10(split: str, size: str = "auto", root: str | Path | None = None) -> Cifar10:
    """Load a split of CIFAR-10.

    split: "train" (50,000 images, 5,000 bundled), "test" (10,000; 1,000 bundled), or, to choose settings without
        looking at the test set, "train_part" and "validation": nine tenths and one tenth of "train", by class.
    size: "full", "bundled" (the first 500 training and 100 test images of each class), or "auto": full if it is there.
    root: the folder with the files; the course's `data/` by default.

    Raises ValueError on an unknown split or size, DataError if the files are missing or damaged.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: expected one of {', '.join(map(repr, SPLITS))}.")
    if size not in SIZES:
        raise ValueError(f"size={size!r}: expected one of {', '.join(map(repr, SIZES))}.")
    root = Path(root).expanduser() if root is not None else DATA_DIR
    if size == "auto":
        size = "full" if (root / FULL_FILE).exists() else "bundled"
    official_split = "test" if split == "test" else "train"
    read = _read_full if size == "full" else _read_bundled
    images, labels = read(root, official_split)
    data = Cifar10(images, labels, split, size)
    if split in ("train_part", "validation"):
        return data[is_validation(labels) == (split == "validation")]
    return data


def is_validation(labels: Tensor) -> Tensor:
    """(N,) bool: every tenth image of each class, in official order.

    No random numbers, so the split is the same everywhere, and the bundled split is part of the full one.
    """
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        chosen[(labels == label).nonzero()[9::10]] = True
    return chosen


def _read_full(root: Path, split: str) -> tuple[Tensor, Tensor]:
    path = root / FULL_FILE
    if not path.exists():
        raise DataError(f"There is no full CIFAR-10 at {path}. Get it with: {DOWNLOAD_COMMAND}")
    try:
        with safe_open(path, framework="pt") as file:
            images, labels = file.get_tensor(f"{split}_images"), file.get_tensor(f"{split}_labels")
        _check(images, labels)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}). Delete it and get it again: {DOWNLOAD_COMMAND}") from error
    return images, labels


def _read_bundled(root: Path, split: str) -> tuple[Tensor, Tensor]:
    path = root / BUNDLED_FILE.format(split=split)
    try:
        with Image.open(path) as sheet:
            pixels = np.array(sheet)
        rows = pixels.reshape(-1, 32, BUNDLED_COLUMNS, 32, 3)
        images = torch.from_numpy(rows.swapaxes(1, 2).reshape(-1, 32, 32, 3))
        labels = np.loadtxt(path.with_suffix(".csv"), delimiter=",", skiprows=1, usecols=1, dtype=np.int64, ndmin=1)
        labels = torch.from_numpy(labels)
        _check(images, labels)
    except (OSError, ValueError) as error:
        raise DataError(
            f"The bundled images {path.name} and their labels could not be read from {root} ({error}). They are part "
            "of the repository: `git checkout data` brings them back; or give the folder as root=."
        ) from error
    return images, labels


def _check(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless the two are what `Cifar10` promises."""
    shapes_fit = images.shape[1:] == (32, 32, 3) and labels.shape == images.shape[:1]
    if not shapes_fit or images.dtype != torch.uint8 or labels.dtype != torch.int64:
        raise ValueError(
            "expected (N, 32, 32, 3) uint8 images and (N,) int64 labels, found "
            f"{tuple(images.shape)} {images.dtype} and {tuple(labels.shape)} {labels.dtype}"
        )
    if not ((labels >= 0) & (labels < len(CLASSES))).all():
        raise ValueError("there are labels outside 0 to 9")


def normalise(images: Tensor) -> Tensor:
    """(N, 32, 32, 3) uint8 → (N, 3, 32, 32) float32, channels_last: minus the mean, over the deviation of each channel.

    Mean and deviation are those of the full training set, also for the bundled subset.
    """
    # A row of pixels at a time: three numbers a time, the channels of one pixel, would leave the CPU's vectors idle.
    width = images.shape[2]
    mean = (255 * torch.tensor(MEAN, device=images.device)).repeat(width)
    std = (255 * torch.tensor(STD, device=images.device)).repeat(width)
    # In place, so that the batch is in float32 only once.
    rows = images.flatten(2).to(torch.float32, copy=True).sub_(mean).div_(std)
    # The channels are last in memory already; permute only renames the axes.
    return rows.view(images.shape).permute(0, 3, 1, 2)


def random_crop_flip(images: Tensor, generator: torch.Generator, padding: int = PADDING) -> Tensor:
    """Each image moved by up to `padding` pixels each way over black, and mirrored with probability 1/2.

    (N, H, W, C) uint8 → the same shape; every image has its own draw. He et al. 2015, §4.2.
    """
    return _crop_flip(images, *_draw_crop_flip(len(images), generator, padding), padding)


def _draw_crop_flip(count: int, generator: torch.Generator, padding: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `count` images the first row and column to keep, and whether to mirror; (count, 1) each."""
    top, left = torch.randint(2 * padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    return top, left, mirrored


def _crop_flip(images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, padding: int) -> Tensor:
    count, _, width, _ = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    rows = top + torch.arange(images.shape[1])
    columns = torch.arange(width).expand(count, width)
    columns = left + torch.where(mirrored, width - 1 - columns, columns)
    return take_pixels(padded, rows, columns)


def take_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of each image the pixels where its rows and columns cross: (N, H, W, C), (N, h), (N, w) → (N, h, w, C)."""
    count, height, width, channels = images.shape
    # One gather for the batch: the number of every output pixel among the pixels of all images.
    first = torch.arange(count)[:, None] * height
    pixels = (first + rows)[:, :, None] * width + columns[:, None, :]
    taken = images.reshape(-1, channels).index_select(0, pixels.flatten())
    return taken.view(count, rows.shape[1], columns.shape[1], channels)


class BatchLoader:
    """Batches of normalised tensors; only the batch is ever in float32, the set stays uint8.

    data: what to draw from. batch_size: images a batch; the last one of an epoch may be smaller.
    augment: random crop and flip (`random_crop_flip`). shuffle: a new order each epoch.
    seed: with the epoch's number it fixes order and augmentation, whatever was drawn before.
    rank, world_size: of each batch only the part of process `rank` among `world_size`, which share it as evenly as
        can be; image by image together they have what one process would have.

    Raises ValueError if batch_size is below 1, the seed below 0, the data empty, or a batch smaller than world_size.
    """

    def __init__(
        self,
        data: Cifar10,
        batch_size: int = 128,
        augment: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected at least 1.")
        if seed < 0:
            raise ValueError(f"seed={seed}: expected 0 or more.")
        if len(data) == 0:
            raise ValueError("There are no images to make batches of.")
        smallest = len(data) % batch_size or batch_size
        if smallest < world_size:
            raise ValueError(
                f"{world_size} processes cannot share a batch of {smallest} images, the smallest of an epoch: "
                f"batch_size={batch_size}, {len(data):,} images. Take another batch size, or fewer processes."
            )
        self.data = data
        self.batch_size = batch_size
        self.augment = augment
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.data) // self.batch_size)

    def images_in(self, step: int) -> int:
        """Images in batch number `step` of an epoch, all processes' shares together."""
        return min(self.batch_size, len(self.data) - step * self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`: images (B, 3, 32, 32) float32, channels_last; labels (B,) int64."""
        # torch's CPU generator keeps 32 bits of a seed, so mix the two numbers instead of packing them.
        mixed = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(mixed))
        count = len(self.data)
        order = torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
        for chosen in order.split(self.batch_size):
            share = slice(*(len(chosen) * rank // self.world_size for rank in (self.rank, self.rank + 1)))
            yield self.inputs(chosen, share, generator, number), self.data.labels[chosen[share]]

    def inputs(self, chosen: Tensor, share: slice, generator: torch.Generator, epoch: int) -> Tensor:
        """What the network gets of the images at positions `chosen[share]`: (B, 3, 32, 32) float32, channels_last.

        Drawn for all of `chosen`, so that the next batch finds the generator where it would be in one process.
        """
        images = self.data.images.index_select(0, chosen[share])  # ten times faster than [chosen]
        if self.augment:
            drawn = _draw_crop_flip(len(chosen), generator, PADDING)
            images = _crop_flip(images, *(each[share] for each in drawn), PADDING)
        return normalise(images)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch 0: enough where nothing is random."""
        return self.epoch(0)
