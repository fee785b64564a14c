"""Train a classifier by a named recipe, and measure it.

The loop is the one that notebook 05 writes out; what `fit` adds is a progress bar, checkpoints and errors that help.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from tqdm.auto import tqdm

from resnet_lib import schedules
from resnet_lib.checkpoints import RunState, check_writable, load_checkpoint, save_checkpoint
from resnet_lib.data import BatchLoader, Cifar10

SCHEDULES = ("constant", "multi_step", "cosine", "one_cycle", "linear")


class TrainingDiverged(RuntimeError):
    """The loss or the weights became NaN or infinite; the message names the step and what is kept."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what is kept and how to go on."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run but the model and the data.

    SGD with `momentum` and L2 penalty `weight_decay`, as `torch.optim.SGD` has them; `schedule` is a function of
    `resnet_lib.schedules` and `milestones` (epochs) and `factor` belong to "multi_step"; `warmup_epochs` of linear
    warm-up come before any; `augment` is random crop and flip; `seed` fixes order, augmentation and dropout (the
    first weights are the caller's: `torch.manual_seed` before the model is made).

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
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs={self.epochs}, batch_size={self.batch_size}: both must be at least 1.")
        if not 0 <= self.peak_lr < math.inf:
            raise ValueError(f"peak_lr={self.peak_lr}: expected a finite number, 0 or more.")
        object.__setattr__(self, "milestones", tuple(self.milestones))  # a list would make another recipe of it
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones={self.milestones}: expected epochs in rising order.")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs}: expected 0 to epochs={self.epochs}.")
        if not 0 <= self.seed < 2**32:  # torch's CPU generator would drop the higher bits
            raise ValueError(f"seed={self.seed}: expected 0 to 2³² - 1.")

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

    def scaled_to(self, epochs: int) -> "Recipe":
        """The same recipe in another number of epochs, milestones and warm-up moved in proportion.

        Milestones are rounded to whole epochs, the first epoch excepted: it always has the full rate.
        """
        share = epochs / self.epochs
        milestones = tuple(max(1, round(milestone * share)) for milestone in self.milestones)
        return replace(self, epochs=epochs, milestones=milestones, warmup_epochs=self.warmup_epochs * share)


# The README's run: 150 epochs in batches of 32, a tenth of the rate at each of three epochs.
README_RECIPE = Recipe(epochs=150, batch_size=32, peak_lr=0.1, schedule="multi_step", milestones=(80, 110, 130))
# He et al. 2015, §4.2: 64,000 steps with drops at 32,000 and 48,000, which are these epochs of 391 batches.
HE_2015 = Recipe(epochs=164, batch_size=128, peak_lr=0.1, schedule="multi_step", milestones=(82, 123))
RECIPES = {"readme": README_RECIPE, "he2015": HE_2015}


def pick_device(device: str = "auto") -> torch.device:
    """ "auto": an NVIDIA GPU if there is one, else the CPU. Raises ValueError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"device={device!r} cannot be used here ({str(error).splitlines()[0]}). Try 'cpu'.") from error
    return torch.device(device)


def fit(
    model: nn.Module,
    train: Cifar10,
    recipe: Recipe,
    evaluate_on: Cifar10 | None = None,
    *,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train `model` in place and return its history, a row per epoch.

    Columns: epoch (from 0), lr (at the epoch's first step), train_loss and train_accuracy (means over the epoch's
    augmented batches, while the weights move), <split>_accuracy of `evaluate_on` after the epoch, seconds (training
    and evaluation), images_per_second (training alone). No epoch is chosen: the model ends as the last one leaves it.

    checkpoint: a file written after each epoch; if it is there, the run goes on from it and ends with the same
        weights and history as one that was never stopped: to the bit on a CPU of the same kind with as many threads
        (GPU kernels may add up in another order each time).
    on_epoch: called with the history so far after each epoch, when its checkpoint is written.
    On a GPU that has bfloat16 the forward pass runs in it (`torch.autocast`); on the CPU all is float32.
    Gradients too small for normal floats count as 0 in the whole process (`torch.set_flush_denormal`): CPUs are
    many times slower on them.

    Raises TrainingDiverged if the loss or the weights are not finite, TrainingInterrupted on Ctrl-C, CheckpointError
    if the checkpoint is damaged, of another run, or cannot be written: all but a full disk before the first step.
    """
    torch.set_flush_denormal(True)
    torch.manual_seed(recipe.seed)
    model.to(pick_device(device), memory_format=torch.channels_last)
    loader = BatchLoader(train, recipe.batch_size, augment=recipe.augment, shuffle=True, seed=recipe.seed)
    state = RunState(model, make_optimizer(model, recipe), _identity(model, train, recipe, evaluate_on))
    checkpoint = Path(checkpoint) if checkpoint is not None else None
    if checkpoint is not None and checkpoint.exists():
        load_checkpoint(checkpoint, state)
    done = len(state.history)
    if checkpoint is not None and done < recipe.epochs:
        check_writable(checkpoint)
    total = recipe.epochs * len(loader)
    with tqdm(total=total, initial=done * len(loader), unit="step", dynamic_ncols=True, disable=not progress) as bar:
        try:
            for epoch in range(done, recipe.epochs):
                state.history.append(_run_epoch(state, loader, recipe, epoch, evaluate_on, bar))
                if checkpoint is not None:
                    save_checkpoint(checkpoint, state)
                if on_epoch is not None:
                    on_epoch(pd.DataFrame(state.history))
        except KeyboardInterrupt:
            advice = "Run the same again to go on from there." if state.saved_epochs else ""
            raise TrainingInterrupted(f"Stopped. {_kept(state, checkpoint)} {advice}".rstrip()) from None
        except TrainingDiverged as error:
            advice = "A new run with a lower peak_lr, or with a warm-up, often helps."
            raise TrainingDiverged(f"{error} {advice} {_kept(state, checkpoint)}") from None
    return pd.DataFrame(state.history)


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """SGD as the recipe has it, over all parameters."""
    return SGD(
        model.parameters(),
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def _run_epoch(
    state: RunState, loader: BatchLoader, recipe: Recipe, epoch: int, evaluate_on: Cifar10 | None, bar: tqdm
) -> dict[str, float]:
    """Train for one epoch, evaluate, and return the history's row."""
    start = time.perf_counter()
    state.model.train()
    interval = 1 / len(loader)
    loss_sum = correct = 0
    for step, (images, labels) in enumerate(loader.epoch(epoch)):
        lr = recipe.learning_rate(epoch + step / len(loader), interval)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        loss, hits = train_step(state.model, state.optimizer, images, labels, recipe.label_smoothing)
        if not math.isfinite(loss):
            raise TrainingDiverged(f"The loss became {loss} in epoch {epoch}, step {step} (both counted from 0).")
        loss_sum += loss * len(labels)
        correct += hits
        bar.update()
    # The last step's loss is that of the weights before it, so it says nothing of what is about to be saved.
    if not all(value.isfinite().all() for value in chain(state.model.parameters(), state.model.buffers())):
        raise TrainingDiverged(f"The weights became NaN or infinite by the end of epoch {epoch}, step {step}.")
    count = len(loader.data)
    row = {"epoch": epoch, "lr": recipe.learning_rate(epoch, interval)}
    row |= {"train_loss": loss_sum / count, "train_accuracy": correct / count}
    images_per_second = count / (time.perf_counter() - start)
    measured = f"loss {row['train_loss']:.2f}"
    if evaluate_on is not None:
        row[f"{evaluate_on.split}_accuracy"] = accuracy = evaluate(state.model, evaluate_on)
        measured = f"{evaluate_on.split} {accuracy:.1%}"
    bar.set_postfix_str(f"{epoch + 1}/{recipe.epochs} epochs, {measured}")
    return row | {"seconds": time.perf_counter() - start, "images_per_second": images_per_second}


def train_step(
    model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor, label_smoothing: float = 0.0
) -> tuple[float, int]:
    """One step of gradient descent on one batch: its mean loss, and how many of its images were classified right.

    Where the loss is not finite, weights and optimiser stay as they are.
    """
    device = next(model.parameters()).device
    images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    optimizer.zero_grad(set_to_none=True)
    with _autocast(device):
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    value = loss.item()
    if math.isfinite(value):
        loss.backward()
        optimizer.step()
    return value, int((logits.argmax(1) == labels).sum())


def predict(model: nn.Module, data: Cifar10, batch_size: int = 500) -> Tensor:
    """Logits (N, classes) float32 on the CPU, in evaluation mode; every module's own mode is put back afterwards."""
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(), _autocast(device):
            logits = [model(images.to(device)).float().cpu() for images, _ in BatchLoader(data, batch_size)]
    finally:
        for module, training in modes:
            module.training = training
    return torch.cat(logits)


def evaluate(model: nn.Module, data: Cifar10) -> float:
    """The share of images classified right, from 0 to 1."""
    return (predict(model, data).argmax(1) == data.labels).double().mean().item()


def _autocast(device: torch.device) -> torch.autocast:
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _identity(model: nn.Module, train: Cifar10, recipe: Recipe, evaluate_on: Cifar10 | None) -> dict[str, str]:
    # Only what is not a default: a setting that the library gains later leaves older checkpoints usable.
    chosen = {
        item.name: getattr(recipe, item.name) for item in fields(recipe) if getattr(recipe, item.name) != item.default
    }
    settings = "\n".join(f"{name}: {value}" for name, value in chosen.items())
    return {"model": str(model), "recipe": settings, "data": f"{train}\nevaluated on {evaluate_on}"}


def _kept(state: RunState, checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "No checkpoint was asked for, so only the model in memory is left, as the last step made it."
    if state.saved_epochs == 0:
        return "No epoch was finished, so there is no checkpoint yet."
    finished = f"the first {state.saved_epochs} epochs" if state.saved_epochs > 1 else "the first epoch"
    return f"{checkpoint} keeps {finished}."
