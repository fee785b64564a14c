"""Learning-rate schedules as pure functions of the epoch, and the README's `adjust_learning_rate`.

`epoch` counts from 0 and may be a fraction: 2.5 is half-way through the third epoch. The same arguments give the
same rate whatever came before, so a resumed run needs no state. Each function equals the scheduler of
`torch.optim.lr_scheduler` that its docstring names.
"""

import math
from collections.abc import Sequence

from torch.optim import Optimizer


def constant(epoch: float, peak_lr: float) -> float:
    """`peak_lr` throughout. Equals `ConstantLR(factor=1)`."""
    return peak_lr


def multi_step(epoch: float, peak_lr: float, milestones: Sequence[float], factor: float = 0.1) -> float:
    """`peak_lr`, multiplied by `factor` at each milestone reached (in epochs). Equals `MultiStepLR`."""
    return peak_lr * factor ** sum(epoch >= milestone for milestone in milestones)


def cosine(epoch: float, peak_lr: float, epochs: float) -> float:
    """Half a cosine wave from `peak_lr` at epoch 0 to 0 at `epochs`. Equals `CosineAnnealingLR(T_max=epochs)`.

    Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983, §3, without restarts.
    """
    return peak_lr * (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2


def linear(epoch: float, peak_lr: float, epochs: float) -> float:
    """A line from `peak_lr` at epoch 0 to 0 at `epochs`. Equals `LinearLR(1, 0, total_iters=epochs)`."""
    return peak_lr * (1 - min(epoch / epochs, 1))


def one_cycle(
    epoch: float,
    peak_lr: float,
    epochs: float,
    rise: float = 0.3,
    start_factor: float = 1 / 25,
    end_factor: float = 1e-4,
    interval: float = 1,
) -> float:
    """Up from `start_factor · peak_lr` for a share `rise` of the run, then down, both along cosines.

    It ends at `start_factor · end_factor · peak_lr`. `interval` is the time between two updates in epochs: 1 for an
    update an epoch, 1 / steps_per_epoch for an update a step; the last update gets the last rate.
    Equals `OneCycleLR(total_steps=epochs / interval)`. Smith & Topin 2017, "Super-Convergence", arXiv:1708.07120.

    Raises ValueError if the rise or the fall has no update of its own, where `OneCycleLR` divides by zero or starts
    after the peak.
    """
    if not interval < rise * epochs < epochs:
        raise ValueError(
            f"A rise over {rise:g} of {epochs:g} epochs, with an update every {interval:g} epochs, has no room: "
            "expected interval < rise · epochs < epochs. Train for longer, or update more often."
        )
    start_lr, end_lr = start_factor * peak_lr, start_factor * end_factor * peak_lr
    peak_epoch, last_epoch = rise * epochs - interval, epochs - interval
    if epoch <= peak_epoch:
        return _cosine_between(start_lr, peak_lr, epoch / peak_epoch)
    return _cosine_between(peak_lr, end_lr, min((epoch - peak_epoch) / (last_epoch - peak_epoch), 1))


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def warmup_factor(epoch: float, warmup_epochs: float, start_factor: float = 0.1) -> float:
    """What to multiply any schedule by: a line from `start_factor` at epoch 0 to 1 at `warmup_epochs`, then 1.

    The schedule's own clock runs on meanwhile, so milestones keep their meaning. Equals
    `LinearLR(start_factor, total_iters=warmup_epochs)`, chained with the other scheduler.
    """
    if epoch >= warmup_epochs:
        return 1.0
    return start_factor + (1 - start_factor) * epoch / warmup_epochs


def adjust_learning_rate(
    base_lr: float, optimizer: Optimizer, epoch: int, epoch_list: Sequence[int] | None = None
) -> float:
    """Set every parameter group's rate to `base_lr`, times 0.1 for each epoch of `epoch_list` reached; return it.

    `base_lr` is the rate at the start of the run, the same in every call. Without `epoch_list` the rate stays there.
    """
    lr = multi_step(epoch, base_lr, () if epoch_list is None else epoch_list)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr
