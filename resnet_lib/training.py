"""Train a classifier by a named recipe, and measure it.

The loop is the one that notebook 05 writes out; what `fit` adds is a progress bar, checkpoints and errors that help.
"""

import ctypes
import math
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from tqdm.auto import tqdm

from resnet_lib import distributed
from resnet_lib.checkpoints import RunState, check_writable, load_checkpoint, save_checkpoint
from resnet_lib.data import BatchLoader, Cifar10
from resnet_lib.probes import modes_kept

# Recipes are to be had from here too: who trains needs one.
from resnet_lib.recipes import HE_2015 as HE_2015
from resnet_lib.recipes import README_RECIPE as README_RECIPE
from resnet_lib.recipes import RECIPES as RECIPES
from resnet_lib.recipes import SCHEDULES as SCHEDULES
from resnet_lib.recipes import Recipe

# Parameters of glibc's mallopt, from its malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


class TrainingDiverged(RuntimeError):
    """The loss or the weights became NaN or infinite; the message names the step and what is kept."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what is kept and how to go on."""


def pick_device(device: str = "auto") -> torch.device:
    """ "auto": an NVIDIA GPU if there is one, else the CPU; under torchrun each process its own GPU.

    Raises ValueError for a device that is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = distributed.own_gpu(torch.device(device))  # first: to touch another process's GPU takes its memory
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"device={device!r} cannot be used here ({str(error).splitlines()[0]}). Try 'cpu'.") from error
    return chosen


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
    local_batch_norm: bool = False,
) -> pd.DataFrame:
    """Train `model` in place and return its history, a row per epoch.

    Columns: epoch (from 0), lr (at the epoch's first step), train_loss and train_accuracy (means over the epoch's
    augmented batches, while the weights move), <split>_accuracy of `evaluate_on` after the epoch, seconds (training
    and evaluation), images_per_second (training alone). No epoch is chosen: the model ends as the last one leaves it.

    checkpoint: a file written after each epoch; if it is there, the run goes on from it and ends with the same
        weights and history as one that was never stopped: to the bit on a CPU of the same kind with as many threads
        (GPU kernels may add up in another order each time).
    on_epoch: called with the history so far after each epoch, when its checkpoint is written.
    local_batch_norm: see below.
    Under torchrun (`resnet_lib.distributed`) all processes call `fit` alike and train one model: recipe.batch_size
    stays the images of all together, and it ends with the same weights as one process, to float32 rounding (dropout
    excepted). Process 0 alone reads and writes the checkpoint, which fits any number of processes; `on_epoch` is called
    in all. With local_batch_norm each normalises by its own images: less to wait for, but another result.
    On a GPU that has bfloat16 the forward pass runs in it (`torch.autocast`); on the CPU all is float32.
    Three things are set for the whole process, and stay: torch's random state begins at the recipe's seed; gradients
    too small for normal floats count as 0 (`torch.set_flush_denormal`), as CPUs are many times slower on them; and on
    Linux freed memory is kept for the next step (`keep_freed_memory`).

    Raises ValueError on an `evaluate_on` without images, TrainingDiverged if the loss or the weights are not finite,
    TrainingInterrupted on Ctrl-C, CheckpointError if the checkpoint is damaged, of another run, or cannot be written:
    all but a full disk before the first step.
    """
    if evaluate_on is not None and len(evaluate_on) == 0:
        raise ValueError(f"{evaluate_on} has no images to evaluate on. For none at all: evaluate_on=None.")
    torch.set_flush_denormal(True)
    keep_freed_memory()
    torch.manual_seed(recipe.seed)
    chosen_device = pick_device(device)
    model.to(chosen_device, memory_format=torch.channels_last)
    loader = recipe.make_loader(train, distributed.rank(), distributed.world_size())
    identity = _identity(model, train, recipe, evaluate_on)
    if local_batch_norm and distributed.world_size() > 1:
        identity["batch norm"] = f"local, {distributed.world_size()} processes"
    state = RunState(model, recipe.make_optimizer(model), identity)
    checkpoint = Path(checkpoint) if checkpoint is not None else None
    with distributed.together(chosen_device):
        if checkpoint is not None:
            if distributed.from_main(checkpoint.exists):
                load_checkpoint(checkpoint, state)
            if len(state.history) < recipe.epochs:
                check_writable(checkpoint)
        with (
            _telling_what_is_kept(state, checkpoint),
            distributed.replicated(model, local_batch_norm) as network,
            tqdm(
                total=recipe.epochs * len(loader),
                initial=len(state.history) * len(loader),
                unit="step",
                dynamic_ncols=True,
                disable=not (progress and distributed.is_main()),
            ) as bar,
        ):
            while len(state.history) < recipe.epochs:
                state.history.append(_run_epoch(state, network, loader, recipe, evaluate_on, bar))
                if checkpoint is not None:
                    save_checkpoint(checkpoint, state)
                if on_epoch is not None:
                    on_epoch(pd.DataFrame(state.history))
    return pd.DataFrame(state.history)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for its next tensors. Where the C library is not glibc: nothing.

    glibc hands large blocks back to Linux at once, and a training step frees and asks for all of its tensors anew: each
    4 kB of them then cost a page fault. See `man 3 mallopt`; benchmarks/README.md has what it is worth.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # musl, for one, has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        # Smaller blocks come from the heap; before 2.35 glibc takes 32 MB at most. And the heap does not shrink: but
        # not alone, since to set either of them ends glibc's own choice of the first.
        if mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25):
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def _telling_what_is_kept(state: RunState, checkpoint: Path | None) -> Iterator[None]:
    """Whatever stops the training, its message says how much of it is safe."""
    try:
        yield
    except KeyboardInterrupt:
        advice = "Run the same again to go on from there." if state.saved_epochs else ""
        raise TrainingInterrupted(f"Stopped. {_kept(state, checkpoint)} {advice}".rstrip()) from None
    except TrainingDiverged as error:
        advice = "A new run with a lower peak_lr, or with a warm-up, often helps."
        raise TrainingDiverged(f"{error} {advice} {_kept(state, checkpoint)}") from None
    except Exception as error:
        if distributed.world_size() > 1:
            others = "If a connection was lost, another process has ended: its own message says why."
            error.add_note(f"Error{distributed.who()}. {others} {_kept(state, checkpoint)}")
        raise


def _run_epoch(
    state: RunState, network: nn.Module, loader: BatchLoader, recipe: Recipe, evaluate_on: Cifar10 | None, bar: tqdm
) -> dict[str, float]:
    """Train for one epoch, evaluate, and return the history's row. network: the model, as `replicated` has it."""
    start = time.perf_counter()
    epoch = len(state.history)
    distributed.seed_epoch(recipe.seed, epoch)
    state.model.train()
    interval = 1 / len(loader)
    loss_sum = correct = 0
    for step, (images, labels) in enumerate(loader.epoch(epoch)):
        set_learning_rate(state.optimizer, recipe.learning_rate(epoch + step / len(loader), interval))
        loss, hits = train_step(network, state.optimizer, images, labels, recipe.label_smoothing)
        if not math.isfinite(loss):
            raise TrainingDiverged(f"The loss became {loss} in epoch {epoch}, step {step} (both counted from 0).")
        loss_sum += loss * loader.images_in(step)
        correct += hits
        bar.update()
    distributed.average_buffers(state.model)
    # The last step's loss is that of the weights before it, so it says nothing of what is about to be saved.
    if not all(value.isfinite().all() for value in chain(state.model.parameters(), state.model.buffers())):
        raise TrainingDiverged(f"The weights became NaN or infinite by the end of epoch {epoch}, step {step}.")
    count = len(loader.data)
    row = {"epoch": epoch, "lr": recipe.learning_rate(epoch, interval)}
    row |= {"train_loss": loss_sum / count, "train_accuracy": correct / count}
    images_per_second = count / (time.perf_counter() - start)
    measured = f"loss {row['train_loss']:.2f}"
    if evaluate_on is not None:
        row[evaluation_column(evaluate_on)] = accuracy = _shared_evaluation(state.model, evaluate_on)
        measured = f"{evaluate_on.split} {accuracy:.1%}"
    bar.set_postfix_str(f"{epoch + 1}/{recipe.epochs} epochs, {measured}")
    return row | {"seconds": time.perf_counter() - start, "images_per_second": images_per_second}


def evaluation_column(data: Cifar10) -> str:
    """The history's column for the accuracy on `data`: never that of the images that are trained on."""
    return "evaluated_accuracy" if data.split == "train" else f"{data.split}_accuracy"


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every parameter group this rate, times its own "lr_factor" if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def train_step(
    model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor, label_smoothing: float = 0.0
) -> tuple[float, int]:
    """One step of gradient descent on one batch: its mean loss, and how many of its images were classified right.

    Where the loss is not finite, weights and optimiser stay as they are. Where several processes share the batch
    (`resnet_lib.distributed.replicated`), loss and number are those of the whole.
    """
    device = next(model.parameters()).device
    images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    optimizer.zero_grad(set_to_none=True)
    with _autocast(device):
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    value, hits = loss.item(), int((logits.argmax(1) == labels).sum())
    if isinstance(model, DistributedDataParallel):
        loss, value, hits = distributed.over_all(loss, hits, len(labels))
    if math.isfinite(value):
        loss.backward()
        optimizer.step()
    return value, hits


def predict(model: nn.Module, data: Cifar10, batch_size: int = 500, mirrored: bool = False) -> Tensor:
    """Logits (N, classes) float32 on the CPU, in evaluation mode; every module's own mode is put back afterwards.

    mirrored: the mean of two views' logits, the image and its mirror image (test-time augmentation); twice the work.
    """
    device = next(model.parameters()).device
    with modes_kept(model), torch.inference_mode(), _autocast(device):
        model.eval()
        logits = []
        for images, _ in BatchLoader(data, batch_size):
            views = [images, images.flip(3)] if mirrored else [images]
            logits.append(torch.stack([model(view.to(device)).float().cpu() for view in views]).mean(0))
    return torch.cat(logits)


def evaluate(model: nn.Module, data: Cifar10, mirrored: bool = False) -> float:
    """The share of images classified right, from 0 to 1; mirrored: see `predict`."""
    return _hits(model, data, mirrored) / len(data)


def _hits(model: nn.Module, data: Cifar10, mirrored: bool = False) -> int:
    return int((predict(model, data, mirrored=mirrored).argmax(1) == data.labels).sum())


def _shared_evaluation(model: nn.Module, data: Cifar10) -> float:
    """`evaluate`, each process on its share of the images."""
    share = data[distributed.rank() :: distributed.world_size()]
    hits = _hits(model, share) if len(share) else 0
    return distributed.sums(hits)[0] / len(data)


def _autocast(device: torch.device) -> torch.autocast:
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _identity(model: nn.Module, train: Cifar10, recipe: Recipe, evaluate_on: Cifar10 | None) -> dict[str, str]:
    # Only what is not a default: a setting that the library gains later leaves older checkpoints usable.
    chosen = {
        item.name: getattr(recipe, item.name) for item in fields(recipe) if getattr(recipe, item.name) != item.default
    }
    settings = "\n".join(f"{name}: {value}" for name, value in chosen.items())
    checksum = 0
    for tensor in (train.images, train.labels):
        checksum = zlib.crc32(np.ascontiguousarray(tensor.numpy()), checksum)
    data = f"{train}, checksum {checksum:08x}\nevaluated on {evaluate_on}"
    return {"model": str(model), "recipe": settings, "data": data}


def _kept(state: RunState, checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "No checkpoint was asked for, so only the model in memory is left, as the last step made it."
    if state.saved_epochs == 0:
        return "No epoch was finished, so there is no checkpoint yet."
    finished = f"the first {state.saved_epochs} epochs" if state.saved_epochs > 1 else "the first epoch"
    return f"{checkpoint} keeps {finished}."
