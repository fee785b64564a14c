"""What a training step costs on P workers that share each batch, on paper.

A step of B images, n = ⌈B / P⌉ of them on each worker:

    compute    = n · F / R + overhead           F: floating-point operations an image, forward and backward
                                                R: what a worker reaches of them in a second
    input      = n / I                          I: images that a worker's loader makes in a second
    ring(S)    = 2 (P - 1) / P · S / bandwidth + 2 (P - 1) · latency      all-reduce of S bytes
    tree(S)    = 2 · S / bandwidth + 2 · ⌈log2 P⌉ · latency               where there is one, the quicker of both counts
    all-reduce = ring(S) or tree(S)             S: bytes of the gradients
    exchanges  = E · (ring(0) or tree(0))       E: small all-reduces that nothing hides: batch norm over all processes
                                                needs one a layer forward, one backward, and the loss one
    exposed    = max(0, all-reduce - overlap · ⅔ compute)                 ⅔ of the operations belong to going back
    step       = max(compute, input) + exposed + exchanges                without prefetching compute + input

The ring moves the least that any all-reduce can, 2 (P - 1) / P · S a worker (Patarasuk and Yuan 2009, J. Parallel
Distrib. Comput. 69, 117-124), in 2 (P - 1) messages one after the other. A tree sends 2 · log2 P messages, at nearly
full bandwidth where two trees work at once (2 · S / bandwidth; Sanders, Speck and Träff 2009, Parallel Comput. 35,
581-594): NCCL takes whichever is quicker. Bandwidth is here what nccl-tests calls bus bandwidth.

Strong scaling keeps B, so that a worker's share shrinks; weak scaling keeps n, so that the batch grows, which changes
what is learnt (Goyal et al. 2017, arXiv:1706.02677). The model leaves out slow workers, shared networks and failures.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from resnet_lib.data import DATA_DIR
from resnet_lib.files import write_json
from resnet_lib.probes import modes_kept

BACKWARD = 2 / 3  # of a step's operations: one product of matrices forward, two back


@dataclass(frozen=True)
class Workload:
    """A network's step: `flops` an image, forward and backward; `gradient_bytes`; small all-reduces a step."""

    name: str
    flops: float
    gradient_bytes: int
    exchanges: int = 1


@dataclass(frozen=True)
class Hardware:
    """A worker and its connection.

    flops_per_second: reached, not peak. overhead: seconds a step that do not depend on its images.
    input_per_second: images. latency: seconds a message. bandwidth: bytes a second, each way.
    overlap: share of the backward pass that can hide the all-reduce, 0 to 1. prefetch: input runs beside compute.
    tree: whether an all-reduce may take a tree where that is quicker than the ring.
    """

    name: str
    flops_per_second: float
    latency: float
    bandwidth: float
    overhead: float = 0.0
    input_per_second: float = math.inf
    overlap: float = 0.0
    prefetch: bool = True
    tree: bool = False


# Assumptions, not measurements. Peak: 312 teraFLOPS bfloat16 without sparsity (NVIDIA's data sheet of the A100), 989
# (of the H100: 1,979 with sparsity). Of it a fifth is reached: ResNet-50's 2,600 images/s on an A100 that a user of
# pytorch-image-models reports in its issue 1491, and the same share taken for the H100. Bandwidth: the eight network
# adapters of a machine of eight GPUs, all at once: 8 · 200 and 8 · 400 Gbit/s (data sheets of the DGX A100 and H100),
# less than NVLink's 300 and 450 GB/s each way within it. Without a source: 5 µs a message (50 by Ethernet), 5 ms a step
# to launch its kernels, and input that keeps up.
REACHED = 0.2
UNSOURCED = {"latency": 5e-6, "overhead": 5e-3}
GPUS = {
    "A100": Hardware("A100", REACHED * 312e12, bandwidth=8 * 200e9 / 8, overlap=1.0, tree=True, **UNSOURCED),
    "A100, one a machine, 10 Gbit/s Ethernet": Hardware(
        "A100 by Ethernet", REACHED * 312e12, latency=5e-5, bandwidth=10e9 / 8, overhead=5e-3, overlap=1.0, tree=True
    ),
    "H100": Hardware("H100", REACHED * 989e12, bandwidth=8 * 400e9 / 8, overlap=1.0, tree=True, **UNSOURCED),
}


def workload(model: nn.Module, name: str, image_size: int = 32, over_all: bool = True) -> Workload:
    """Count the operations of `model` (torch.utils.flop_counter; a multiply-add is two) and its gradients' bytes.

    over_all: batch norm over all processes' images, which costs two exchanges a layer.
    """
    images = torch.zeros(2, 3, image_size, image_size, device=next(model.parameters()).device)
    # Evaluation mode has the same convolutions, and leaves running means alone.
    with modes_kept(model), FlopCounterMode(display=False) as counter:
        torch.autograd.grad(model.eval()(images).sum(), [p for p in model.parameters() if p.requires_grad])
    layers = sum(isinstance(module, _BatchNorm) for module in model.modules())
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return Workload(name, counter.get_total_flops() / len(images), gradients, 1 + 2 * layers * over_all)


def all_reduce_seconds(message: ArrayLike, workers: int, latency: float, bandwidth: float, tree: bool = False) -> Any:
    """Seconds until all workers have the sum of their `message` bytes: of each message, a number or an array.

    latency: seconds a message. bandwidth: bytes a second. tree: by the quicker of ring and tree.
    """
    message = np.asarray(message, dtype=float)
    ring = 2 * (workers - 1) / workers * message / bandwidth + 2 * (workers - 1) * latency
    if not tree or workers == 1:
        return ring
    return np.minimum(ring, 2 * message / bandwidth + 2 * math.ceil(math.log2(workers)) * latency)


def step_seconds(work: Workload, hardware: Hardware, workers: int, batch_size: int) -> dict[str, float]:
    """Each part of a step, as the formulas above have it, and the whole of it, `step`; compute includes overhead.

    Raises ValueError where there are more workers than images.
    """
    if not 1 <= workers <= batch_size:
        raise ValueError(f"workers={workers}: expected 1 to batch_size={batch_size}.")
    images = math.ceil(batch_size / workers)
    compute = images * work.flops / hardware.flops_per_second + hardware.overhead
    input_ = images / hardware.input_per_second
    wire = {"workers": workers, "latency": hardware.latency, "bandwidth": hardware.bandwidth, "tree": hardware.tree}
    all_reduce = float(all_reduce_seconds(work.gradient_bytes, **wire))
    exposed = max(0.0, all_reduce - hardware.overlap * BACKWARD * compute)
    exchanges = work.exchanges * float(all_reduce_seconds(0, **wire))
    local = max(compute, input_) if hardware.prefetch else compute + input_
    parts = {"overhead": hardware.overhead, "compute": compute, "input": input_, "all_reduce": all_reduce}
    return parts | {"exposed": exposed, "exchanges": exchanges, "step": local + exposed + exchanges}


def scaling(
    work: Workload, hardware: Hardware, workers: Sequence[int], images: int, weak: bool = False
) -> pd.DataFrame:
    """A row for each number of workers: the parts of `step_seconds`, images a second, speed-up and efficiency.

    images: of a batch (strong scaling), or of a worker (weak). Speed-up is in images a second, against one worker with
    the same number; efficiency is the speed-up by worker.
    """
    alone = images / step_seconds(work, hardware, 1, images)["step"]
    rows = []
    for count in workers:
        batch = images * count if weak else images
        parts = step_seconds(work, hardware, count, batch)
        speed = batch / parts["step"]
        rows.append({"workers": count, "batch_size": batch} | parts | {"images_per_second": speed})
    table = pd.DataFrame(rows)
    table["speedup"] = table["images_per_second"] / alone
    table["efficiency"] = table["speedup"] / table["workers"]
    return table


def fit_latency_bandwidth(message: ArrayLike, seconds: ArrayLike, workers: int) -> tuple[float, float]:
    """Latency (s) and bandwidth (bytes/s) of the ring that fits measured all-reduces, least squares of relative errors.

    Both are kept above 0: where noise says otherwise, at a billionth of what the largest message took.
    """
    message, seconds = np.asarray(message, float), np.asarray(seconds, float)
    terms = np.stack([np.full_like(message, 2 * (workers - 1)), 2 * (workers - 1) / workers * message], axis=1)
    latency, per_byte = np.linalg.lstsq(terms / seconds[:, None], np.ones_like(seconds), rcond=None)[0]
    least = 1e-9 * seconds.max()
    return max(latency, least), 1 / max(per_byte, least / message.max())


def fit_compute(images: ArrayLike, seconds: ArrayLike, flops: float) -> tuple[float, float]:
    """Operations a second and overhead (s, at least 0) from the seconds that steps of so many images took."""
    images, seconds = np.asarray(images, float), np.asarray(seconds, float)
    terms = np.stack([images, np.ones_like(images)], axis=1)
    per_image, overhead = np.linalg.lstsq(terms / seconds[:, None], np.ones_like(seconds), rcond=None)[0]
    if overhead < 0:
        per_image, overhead = float(np.mean(seconds / images)), 0.0
    return flops / per_image, float(overhead)


@dataclass(frozen=True)
class Measurements:
    """What `benchmarks/scaling.py` found: the model's parameters on a machine, and steps to hold its predictions to.

    all_reduce: a row a message size; steps: a row a setting, with predicted and measured seconds. Where there are
    columns low and high, they are the fastest and the slowest round, and the value is the median.
    """

    work: Workload
    hardware: Hardware
    all_reduce: pd.DataFrame
    steps: pd.DataFrame
    provenance: dict[str, Any]

    def save(self, path: Path) -> None:
        tables = {name: getattr(self, name).to_dict("records") for name in ("all_reduce", "steps")}
        content = {
            "work": asdict(self.work),
            "hardware": asdict(self.hardware),
            **tables,
            "provenance": self.provenance,
        }
        write_json(path, content)

    @classmethod
    def load(cls, path: Path = DATA_DIR / "scaling.json") -> "Measurements":
        """Raises FileNotFoundError where nothing was recorded yet."""
        content = json.loads(path.read_text(encoding="utf-8"))
        tables = {name: pd.DataFrame(content[name]) for name in ("all_reduce", "steps")}
        work, hardware = Workload(**content["work"]), Hardware(**content["hardware"])
        return cls(work, hardware, **tables, provenance=content["provenance"])
