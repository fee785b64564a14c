"""Sound and faulty ways from images to batches, for the tests of notebook 09 to judge.

Each list goes from what any test sees to what only a careful one does.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from resnet_lib.checks.judging import Subject
from resnet_lib.data import normalise, random_crop_flip
from resnet_lib.faults import augment, mixup, to_inputs

# --- 5: from (N, 32, 32, 3) uint8 to (N, 3, 32, 32) float32


INPUTS = (
    Subject(
        lambda: normalise,
        True,
        "`resnet_lib.data.normalise`",
        "Here the colour c of the pixel in row y, column x of image n comes out at [n, c, y, x]. Is that what you ask?",
    ),
    Subject(
        lambda: to_inputs,
        False,
        "the function above",
        "Shape, mean and deviation are those of a sound one. Light a single pixel, and look where it comes out.",
    ),
    Subject(
        lambda: lambda images: images.permute(0, 3, 1, 2) / 255,
        True,
        "a function that scales to 0–1 and does not normalise",
        "Every pixel is in its place; its scale is another matter. Ask where numbers go, not how large they are.",
    ),
    Subject(
        lambda: lambda images: normalise(images).transpose(2, 3),
        False,
        "a function that swaps rows and columns",
        "Your test pixel has the same place either way. Light one whose row and column differ.",
    ),
    Subject(
        lambda: lambda images: normalise(images).flip(1),
        False,
        "a function that swaps red and blue",
        "Your test pixel is green or grey, and green stays. Light red alone, or blue.",
    ),
)

# --- 6: (N, 32, 32, 3) uint8 to the same, at random


def crop_only(images: Tensor, generator: Generator) -> Tensor:
    padded = F.pad(images, (0, 0, 4, 4, 4, 4))
    corners = torch.randint(9, (len(images), 2), generator=generator).tolist()
    crops = zip(padded, corners, strict=True)
    return torch.stack([image[top : top + 32, left : left + 32] for image, (top, left) in crops])


def one_crop_own_flips(images: Tensor, generator: Generator) -> Tensor:
    padded = F.pad(images, (0, 0, 4, 4, 4, 4))
    top, left = torch.randint(9, (2,), generator=generator)
    images = padded[:, top : top + 32, left : left + 32]
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(2), images)


def always_the_same(images: Tensor, _generator: Generator) -> Tensor:
    return random_crop_flip(images, Generator().manual_seed(0))


AUGMENTATIONS = (
    Subject(
        lambda: random_crop_flip,
        True,
        "`resnet_lib.data.random_crop_flip`",
        "Each image has its own draw. With few copies two may agree by chance (there are 81 crops), so ask for several "
        "different ones among many, not for all different.",
    ),
    Subject(
        lambda: augment,
        False,
        "the function above",
        "It gives another result each time it is called. Look at the images of *one* call: hand in many copies of one.",
    ),
    Subject(
        lambda: crop_only,
        True,
        "a function that crops and never mirrors",
        "Nobody asked for mirroring. Each image has its own crop here.",
    ),
    Subject(
        lambda: one_crop_own_flips,
        False,
        "a function with one crop for all, but a flip for each",
        "Mirrored or not makes two versions of a copy. If every copy had its own crop, there would be more than two.",
    ),
    Subject(
        lambda: always_the_same,
        False,
        "a function that draws the same crops in every call",
        "Within one call all is well. Call it twice with the same generator: the second batch has to differ.",
    ),
)

# --- 7: mixup, from images, labels, the share of the first, and a generator


def mixed(images: Tensor, labels: Tensor, partners: Tensor, share: float) -> tuple[Tensor, Tensor]:
    targets = F.one_hot(labels, 10)
    return tuple(share * values + (1 - share) * values[partners] for values in (images, targets))


def right_mixup(images: Tensor, labels: Tensor, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    return mixed(images, labels, torch.randperm(len(images), generator=generator), share)


def with_neighbour(images: Tensor, labels: Tensor, share: float, _generator: Generator) -> tuple[Tensor, Tensor]:
    return mixed(images, labels, torch.arange(len(images)).roll(1), share)


def swapped_shares(images: Tensor, labels: Tensor, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    partners = torch.randperm(len(images), generator=generator)
    return mixed(images, labels, partners, share)[0], mixed(images, labels, partners, 1 - share)[1]


def unmixed_labels(images: Tensor, labels: Tensor, share: float, generator: Generator) -> tuple[Tensor, Tensor]:
    return right_mixup(images, labels, share, generator)[0], F.one_hot(labels, 10).float()


MIXUPS = (
    Subject(
        lambda: right_mixup,
        True,
        "a mixup with one permutation",
        "Image and label have the same partner and the same share here. Compare with `torch.allclose`: 0.7 and 1 - 0.3 "
        "differ in the last digit.",
    ),
    Subject(
        lambda: mixup,
        False,
        "the function above",
        "Its images are mixed well, and so are its labels; only they do not belong together. Hand in images that carry "
        "their label in their pixels.",
    ),
    Subject(
        lambda: with_neighbour,
        True,
        "a mixup with the neighbour instead of a random partner",
        "Who the partner is does not matter, as long as it is the same for image and label.",
    ),
    Subject(
        lambda: unmixed_labels,
        False,
        "a mixup that leaves the labels as they were",
        "With a share of 1 nothing is mixed, and labels need no mixing. Take another share.",
    ),
    Subject(
        lambda: swapped_shares,
        False,
        "a mixup that gives the label's share to the partner",
        "With a share of 0.5 both count alike. Take another share.",
    ),
)
