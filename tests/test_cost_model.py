"""The cost model is its formulas, finds parameters that are known, and agrees with a published scaling."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from resnet_lib.cost_model import (
    GPUS,
    Hardware,
    Measurements,
    Workload,
    all_reduce_seconds,
    fit_compute,
    fit_latency_bandwidth,
    scaling,
    step_seconds,
    workload,
)
from resnet_lib.data import DATA_DIR
from resnet_lib.models import create_model, resnet50
from resnet_lib.scaling_figures import many_workers, measured_and_predicted, parts_of_a_step

pytestmark = pytest.mark.usefixtures("one_thread")
WORK = Workload("a net", flops=2e9, gradient_bytes=4_000_000, exchanges=3)
WORKER = Hardware("a core", flops_per_second=1e11, latency=1e-4, bandwidth=1e9, overhead=0.01, input_per_second=100)


# --- What a step asks for


def test_a_small_nets_operations_by_hand():
    """8 · 3 · 9 multiply-adds a pixel; back, as many for the weights, none for the image. 10 · 8 for the last layer."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    net[4].bias.requires_grad_(False)
    modes, means = [module.training for module in net.modules()], net[1].running_mean.clone()
    counted = workload(net, "small", image_size=16)
    assert counted.flops == 2 * (2 * 16 * 16 * 8 * 3 * 9 + 3 * 80)
    assert counted.gradient_bytes == 4 * (8 * 3 * 9 + 2 * 8 + 80)
    assert counted.exchanges == 3  # one layer of batch norm, forward and back, and the loss
    assert workload(net, "small", over_all=False).exchanges == 1
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(net[1].running_mean, means)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_papers_networks_have_the_papers_operations():
    """He et al. 2015, table 1: 3.8e9 multiply-adds for ResNet-50 (4.1e9 with the stride on the 3×3)."""
    with torch.device("meta"):
        assert workload(resnet50(1000, "imagenet"), "ResNet-50", 224).flops == pytest.approx(3 * 2 * 4.1e9, rel=0.03)
    resnet20 = workload(create_model("resnet20"), "ResNet-20")
    assert resnet20.gradient_bytes == 4 * 269_722
    assert resnet20.exchanges == 1 + 2 * 19


# --- The formulas


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_a_ring_played_through_takes_as_long_as_the_formula_says(workers):
    """Every worker sends a P-th of the message to its neighbour, P - 1 times to add up and P - 1 times to spread."""
    chunks = [[float(worker + 1)] * workers for worker in range(workers)]
    seconds = 0.0
    for step in range(2 * (workers - 1)):
        sent = [(worker, (worker - step) % workers) for worker in range(workers)]
        values = [chunks[worker][chunk] for worker, chunk in sent]
        for (worker, chunk), value in zip(sent, values, strict=True):
            neighbour = (worker + 1) % workers
            adding = step < workers - 1
            chunks[neighbour][chunk] = chunks[neighbour][chunk] + value if adding else value
        seconds += 1e-5 + 6e6 / workers / 1e9
    assert chunks == [[workers * (workers + 1) / 2] * workers] * workers
    assert all_reduce_seconds(6e6, workers, latency=1e-5, bandwidth=1e9) == pytest.approx(seconds)


def test_a_tree_is_taken_where_it_is_quicker():
    wire = {"latency": 1e-5, "bandwidth": 1e9}
    assert all_reduce_seconds(0, 1024, **wire, tree=True) == pytest.approx(2 * 10 * 1e-5)
    assert all_reduce_seconds(0, 1024, **wire) == pytest.approx(2 * 1023 * 1e-5)
    assert all_reduce_seconds(1e9, 4, **wire, tree=True) == all_reduce_seconds(1e9, 4, **wire)
    assert all_reduce_seconds(1e9, 1, **wire, tree=True) == 0


def test_a_step_by_hand():
    parts = step_seconds(WORK, WORKER, workers=4, batch_size=30)
    assert parts["compute"] == pytest.approx(8 * 0.02 + 0.01)  # the largest share of 30 among 4
    assert parts["input"] == pytest.approx(0.08)
    assert parts["all_reduce"] == parts["exposed"] == pytest.approx(1.5 * 0.004 + 6e-4)
    assert parts["exchanges"] == pytest.approx(3 * 6e-4)
    assert parts["step"] == pytest.approx(0.17 + 0.0066 + 0.0018)
    assert step_seconds(WORK, replace(WORKER, prefetch=False), 4, 30)["step"] == pytest.approx(parts["step"] + 0.08)
    slow_input = step_seconds(WORK, replace(WORKER, input_per_second=10), 4, 30)
    assert slow_input["step"] == pytest.approx(0.8 + 0.0066 + 0.0018)
    half_hidden = step_seconds(WORK, replace(WORKER, bandwidth=1e7, overlap=0.5), 4, 30)
    assert half_hidden["exposed"] == pytest.approx(0.6006 - 0.17 / 3)
    assert step_seconds(WORK, replace(WORKER, overlap=0.5), 4, 30)["exposed"] == 0


def test_one_worker_waits_for_nobody():
    parts = step_seconds(WORK, WORKER, 1, 32)
    assert parts["exposed"] == parts["exchanges"] == 0


@pytest.mark.parametrize("workers", [0, 33])
def test_more_workers_than_images_are_refused(workers):
    with pytest.raises(ValueError, match=rf"workers={workers}: expected 1 to batch_size=32"):
        step_seconds(WORK, WORKER, workers, 32)


def test_strong_scaling_shrinks_the_share_and_weak_scaling_grows_the_batch():
    strong = scaling(WORK, WORKER, [1, 2, 8, 64], images=64)
    weak = scaling(WORK, WORKER, [1, 2, 8, 64], images=64, weak=True)
    assert list(strong["batch_size"]) == [64] * 4
    assert list(weak["batch_size"]) == [64, 128, 512, 4096]
    for table in (strong, weak):
        assert table["speedup"][0] == table["efficiency"][0] == 1
        np.testing.assert_allclose(table["images_per_second"], table["batch_size"] / table["step"])
        np.testing.assert_allclose(table["efficiency"], table["speedup"] / table["workers"])
        assert table["efficiency"].is_monotonic_decreasing
    assert (weak["efficiency"] >= strong["efficiency"]).all()
    assert (weak["compute"] == weak["compute"][0]).all()
    # Amdahl 1967: however many share it, a step is never shorter than what does not depend on its images.
    assert strong["speedup"].max() < strong["compute"][0] / WORKER.overhead


def test_the_published_efficiency_of_256_gpus_lies_between_nothing_and_all_hidden():
    """Goyal et al. 2017, §4 and figure 7: ResNet-50, 100 MB of gradients, 32 images and 120 ms back a P100, 50 Gbit/s
    between machines of eight: about 90 % from 8 to 256 GPUs."""
    gpu = Hardware("P100", flops_per_second=32 / 0.18, latency=2e-5, bandwidth=50e9 / 8, tree=True)
    work = Workload("ResNet-50", flops=1, gradient_bytes=100_000_000)
    alone = step_seconds(work, gpu, 1, 32)["step"]  # eight in a machine, by NVLink, are as good as one
    exposed, hidden = (
        alone / step_seconds(work, replace(gpu, overlap=overlap), 256, 256 * 32)["step"] for overlap in (0.0, 1.0)
    )
    assert exposed < 0.9 < hidden


def test_the_assumed_gpus_are_their_data_sheets():
    assert GPUS["A100"].bandwidth == 200e9
    assert GPUS["H100"].bandwidth == 400e9
    assert GPUS["A100"].flops_per_second == pytest.approx(2600 * 24.3e9, rel=0.02)  # the reported ResNet-50
    assert all(gpu.latency > 0 and gpu.overhead > 0 for gpu in GPUS.values())


# --- Parameters from measurements


@pytest.mark.parametrize("workers", [2, 5])
def test_latency_and_bandwidth_are_found_again_through_noise(workers):
    generator = np.random.default_rng(0)
    sizes = 4.0 ** np.arange(2, 13)
    seconds = all_reduce_seconds(sizes, workers, latency=8e-5, bandwidth=2.5e9)
    seconds = seconds * generator.uniform(0.9, 1.1, len(sizes))
    latency, bandwidth = fit_latency_bandwidth(sizes, seconds, workers)
    assert latency == pytest.approx(8e-5, rel=0.1)
    assert bandwidth == pytest.approx(2.5e9, rel=0.2)


def test_noise_makes_no_negative_parameter():
    latency, bandwidth = fit_latency_bandwidth([16, 1e6], [1e-3, 1e-3 * 0.9], 2)
    assert latency > 0
    assert 0 < bandwidth < math.inf
    rate, overhead = fit_compute([10, 20], [0.01, 0.03], flops=1e9)
    assert overhead == 0
    assert rate > 0


def test_rate_and_overhead_are_found_again():
    rate, overhead = fit_compute([16, 32, 64], [0.01 + images * 0.02 for images in (16, 32, 64)], flops=2e9)
    assert rate == pytest.approx(1e11)
    assert overhead == pytest.approx(0.01)


# --- Measurements, and pictures of them


@pytest.fixture
def found() -> Measurements:
    sizes = np.array([16, 1024, 1_000_000])
    seconds = all_reduce_seconds(sizes, 2, 1e-4, 1e9)
    all_reduce = pd.DataFrame({"bytes": sizes, "seconds": seconds, "low": seconds * 0.9, "high": seconds * 1.2})
    steps = pd.DataFrame(
        {
            "setting": ["1 process", "2 processes"],
            "batch_size": 128,
            "predicted": [None, 0.6],
            "seconds": [1.0, 0.7],
            "low": [0.9, 0.6],
            "high": [1.1, 0.8],
        }
    )
    return Measurements(WORK, WORKER, all_reduce, steps, {"command": "python benchmarks/scaling.py"})


def test_measurements_come_back_from_their_file(found, tmp_path):
    found.save(tmp_path / "scaling.json")
    again = Measurements.load(tmp_path / "scaling.json")
    assert (again.work, again.hardware, again.provenance) == (found.work, found.hardware, found.provenance)
    pd.testing.assert_frame_equal(again.all_reduce, found.all_reduce)
    pd.testing.assert_frame_equal(again.steps, found.steps, check_dtype=False)


def test_the_pictures_show_the_data(found):
    figure = measured_and_predicted(found, "two processes")
    left, right = figure.axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["2 processes", "1 process"]
    measured = left.containers[0].lines[0]
    assert list(measured.get_ydata()) == list(found.all_reduce["seconds"])
    # The line through the dots is the model's own.
    line = next(each for each in left.lines if len(each.get_xdata()) == 100)
    np.testing.assert_allclose(np.interp(1024, *line.get_data()), found.all_reduce["seconds"][1], rtol=1e-3)
    tables = {name: scaling(WORK, gpu, [1, 8, 1024], 2048) for name, gpu in GPUS.items()}
    figure = many_workers(tables, "many")
    for line, table in zip(figure.axes[0].lines, tables.values(), strict=False):
        assert list(line.get_ydata()) == list(table["speedup"])
    figure = parts_of_a_step(tables["A100"], "parts")
    heights = np.array([[bar.get_height() for bar in bars] for bars in figure.axes[0].containers])
    np.testing.assert_allclose(heights.sum(0), 1)
    plt.close("all")


@pytest.mark.skipif(not (DATA_DIR / "scaling.json").exists(), reason="benchmarks/scaling.py has not been recorded yet")
def test_the_recorded_measurements_are_whole_and_their_predictions_follow_from_them():
    found = Measurements.load()
    local = workload(create_model("resnet20"), "ResNet-20", over_all=False)
    assert found.work == workload(create_model("resnet20"), "ResNet-20")
    expected = {
        "1 process, 1 thread": step_seconds(local, found.hardware, 1, 128),
        "2 processes, batch norm by process": step_seconds(local, found.hardware, 2, 128),
        "2 processes, batch norm over all": step_seconds(found.work, found.hardware, 2, 128),
    }
    steps = found.steps.set_index("setting")
    for setting, parts in expected.items():
        assert steps.loc[setting, "predicted"] == pytest.approx(parts["step"])
    for table in (found.all_reduce, found.steps):
        assert ((table["low"] > 0) & (table["low"] <= table["seconds"]) & (table["seconds"] <= table["high"])).all()
    latency, bandwidth = fit_latency_bandwidth(found.all_reduce["bytes"], found.all_reduce["seconds"], 2)
    assert (latency, bandwidth) == pytest.approx((found.hardware.latency, found.hardware.bandwidth))
    assert {"command", "commit", "versions", "hardware", "started"} <= found.provenance.keys()


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "benchmarks")
    import scaling

    return scaling


@pytest.mark.parametrize("world_size", [1, 2])
def test_the_benchmark_has_batches_of_one_size_without_end(benchmark, world_size):
    """The bundled set has 5,000 images, fewer than three batches of 2,048."""
    batches = benchmark.Bench(0, 2048, 4, []).batches(2048, rank=0, world_size=world_size)
    images = [next(batches)[0] for _ in range(5)]
    assert {len(each) for each in images} == {2048 // world_size}
    assert not torch.equal(images[0], images[2]), "another epoch, in another order"


def test_the_benchmark_runs(benchmark, tmp_path, monkeypatch, capsys):
    few = {"rounds": 1, "steps": 1, "batch-size": 8, "out": tmp_path / "scaling.json"}
    arguments = [str(part) for name, value in few.items() for part in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["scaling.py", *arguments])
    benchmark.main()
    assert "| 2 processes, batch norm over all |" in capsys.readouterr().out
    found = Measurements.load(tmp_path / "scaling.json")
    assert len(found.steps) == 5
