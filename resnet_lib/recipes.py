"""Recipes: everything that decides a training run but the model and the data."""

import math
from dataclasses import dataclass, replace
from numbers import Integral

from torch import nn
from torch.optim import SGD, Optimizer

from resnet_lib import schedules
from resnet_lib.data import BatchLoader, Cifar10

SCHEDULES = ("constant", "multi_step", "cosine", "one_cycle", "linear")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run but the model and the data.

    SGD with `momentum` and L2 penalty `weight_decay`, as `torch.optim.SGD` has them; `schedule` is a function of
    `resnet_lib.schedules` and `milestones` (epochs) and `factor` belong to "multi_step"; `warmup_epochs` of linear
    warm-up multiply the first rates of any; `augment` is random crop and flip; `seed` fixes order, augmentation and
    dropout (the first weights are the caller's: `torch.manual_seed` before the model is made).

    Raises ValueError on a setting that cannot be.
    """

    epochs: int
    batch_size: int
    peak_lr: float
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    augment: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r}: expected one of {', '.join(map(repr, SCHEDULES))}.")
        self._check_whole("epochs", "batch_size", "seed")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs={self.epochs}, batch_size={self.batch_size}: both must be at least 1.")
        if not 0 <= self.peak_lr < math.inf:
            raise ValueError(f"peak_lr={self.peak_lr}: expected a finite number, 0 or more.")
        object.__setattr__(self, "milestones", tuple(self.milestones))  # a list would make another recipe of it
        if list(self.milestones) != sorted(self.milestones) or not all(epoch >= 0 for epoch in self.milestones):
            raise ValueError(f"milestones={self.milestones}: expected epochs in rising order, 0 or more.")
        if not 0 < self.factor < math.inf:
            raise ValueError(f"factor={self.factor}: expected a finite number above 0.")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs}: expected 0 to epochs={self.epochs}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}: expected 0 or more, and less than 1.")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True, momentum=0: Nesterov's steps need a momentum.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay={self.weight_decay}: expected a finite number, 0 or more.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing}: expected 0 or more, and less than 1.")
        if not 0 <= self.seed < 2**32:  # torch's CPU generator would drop the higher bits
            raise ValueError(f"seed={self.seed}: expected 0 to 2³² - 1.")

    def _check_whole(self, *names: str) -> None:
        for name in names:
            if not isinstance(getattr(self, name), Integral):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected a whole number.")

    def learning_rate(self, epoch: float, interval: float = 1) -> float:
        """The rate at `epoch` (0 is the start, 2.5 half-way through the third); `interval`: see `one_cycle`."""
        if self.schedule == "multi_step":
            lr = schedules.multi_step(epoch, self.peak_lr, self.milestones, self.factor)
        elif self.schedule == "cosine":
            lr = schedules.cosine(epoch, self.peak_lr, self.epochs)
        elif self.schedule == "one_cycle":
            lr = schedules.one_cycle(epoch, self.peak_lr, self.epochs, interval=interval)
        elif self.schedule == "linear":
            lr = schedules.linear(epoch, self.peak_lr, self.epochs)
        else:
            lr = schedules.constant(epoch, self.peak_lr)
        return lr * schedules.warmup_factor(epoch, self.warmup_epochs)

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """SGD over all parameters. `fit` multiplies a group's rate by its "lr_factor", if it has one."""
        return SGD(
            model.parameters(),
            lr=self.peak_lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )

    def make_loader(self, data: Cifar10, rank: int = 0, world_size: int = 1) -> BatchLoader:
        """Shuffled batches of `data`, or the share of them that process `rank` has."""
        return BatchLoader(data, self.batch_size, self.augment, True, self.seed, rank, world_size)

    def scaled_to(self, epochs: int) -> "Recipe":
        """The same recipe in another number of epochs, milestones and warm-up moved in proportion.

        Milestones are rounded to whole epochs, and none falls on the start.
        """
        share = epochs / self.epochs
        milestones = tuple(max(1, round(milestone * share)) for milestone in self.milestones)
        return replace(self, epochs=epochs, milestones=milestones, warmup_epochs=self.warmup_epochs * share)


# The README's run: 150 epochs in batches of 32, a tenth of the rate at each of three epochs.
README_RECIPE = Recipe(epochs=150, batch_size=32, peak_lr=0.1, schedule="multi_step", milestones=(80, 110, 130))
# He et al. 2015, §4.2: 64,000 steps with drops at 32,000 and 48,000, which are these epochs of 391 batches.
HE_2015 = Recipe(epochs=164, batch_size=128, peak_lr=0.1, schedule="multi_step", milestones=(82, 123))
RECIPES = {"readme": README_RECIPE, "he2015": HE_2015}
