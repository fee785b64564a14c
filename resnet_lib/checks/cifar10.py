"""Exercises on the data: mirroring, crops, the error of an accuracy, nearest images, what near-duplicates do."""

import torch
from torch import Tensor

from resnet_lib.checks.verdicts import check_function, check_number


def mirrored(function: object) -> None:
    """The reader's mirrored(images): a batch (N, 32, 32, 3), left and right exchanged."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4, 32, 32, 3), generator=generator, dtype=torch.uint8)
    check_function(
        function,
        lambda images: images.flip(2),
        [(images,), (images[:1],)],
        "the order of the axes: image, row, column, channel",
        "Columns are the third axis, number 2: counted from 0, after image and row.",
        [
            (lambda images: images.flip(1), "That turns the images upside down: axis 1 is the rows."),
            (lambda images: images.flip(3), "That exchanges red and blue: the last axis is the channels."),
            (lambda images: images.flip(0), "That reverses the order of the images: axis 0 counts them."),
            (lambda images: images.flip(1, 2), "That turns by half a circle: rows and columns are both reversed."),
            (lambda images: images.transpose(1, 2), "That exchanges rows with columns: a mirror along the diagonal."),
            (lambda images: images, "Your images are as they were. `flip` returns a new tensor and leaves its own."),
        ],
    )


def versions_with_padding_two(answer: object) -> None:
    """How many images crop and flip can make of one with padding 2: 5 · 5 · 2."""
    check_number(
        answer,
        50,
        "Five places from side to side, five from top to bottom, and each of the 25 also mirrored.",
        "a count of images",
        "section 3: how many places has the window in a padded image of 36 pixels, each way?",
        {
            25: "That is without the mirror: each of them also comes mirrored.",
            32: "A window can be moved by 0, 1, 2, 3 or 4 pixels from the edge: five places, not four.",
            16: "A window can be moved by 0, 1, 2, 3 or 4 pixels from the edge: five places; and there is the mirror.",
            18: "The window can also be moved by a single pixel: -2, -1, 0, 1 and 2 are five places each way.",
            10: "The window moves in both directions independently: 5 times 5 places.",
            20: "Places and mirror are chosen independently: multiply.",
            162: "That is for a padding of 4: nine places each way.",
            1296: "36 by 36 is the number of pixels of the padded image, not of the places of a window.",
        },
    )


def deviation_of_an_accuracy(answer: object) -> None:
    """The standard deviation of the accuracy on 1,000 images of a network that is right with probability 0.9."""
    check_number(
        answer,
        (0.9 * 0.1 / 1000) ** 0.5,
        "About one point: on the bundled test images, differences of a point or two between networks say little.",
        "a share of images, with two digits or more",
        "section 5: sqrt(p (1 - p) / n)",
        {
            0.949: "That is in points. As a share it is a hundredth of that.",
            90**0.5: "That is for the number of right images. Their share is a thousandth of that.",
            0.3: "That is for a single image, right or wrong. The mean of n has sqrt(n) times less.",
            0.09: "That is p (1 - p), a variance, and of a single image.",
            9e-5: "That is the variance. The deviation is its square root.",
            3e-4: "The variance is divided by n, so the deviation by sqrt(n).",
            0.03: "That takes p in place of p (1 - p): a network that is always right would have no deviation at all.",
            0.003: "That is for all 10,000 test images. The question has 1,000.",
            1000**-0.5: "1 / sqrt(n) is there, but not yet how much a single image varies: sqrt(p (1 - p)).",
        },
        rel_tol=5e-3,
    )


def nearest_position(function: object) -> None:
    """The reader's nearest_position(test_images, train_images): for each test image the nearest training image."""

    def distances(a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a.flatten(1).double(), b.flatten(1).double())

    def wrapped(a: Tensor, b: Tensor) -> Tensor:
        return (a.flatten(1)[:, None] - b.flatten(1)[None]).square().sum(2).argmin(1)

    def square_wrapped(a: Tensor, b: Tensor) -> Tensor:
        return (a.flatten(1)[:, None] - b.flatten(1)[None]).float().square().sum(2).argmin(1)

    def product(a: Tensor, b: Tensor) -> Tensor:
        return a.flatten(1).double() @ b.flatten(1).double().T

    check_function(
        function,
        lambda a, b: distances(a, b).argmin(1),
        _images_with_twins(),
        "the function `nearest_two` of section 6",
        "One position for each test image: the smallest squared difference, in numbers that can be negative.",
        [
            (
                wrapped,
                "The difference was taken in uint8, which knows no negative numbers: 3 - 5 is 254 there. "
                "Make them `.float()` first.",
            ),
            (
                square_wrapped,
                "The difference was taken in uint8, where 3 - 5 is 254; make them `.float()` before, not after.",
            ),
            (
                lambda a, b: product(a, b).argmax(1),
                "The largest product finds the brightest image. The squares of both belong to a distance too.",
            ),
            (
                lambda a, b: product(a, b).argmin(1),
                "The smallest product finds the darkest image. The squares of both belong to a distance too.",
            ),
            (
                lambda a, b: (a.flatten(1).double().sum(1)[:, None] - b.flatten(1).double().sum(1)).abs().argmin(1),
                "That compares the images' brightness. Take the differences pixel by pixel, then add their squares up.",
            ),
            (lambda a, b: distances(a, b).argmax(1), "That finds the farthest image: argmin, not argmax."),
            (
                lambda a, b: distances(a, b).argmin(0),
                "That finds a test image for each training image; the question is the other way round.",
            ),
            (
                lambda a, b: distances(a, b).argmin(1, keepdim=True),
                "Right positions, but in a column, (N, 1): take it out with [:, 0].",
            ),
            (lambda a, b: distances(a, b).min(1).values, "That is how far the nearest one is, not which one it is."),
            (
                lambda a, b: distances(a, b).square().min(1).values,
                "That is how far the nearest one is, squared, not which one it is.",
            ),
        ],
    )


def _images_with_twins() -> list[tuple[Tensor, Tensor]]:
    """Two pairs of small sets: the first images are some of the second, darker by a little."""
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(40, 216, (30, 8, 8, 3), generator=generator)
    brightness = torch.linspace(-40, 40, 30).long().roll(7)  # the darkest is not the first
    train = (train + brightness[:, None, None, None]).clamp(0, 255).byte()
    noise = torch.randint(-20, 5, (5, 8, 8, 3), generator=generator)
    test = (train[[21, 3, 14, 8, 27]] + noise).clamp(0, 255).byte()
    return [(test, train), (test[:2], train[:12])]


def accuracy_without_twins(answer: object) -> None:
    """The accuracy on the other images, when 94.4% of all and every one of the 2.9% with a twin are right."""
    all_right, twins = 0.944, 0.029
    check_number(
        answer,
        (all_right - twins) / (1 - twins),
        "0.942, two tenths of a point lower: as much as separates many published results.",
        "a share of the images without a twin, from 0 to 1, with three digits or more",
        "count in images: of 10,000, how many are right, and how many of those have a twin?",
        {
            all_right - twins: "Those without a twin are fewer than 10,000: divide by their number.",
            all_right * (1 - twins): "That is the share of right ones if twins were as hard as the others, among all.",
            all_right / (1 - twins): "The right answers on twins must come off the numerator too.",
            all_right: "If twins are always right, the others must be right less often than the mean of both.",
            100 * (all_right - twins) / (1 - twins): "That is in percent; here it is a share, from 0 to 1.",
            94.2: "That is in percent; here it is a share, from 0 to 1.",
            (all_right - twins) / all_right: "That is the share of those without a twin among the right answers.",
        },
        rel_tol=6e-4,
    )
