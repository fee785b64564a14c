"""Training speed: the README's way, the usual way and `resnet_lib.fit`, by turns: `python benchmarks/throughput.py`.

- README's way: PIL images transformed one by one in the main process, NCHW tensors, `.item()` in every step.
- usual way: torchvision's network where it has one, the same images by a `DataLoader` with two workers, NCHW tensors,
  the loss added up as a tensor.
- fit: this course's loop.

All train on the same real images with the same network, batch size, optimiser and augmentation, each round of each way
in a process of its own, since `fit` sets how that process treats memory; the first of two epochs warms up. What the
shares of peak refer to is timed in every round too: a matrix product, and a wide convolution, which other kernels
compute, on some processors twice as fast. Peak memory is the main process's. Writes data/throughput.json and prints the
tables. Nothing else should run beside it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from data_loading import PilImages
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from resnet_lib.data import DATA_DIR, Cifar10, load_cifar10
from resnet_lib.models import cifar_resnet, make_stem, resnet34
from resnet_lib.provenance import describe_session
from resnet_lib.training import Recipe, fit

# Name: network, batch size, images a round (enough for steady steps, few enough for many rounds).
SETTINGS = {"ResNet-20": (cifar_resnet, 20, 128, 1280), "README's net": (resnet34, 10, 32, 128)}
ROUNDS = 7


def course_net(setting: str) -> nn.Module:
    make, argument, _, _ = SETTINGS[setting]
    torch.manual_seed(0)
    return make(argument) if setting == "ResNet-20" else make(argument, stem="readme")


def usual_net(setting: str) -> nn.Module:
    """torchvision has no ResNet-20; its ResNet-34 gets the README's stem."""
    if setting == "ResNet-20":
        return course_net(setting)
    torch.manual_seed(0)
    net = torchvision.models.resnet34(num_classes=10)
    net.conv1, net.maxpool = make_stem("readme", 64)
    return net


def readme_way(setting: str, data: Cifar10) -> float:
    """Images/s, of a second epoch."""
    batch_size = SETTINGS[setting][2]
    net, loader = course_net(setting).train(), DataLoader(PilImages(data), batch_size, shuffle=True)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(2):
        loss_sum = correct = 0
        start = time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            logits = net(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item()
            correct += (logits.argmax(1) == labels).sum().item()
    return len(data) / (time.perf_counter() - start)


def usual_way(setting: str, data: Cifar10) -> float:
    """Images/s, of a second epoch.

    In the first the workers start. They are copies of this process, and whatever memory it then writes to for the first
    time has to be copied: that cost the first step 0.5 to 1.2 s, which in a whole training would not be seen.
    """
    batch_size = SETTINGS[setting][2]
    net = usual_net(setting).train()
    loader = DataLoader(PilImages(data), batch_size, shuffle=True, num_workers=2, persistent_workers=True)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    loss_sum = torch.zeros(())
    for _ in range(2):
        start = time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach()
    return len(data) / (time.perf_counter() - start)


def course_way(setting: str, data: Cifar10) -> float:
    """Images/s of a second epoch, as `fit` itself records them."""
    recipe = Recipe(epochs=2, batch_size=SETTINGS[setting][2], peak_lr=0.1)
    return fit(course_net(setting), data, recipe, progress=False)["images_per_second"].iloc[-1]


WAYS: dict[str, Callable[[str, Cifar10], float]] = {
    "README's way": readme_way,
    "usual way": usual_way,
    "fit": course_way,
}


def matmul_gflops(size: int = 2048, times: int = 8) -> float:
    """float32 GFLOP/s of a square matrix product."""
    a, b = torch.randn(2, size, size)
    a @ b
    start = time.perf_counter()
    for _ in range(times):
        a @ b
    return 2 * size**3 * times / (time.perf_counter() - start) / 1e9


def convolution_gflops(times: int = 4) -> float:
    """float32 GFLOP/s of a 3×3 convolution, forward, of 16 images of 32 × 32 pixels from 256 channels to 256."""
    images = torch.randn(16, 256, 32, 32).contiguous(memory_format=torch.channels_last)
    filters = torch.randn(256, 256, 3, 3).contiguous(memory_format=torch.channels_last)
    F.conv2d(images, filters, padding=1)
    start = time.perf_counter()
    for _ in range(times):
        F.conv2d(images, filters, padding=1)
    return 2 * 16 * 32**2 * 256**2 * 9 * times / (time.perf_counter() - start) / 1e9


def mflop_per_image(net: nn.Module) -> float:
    """Forward and backward, a multiply-add counted as two."""
    with FlopCounterMode(display=False) as counter:
        net(torch.randn(2, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() / 2 / 1e6


def images_of(setting: str) -> Cifar10:
    return load_cifar10("train", "bundled")[: SETTINGS[setting][3]]


def in_a_fresh_process(setting: str, way: str) -> tuple[float, float]:
    """Images/s and peak memory (MB)."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", setting, way], capture_output=True, text=True, check=True
    )
    speed, memory = map(float, done.stdout.split())
    return speed, memory


def peak_memory_kb() -> int:
    """Of this process, from Linux; `getrusage` would count what the parent had when it started this one."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def compare(setting: str, rounds: int) -> dict[str, Any]:
    """What a setting's rounds gave: a row for each way, and how many times as fast as each other one `fit` is."""
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    memory: dict[str, list[float]] = {way: [] for way in WAYS}
    peaks: list[float] = []
    convolutions: list[float] = []
    for _ in range(rounds):
        for way in WAYS:
            speed, peak = in_a_fresh_process(setting, way)
            speeds[way].append(speed)
            memory[way].append(peak)
        peaks.append(matmul_gflops())
        convolutions.append(convolution_gflops())
    gflop = mflop_per_image(course_net(setting)) / 1e3
    ways = [
        {
            "way": way,
            "median": statistics.median(values),
            "slowest": min(values),
            "fastest": max(values),
            "share_of_peak": statistics.median(values) * gflop / statistics.median(peaks),
            "share_of_convolution": statistics.median(values) * gflop / statistics.median(convolutions),
            "peak_memory_mb": max(memory[way]),
        }
        for way, values in speeds.items()
    ]
    ratios = []
    for way in ("README's way", "usual way"):
        found = [one / other for one, other in zip(speeds["fit"], speeds[way], strict=True)]
        ratios.append({"fit against": way} | spread(found))
    return {
        "batch_size": SETTINGS[setting][2],
        "mflop_per_image": 1e3 * gflop,
        "matmul_gflops": spread(peaks),
        "convolution_gflops": spread(convolutions),
        "ways": ways,
        "ratios": ratios,
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def report(setting: str, found: dict[str, Any]) -> None:
    """Print a setting's table, and the ratios that the goals are about."""
    print(f"\n{setting}, batches of {found['batch_size']}: {found['mflop_per_image']:,.0f} MFLOP an image")
    for key in ("matmul_gflops", "convolution_gflops"):
        peak = found[key]
        print(f"{key}: {peak['median']:.0f} (from {peak['low']:.0f} to {peak['high']:.0f})")
    print("\n| | images/s, median | slowest | fastest | of the product | of the convolution | peak memory, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in found["ways"]:
        cells = [f"{row[key]:.1f}" for key in ("median", "slowest", "fastest")]
        cells += [f"{row[key]:.2f}" for key in ("share_of_peak", "share_of_convolution")]
        print(f"| {row['way']} | {' | '.join(cells)} | {row['peak_memory_mb']:,.0f} |")
    for row in found["ratios"]:
        print(f"\nfit against {row['fit against']}: {row['median']:.2f} (from {row['low']:.2f} to {row['high']:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=DATA_DIR / "throughput.json")
    parser.add_argument(
        "--only", nargs=2, metavar=("SETTING", "WAY"), help="one round; print images/s and MB at the peak"
    )
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    if options.only:
        setting, way = options.only
        print(WAYS[way](setting, images_of(setting)), peak_memory_kb() / 1000)
        return
    session = describe_session(torch.device("cpu")) | {
        "command": f"python benchmarks/throughput.py --rounds {options.rounds}"
    }
    results = {}
    for setting in SETTINGS:
        results[setting] = compare(setting, options.rounds)
        report(setting, results[setting])
    options.out.write_text(json.dumps({"settings": results, "provenance": session}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
