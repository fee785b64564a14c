"""One process against two, and what the cost model says of them: `python benchmarks/scaling.py`.

Round by round, process 0 trains alone (with one thread, and with two: the honest rival of two processes on two cores),
both train the same net on shared batches with a thread each, and all-reduces of many sizes are timed between them. The
model's parameters come from process 0 alone and from the all-reduces; its predictions for two processes are held to
what two processes took. Writes data/scaling.json and prints the table. Nothing else should run beside it.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from resnet_lib.cost_model import Hardware, Measurements, fit_compute, fit_latency_bandwidth, step_seconds, workload
from resnet_lib.data import DATA_DIR, BatchLoader, load_cifar10
from resnet_lib.distributed import replicated
from resnet_lib.models import create_model
from resnet_lib.provenance import describe_session
from resnet_lib.recipes import README_RECIPE
from resnet_lib.training import train_step

ALONE, TWO_THREADS = "1 process, 1 thread", "1 process, 2 threads"
LOCAL, OVER_ALL = "2 processes, batch norm by process", "2 processes, batch norm over all"
UNCONNECTED = "2 processes, each by itself"


class Bench:
    """Process `rank` of two, and the seconds that it took for each thing, round by round."""

    def __init__(self, rank, batch_size, steps, sizes):
        self.rank = rank
        self.batch_size = batch_size
        self.steps = steps
        self.sizes = sizes
        self.seconds = defaultdict(list)
        self.data = load_cifar10("train", "bundled")
        torch.manual_seed(0)
        self.model = create_model("resnet20").to(memory_format=torch.channels_last).train()
        self.optimizer = replace(README_RECIPE, peak_lr=0.01).make_optimizer(self.model)

    def time(self, name, run, repeats, alone=False, threads=1):
        """Add the seconds of one of `repeats` runs, after one to warm up; alone: while process 1 waits."""
        torch.set_num_threads(threads)
        if not alone or self.rank == 0:
            run()
            if not alone:
                dist.barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            self.seconds[name].append((time.perf_counter() - start) / repeats)
        dist.barrier()
        torch.set_num_threads(1)

    def batches(self, batch_size, **share):
        """Batches as `fit` loads them, without end: after the last whole one the next epoch begins."""
        whole = self.data[: len(self.data) // batch_size * batch_size]
        loader = BatchLoader(whole, batch_size, augment=True, shuffle=True, **share)
        return chain.from_iterable(map(loader.epoch, count()))

    def train(self, name, network, world_size=1, **settings):
        """Steps as `fit` makes them, loader included."""
        rank = self.rank if world_size > 1 else 0
        batches = self.batches(self.batch_size, rank=rank, world_size=world_size)
        self.time(name, lambda: train_step(network, self.optimizer, *next(batches)), self.steps, **settings)

    def round(self):
        for images in (self.batch_size // 4, self.batch_size // 2, self.batch_size):
            batch = next(BatchLoader(self.data, images).epoch(0))
            self.time(images, lambda: train_step(self.model, self.optimizer, *batch), self.steps, alone=True)  # noqa: B023
        batches = self.batches(self.batch_size // 2)
        self.time("input", lambda: next(batches), 20, alone=True)
        for size in self.sizes:
            message = torch.ones(size // 4)
            self.time(f"{size} bytes", lambda: dist.all_reduce(message), 5 if size > 1e6 else 30)  # noqa: B023
        self.train(ALONE, self.model, alone=True)
        self.train(TWO_THREADS, self.model, alone=True, threads=2)
        self.train(UNCONNECTED, self.model, world_size=2)
        for name, local in ((LOCAL, True), (OVER_ALL, False)):
            with replicated(self.model, local_batch_norm=local) as network:
                self.train(name, network, world_size=2)


def worker(rank, folder, batch_size, steps, sizes, rounds):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    bench = Bench(rank, batch_size, steps, sizes)
    bench.round()
    bench.seconds.clear()  # the first round warms up
    for _ in range(rounds):
        bench.round()
    if rank == 0:
        torch.save(dict(bench.seconds), f"{folder}/seconds.pt")
    dist.barrier()
    dist.destroy_process_group()


def spread(values):
    return {"seconds": float(np.median(values)), "low": min(values), "high": max(values)}


def evaluate(seconds, batch_size, sizes):
    """The model's parameters from what one process took and from the all-reduces, and its predictions for the rest."""
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    over_all = workload(create_model("resnet20"), "ResNet-20")
    local = workload(create_model("resnet20"), "ResNet-20", over_all=False)
    counts = [images for images in seconds if isinstance(images, int)]
    rate, overhead = fit_compute(counts, [median[images] for images in counts], over_all.flops)
    latency, bandwidth = fit_latency_bandwidth(sizes, [median[f"{size} bytes"] for size in sizes], workers=2)
    hardware = Hardware(
        "one core of this machine",
        flops_per_second=rate,
        latency=latency,
        bandwidth=bandwidth,
        overhead=overhead,
        input_per_second=batch_size // 2 / median["input"],
        prefetch=False,
    )
    predicted = {
        ALONE: step_seconds(local, hardware, 1, batch_size)["step"],
        LOCAL: step_seconds(local, hardware, 2, batch_size)["step"],
        OVER_ALL: step_seconds(over_all, hardware, 2, batch_size)["step"],
    }
    names = (ALONE, TWO_THREADS, UNCONNECTED, LOCAL, OVER_ALL)
    steps = [
        {"setting": name, "batch_size": batch_size, "predicted": predicted.get(name)} | spread(seconds[name])
        for name in names
    ]
    all_reduce = [{"bytes": size} | spread(seconds[f"{size} bytes"]) for size in sizes]
    session = describe_session(torch.device("cpu"))
    session["command"] = "python benchmarks/scaling.py"
    session["hardware"]["threads"] = "1 a process, or 2 where it is said"
    return Measurements(over_all, hardware, pd.DataFrame(all_reduce), pd.DataFrame(steps), session)


def report(found, seconds):
    work, hardware = found.work, found.hardware
    print(f"{work.name}: {work.flops / 1e6:.0f} MFLOP an image, {work.gradient_bytes / 1e6:.2f} MB of gradients")
    print(f"compute {hardware.flops_per_second / 1e9:.1f} GFLOP/s, overhead {hardware.overhead * 1e3:.1f} ms a step")
    print(f"input {hardware.input_per_second:,.0f} images/s")
    print(f"all-reduce: latency {hardware.latency * 1e6:.0f} µs, bandwidth {hardware.bandwidth / 1e9:.2f} GB/s\n")
    print("| step | predicted, ms | median, ms | fastest | slowest | speed-up over 2 threads, round by round |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in found.steps.itertuples():
        ratios = np.divide(seconds[TWO_THREADS], seconds[row.setting])
        ratio = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        predicted = f"{row.predicted * 1e3:.1f}" if pd.notna(row.predicted) else ""
        times = " | ".join(f"{value * 1e3:.1f}" for value in (row.seconds, row.low, row.high))
        print(f"| {row.setting} | {predicted} | {times} | {ratio} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4, help="training steps a round and setting")
    parser.add_argument("--batch-size", type=int, default=128, help="images of both processes together")
    parser.add_argument("--out", type=Path, default=DATA_DIR / "scaling.json")
    options = parser.parse_args()
    sizes = [4**exponent for exponent in range(2, 13)]  # 16 bytes to 16 MiB
    with tempfile.TemporaryDirectory() as folder:
        settings = (folder, options.batch_size, options.steps, sizes, options.rounds)
        mp.spawn(worker, args=settings, nprocs=2)
        seconds = torch.load(Path(folder) / "seconds.pt")
    found = evaluate(seconds, options.batch_size, sizes)
    found.save(options.out)
    report(found, seconds)


if __name__ == "__main__":
    main()
