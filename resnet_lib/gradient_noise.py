"""How much the gradient of a mini-batch strays from the gradient it stands for, and how far a step along it may go.

McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", arXiv:1812.06162, §2.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from resnet_lib.probes import forward_loss


@dataclass(frozen=True)
class GradientNoise:
    """Gradients of mini-batches around their mean.

    gradients: (batches, parameters) float32, a row a mini-batch, parameters in the order of `model.parameters()`.
    mean: (parameters,); over all batches of an epoch it is the gradient of the epoch's mean loss.
    """

    gradients: Tensor
    mean: Tensor

    @property
    def signal(self) -> float:
        """Euclidean norm of the mean."""
        return self.mean.double().norm().item()

    @property
    def noise(self) -> float:
        """Root mean square distance of a batch's gradient from the mean: sqrt(mean |g - mean|²)."""
        return (self.gradients - self.mean).double().square().sum(1).mean().sqrt().item()

    @property
    def ratio(self) -> float:
        """Noise over signal; infinite where the mean is exactly 0."""
        return self.noise / self.signal if self.signal > 0 else math.inf


def measure_gradient_noise(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> GradientNoise:
    """The gradient of the mean cross-entropy of each batch, and how these gradients stray.

    batches: images and labels as `resnet_lib.data.BatchLoader` gives them, of one size for a mean without weights.
    The model is in the mode it is in (with batch norm in train mode, a batch's own statistics are part of its
    gradient, as they are in training) and is left as it was. What the loss does not depend on has gradient 0.

    Raises ValueError on fewer than two batches, or batches of unequal size.
    """
    rows, sizes = [], set()
    for images, labels in batches:
        loss, leaves = forward_loss(model, images, labels)
        parts = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        rows.append(torch.cat([part.flatten().cpu() for part in parts]))
        sizes.add(len(labels))
    if len(rows) < 2 or len(sizes) > 1:
        raise ValueError(
            f"{len(rows)} batches of {sorted(sizes)} images: expected two or more batches of one size. Leave out the "
            "smaller last one."
        )
    gradients = torch.stack(rows)
    return GradientNoise(gradients, gradients.mean(0))


def loss_along(
    model: nn.Module, images: Tensor, labels: Tensor, direction: Tensor, lengths: Sequence[float]
) -> list[float]:
    """The mean cross-entropy on these images at w - length · direction, for each of the lengths.

    images: (N, 3, H, W) float, normalised; labels: (N,) int64; direction: (parameters,), in the order of
    `model.parameters()`, such as a row of `GradientNoise.gradients`. The model is in the mode it is in, and is left
    as it was.

    Raises ValueError if the direction has another length than the parameters together.
    """
    parameters = dict(model.named_parameters())
    sizes = [value.numel() for value in parameters.values()]
    if direction.shape != (sum(sizes),):
        raise ValueError(f"direction of shape {tuple(direction.shape)}: the model has {sum(sizes):,} parameters.")
    device = next(iter(parameters.values())).device
    images, labels = images.to(device), labels.to(device)
    parts = {
        name: part.view_as(value).to(device)
        for (name, value), part in zip(parameters.items(), direction.split(sizes), strict=True)
    }
    losses = []
    with torch.no_grad():
        for length in lengths:
            moved = {name: value - length * parts[name] for name, value in parameters.items()}
            buffers = {name: value.clone() for name, value in model.named_buffers()}
            losses.append(F.cross_entropy(functional_call(model, moved | buffers, (images,)), labels).item())
    return losses
