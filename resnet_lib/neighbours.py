"""Which images of one set resemble which of another: the search for near-duplicates of test images in a training set.

No test image of CIFAR-10 is also a training image to the bit, but nearly 300 are one in another crop, size or colour,
or very like one (Barz & Denzler 2020, arXiv:1902.00423). Two descriptions of an image find many of them: its pixels,
and the differences between neighbouring pixels, to which brightness and contrast make no difference.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def pixels(images: Tensor) -> Tensor:
    """(N, H, W, C) uint8 → (N, H · W · C) float32: the pixels, from -128 to 127."""
    # Around 0 the squares are smaller, and float32 rounds their sums less.
    return images.flatten(1).float().sub_(128)


def edges(images: Tensor) -> Tensor:
    """(N, H, W, C) uint8 → (N, D) float32: each pixel's difference to its right and to its lower neighbour.

    Each image's differences are divided by their root mean square, so that contrast does not count. An image of one
    colour has none: all are 0.
    """
    values = images.float()
    across = values[:, :, 1:] - values[:, :, :-1]
    down = values[:, 1:] - values[:, :-1]
    differences = torch.cat([across.flatten(1), down.flatten(1)], dim=1)
    size = differences.square().mean(1, keepdim=True).sqrt()
    return differences / size.clamp(min=torch.finfo(size.dtype).tiny)


def nearest(
    queries: Tensor,
    references: Tensor,
    describe: Callable[[Tensor], Tensor] = pixels,
    count: int = 2,
    chunk: int = 2000,
) -> tuple[Tensor, Tensor]:
    """The `count` nearest of `references` to each of `queries`, the nearest first.

    queries: (N, H, W, C) uint8; references: (M, H, W, C) uint8; describe: `pixels` or `edges`;
    chunk: references that are held in float32 at a time.

    Returns distances (N, count), the root mean square difference of the described images, and positions (N, count) in
    `references`. With `pixels` a distance is in grey levels, from 0 to 255, and exact to 0.1; with `edges` it is
    between 0 and 2, and 1.4, the square root of 2, means that two images have nothing in common.

    Raises ValueError if there are fewer references than `count`.
    """
    if len(references) < count:
        raise ValueError(f"count={count}: there are only {len(references)} references to choose from.")
    wanted = describe(queries)
    wanted_squares = wanted.square().sum(1, keepdim=True)
    squares = torch.empty(len(queries), 0)
    positions = torch.empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(references), chunk):
        described = describe(references[start : start + chunk])
        # |a - b|² = |a|² + |b|² - 2 a·b: one matrix product gives all pairs at once.
        here = (wanted @ described.T).mul_(-2).add_(wanted_squares).add_(described.square().sum(1))
        found = here.topk(min(count, len(described)), largest=False)
        squares = torch.cat([squares, found.values], dim=1)
        positions = torch.cat([positions, found.indices + start], dim=1)
    best = squares.topk(count, largest=False)
    distances = best.values.clamp(min=0).div(wanted.shape[1]).sqrt()
    return distances, positions.gather(1, best.indices)
