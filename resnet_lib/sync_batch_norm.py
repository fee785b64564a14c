"""Batch norm over the images of all processes, so that a batch that is shared out is normalised as one.

Batch norm takes mean and variance over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167). Where P processes share a
batch, each would take them over its own images, and P processes would not compute what one does. `torch.nn`'s
SyncBatchNorm exchanges them, but only on GPUs; this does it on any device, and leaves the modules, their names and
their `state_dict` as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def batch_norm_over_all(model: nn.Module) -> Iterator[None]:
    """Inside the block, every batch norm layer of `model` in training mode normalises over all processes' images.

    All processes must run the same layers in the same order: each layer waits for the others, forward and backward.
    """
    layers = [module for module in model.modules() if type(module).forward is _BatchNorm.forward]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: _BatchNorm, x: Tensor) -> Tensor:
    if not layer.training:
        return _BatchNorm.forward(layer, x)
    mean, variance, count = GlobalMoments.apply(x)
    if layer.track_running_stats:
        layer.num_batches_tracked += 1
        share = 1 / layer.num_batches_tracked.item() if layer.momentum is None else layer.momentum
        layer.running_mean.lerp_(mean.detach(), share)
        layer.running_var.lerp_(variance.detach() * (count / (count - 1)), share)
    # torch's quick kernel takes mean and variance for constants. Their gradients go through scale and shift instead:
    # both keep their values (std / std is 1, mean - mean is 0), but not their derivatives.
    std = (variance + layer.eps).sqrt()
    scale, shift = std.detach() / std, (mean.detach() - mean) / std
    if layer.affine:
        scale, shift = layer.weight * scale, layer.weight * shift + layer.bias
    return F.batch_norm(x, mean.detach(), variance.detach(), scale, shift, training=False, eps=layer.eps)


class GlobalMoments(Function):
    """Mean and variance (over n, not n - 1) of each channel of x (N, C, ...) over all processes, and n."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = (each.double() for each in torch.batch_norm_update_stats(x, None, None, 0.0))
        count = mean.new_tensor([x.numel() / x.shape[1]])
        # Sums can be added up over processes. In float64, where E[x²] - E[x]² loses nothing that float32 would see.
        sums = torch.cat([mean * count, (variance + mean.square()) * count, count])
        dist.all_reduce(sums)
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp_(min=0)
        kind = torch.promote_types(x.dtype, torch.float32)  # as torch's own batch norm keeps them
        mean, variance, count = mean.to(kind), variance.to(kind), count.to(kind)
        ctx.save_for_backward(x, mean, count)
        ctx.mark_non_differentiable(count)
        return mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_variance: Tensor, _: Tensor) -> Tensor:
        x, mean, count = ctx.saved_tensors
        # Every process's loss depends on the common moments.
        grads = torch.cat([grad_mean, grad_variance])
        dist.all_reduce(grads)
        grad_mean, grad_variance = (grads / count).chunk(2)
        slope = 2 * grad_variance
        channels = [-1] + [1] * (x.ndim - 2)
        return torch.addcmul((grad_mean - slope * mean).view(channels), x, slope.view(channels))
