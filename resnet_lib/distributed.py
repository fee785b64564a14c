"""Several processes train as one: `torchrun --nproc-per-node=2 -m resnet_lib train ...`.

Data parallelism: every process holds the whole network, takes its share of each batch, and the gradients are averaged
before the step (torch's DistributedDataParallel; Li et al. 2020, arXiv:2006.15704). The result is that of one process
at the same global batch, to float32 rounding, since

- `BatchLoader` draws for the whole batch what one process would draw, and then takes its share of the images;
- a share's loss counts by its images (`over_all`), also where the last batch of an epoch cannot be shared out evenly;
- batch norm takes its statistics over all processes' images (`sync_batch_norm`), unless it is told not to.

Only dropout draws by process. Process 0 is the main one, which alone writes. Started without torchrun a process is
alone, and nothing here does anything.
"""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from inspect import signature
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnet_lib.sync_batch_norm import batch_norm_over_all

# A process that is silent for so long is taken for dead; one that ends is noticed at once.
TIMEOUT = timedelta(minutes=5)

_stop = threading.Event()  # Ctrl-C came


def world_size() -> int:
    """How many processes train together: 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else _from_torchrun("WORLD_SIZE", 1)


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else _from_torchrun("RANK", 0)


def is_main() -> bool:
    """Whether this is the one process that writes files and messages."""
    return rank() == 0


def who() -> str:
    """What to add to a message, since all processes' come to one terminal; nothing where there is but one."""
    return f" in process {rank()} of 0 to {world_size() - 1}" if world_size() > 1 else ""


def launcher() -> list[str]:
    """What to start Python with to have as many processes again."""
    if world_size() == 1:
        return ["python"]
    machines = _from_torchrun("GROUP_WORLD_SIZE", 1)
    nodes = [f"--nnodes={machines}"] if machines > 1 else []
    return ["torchrun", *nodes, f"--nproc-per-node={_from_torchrun('LOCAL_WORLD_SIZE', world_size())}"]


def own_gpu(device: torch.device) -> torch.device:
    """The GPU of this process among those of its machine; any other device as it is.

    Raises ValueError if there are not enough of them, or if one is named that all would have to share.
    """
    local_size = _from_torchrun("LOCAL_WORLD_SIZE", 1)
    if device.type != "cuda" or local_size == 1:
        return device
    if device.index is not None or local_size > torch.cuda.device_count():
        raise ValueError(
            f"{local_size} processes on this machine need a GPU each: device={str(device)!r}, "
            f"{torch.cuda.device_count()} GPUs. Take --device cuda and --nproc-per-node no larger than that."
        )
    return torch.device("cuda", _from_torchrun("LOCAL_RANK", 0))


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started (NCCL on GPUs, gloo on the CPU); alone: do nothing.

    Inside the block Ctrl-C only leaves word: the processes stop together at the next step, where one that stopped by
    itself would leave the others waiting for it.
    """
    if world_size() == 1:
        yield
        return
    if not dist.is_initialized():
        _join(device)
    _stop.clear()
    handler = signal.signal(signal.SIGINT, lambda *_: _stop.set())
    try:
        yield
    except BaseException:
        atexit.unregister(dist.destroy_process_group)  # it could wait for processes that are gone
        raise
    finally:
        signal.signal(signal.SIGINT, handler)


def _join(device: torch.device) -> None:
    """Once for all of this process's life: torchrun's store would tell a second group the first one's addresses."""
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=TIMEOUT, device_id=device if gpu else None)
    atexit.register(dist.destroy_process_group)


@contextmanager
def replicated(model: nn.Module, local_batch_norm: bool) -> Iterator[nn.Module]:
    """`model` as process 0 has it, whose gradients are averaged over all processes; alone: `model` itself."""
    if world_size() == 1:
        yield model
        return
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)
    # Not at every step: `average_buffers` does better. Its name before torch 2.12 says less of what it is.
    new_name = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    without = {"forward_sync_buffers" if new_name else "broadcast_buffers": False}
    with nullcontext() if local_batch_norm else batch_norm_over_all(model):
        yield DistributedDataParallel(model, **without)


def over_all(loss: Tensor, hits: int, count: int) -> tuple[Tensor, float, int]:
    """From a share's mean loss, hits and number of images: the loss to go back from, and the batch's loss and hits.

    Gradients are averaged over processes, so a share's loss has to be multiplied by its part of the images, times the
    number of processes. Every process gets the same numbers, so that all of them see a loss that is not finite.

    Raises KeyboardInterrupt in all processes if one of them was told to stop.
    """
    losses, hits, images, stops = sums(loss.item() * count, hits, count, _stop.is_set())
    if stops:
        raise KeyboardInterrupt
    return loss * (count * world_size() / images), losses / images, int(hits)


def sums(*values: float) -> list[float]:
    """Each value, added up over all processes; all of them have to call this."""
    if world_size() == 1:
        return list(values)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    numbers = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(numbers)
    return numbers.tolist()


def from_main(make: Callable[[], Any]) -> Any:
    """What `make` returns or raises in process 0, in every process; the others wait for it."""
    if world_size() == 1:
        return make()
    value = error = None
    if is_main():
        try:
            value = make()
        except Exception as caught:
            error = caught
    message = [value, error]
    dist.broadcast_object_list(message)
    if message[1] is not None:
        raise error or message[1]
    return message[0]


def average_buffers(model: nn.Module) -> None:
    """Running means and variances of batch norm, averaged over processes: each has seen its own images alone.

    The average of the shares' means is the mean of all; each share's variance is an unbiased estimate of the one of
    all, and so is their average. Where batch norm is over all processes' images this changes nothing.
    """
    if world_size() > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer.div_(world_size()))


def seed_epoch(seed: int, epoch: int) -> None:
    """Let every process draw its own dropout, the same in an epoch that is run again; alone: leave it be."""
    if world_size() > 1:
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank()]).generate_state(1)[0]))


def _from_torchrun(name: str, alone: int) -> int:
    return int(os.environ[name]) if dist.is_torchelastic_launched() else alone
