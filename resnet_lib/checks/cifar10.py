"""Exercises on the data: mirroring, crops, the error of an accuracy, near-duplicates and what they do."""

import torch
from torch import Tensor

from resnet_lib.checks.verdicts import check_function, check_number
from resnet_lib.neighbours import nearest


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


def nearest_either_way(function: object) -> None:
    """The reader's nearest_either_way(test_images, train_images): the nearest training image, mirrored or not."""
    check_function(
        function,
        lambda a, b: _either_way(a, b).amin(1).argmin(1),
        _images_with_duplicates(),
        "section 6, and exercise 1: which axis is mirrored, and what are `nearest`'s two results?",
        "Whichever way round it is, the position is that of one of the M training images.",
        [
            (lambda a, b: _distances(a, b).argmin(1), "That is the search of section 6: it misses the mirrored ones."),
            (
                lambda a, b: _distances(a, b.flip(2)).argmin(1),
                "That looks at mirrored images alone, and misses the duplicates that are not mirrored.",
            ),
            (
                lambda a, b: _either_way(a, b).flatten(1).argmin(1),
                "Position M + i of the joined set is the mirror image of training image i: take the remainder, % M.",
            ),
            (
                lambda a, b: _either_way(a, b).flatten(1).topk(2, largest=False).indices,
                "`nearest` gives the two nearest: take the first column. And position M + i is training image i.",
            ),
            (
                lambda a, b: _either_way(a, b).flatten(1).topk(2, largest=False).indices % len(b),
                "`nearest` gives the two nearest, and you return both: take the first column, [:, 0].",
            ),
            (
                lambda a, b: torch.minimum(_distances(a, b), _distances(a, b.flip(1))).argmin(1),
                "That tries the images upside down: axis 1 is the rows. A mirror exchanges the columns.",
            ),
            (
                lambda a, b: torch.cat([_distances(a, b), _distances(a.flip(2), b)]).argmin(1),
                "That is one result for each test image, then one for each mirror image. Which of the two is nearer?",
            ),
            (
                lambda a, b: _either_way(a, b).argmin(2).amin(1),
                "You took the smaller of two *positions*. The nearer image is the one at the smaller distance.",
            ),
            (
                lambda a, b: _either_way(a, b).argmin(2).amax(1),
                "You took the larger of two *positions*. The nearer image is the one at the smaller distance.",
            ),
            (_from_the_worse_search, "Of the two searches you trust the one that found the *farther* image."),
            (
                lambda a, b: _either_way(a, b).sum(1).argmin(1),
                "You added the distances up: an image would have to be near both ways round. One is enough.",
            ),
            (
                lambda a, b: nearest(a, torch.cat([b, b.flip(2)]))[0][:, 0],
                "That is how far the nearest one is, not which: `nearest` gives distances first, then positions.",
            ),
        ],
    )


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, H, W, C) and (M, H, W, C) → (N, M)."""
    return torch.cdist(a.flatten(1).double(), b.flatten(1).double())


def _either_way(a: Tensor, b: Tensor) -> Tensor:
    """(N, H, W, C) and (M, H, W, C) → (N, 2, M): the distances to b as it is, and to b mirrored."""
    return torch.stack([_distances(a, b), _distances(a, b.flip(2))], dim=1)


def _from_the_worse_search(a: Tensor, b: Tensor) -> Tensor:
    both = _either_way(a, b)
    worse = both.amin(2).argmax(1, keepdim=True)
    return both.argmin(2).gather(1, worse).squeeze(1)


def _images_with_duplicates() -> list[tuple[Tensor, Tensor]]:
    """Two pairs of small sets: the first images are some of the second, slightly changed, and half of them mirrored."""
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(20, 236, (30, 8, 8, 3), generator=generator)
    # A symmetric one, of the others' contrast: being near both ways round is not being nearest.
    train[29] = 128 + (train[27] + train[27].flip(1) - 256) / 2**0.5
    noise = torch.randint(-20, 21, (6, 8, 8, 3), generator=generator)
    test = train[[21, 3, 14, 8, 27, 5]] + noise
    test[::2] = test[::2].flip(2)
    train, test = train.clamp(0, 255).byte(), test.clamp(0, 255).byte()
    return [(test, train), (test[2:], train[:15])]


def accuracy_without_duplicates(answer: object) -> None:
    """The accuracy on the other images, when 94.4% of all and every one of the 2.9% with a duplicate are right."""
    all_right, duplicates = 0.944, 0.029
    check_number(
        answer,
        (all_right - duplicates) / (1 - duplicates),
        "0.942, two tenths of a point lower: as much as separates many published results.",
        "a share of the images without a duplicate, from 0 to 1, with three digits or more",
        "count in images: of 10,000, how many are right, and how many of those have a duplicate?",
        {
            all_right - duplicates: "Those without a duplicate are fewer than 10,000: divide by their number.",
            all_right
            * (1 - duplicates): "That is the share of right ones if duplicates were as hard as the others, among all.",
            all_right / (1 - duplicates): "The right answers on duplicates must come off the numerator too.",
            all_right: "If duplicates are always right, the others must be right less often than the mean of both.",
            100 * (all_right - duplicates) / (1 - duplicates): "That is in percent; here it is a share, from 0 to 1.",
            94.2: "That is in percent; here it is a share, from 0 to 1.",
            (all_right - duplicates)
            / all_right: "That is the share of those without a duplicate among the right answers.",
        },
        rel_tol=6e-4,
    )
