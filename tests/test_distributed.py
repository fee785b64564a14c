"""Two processes train what one trains, and neither waits for the other in vain."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import two_processes
from test_cli import finished_epochs, read_run
from torch import nn
from two_processes import RECIPE, RUNS, InFloat64, images, small_resnet

from resnet_lib import distributed
from resnet_lib.data import BatchLoader, load_cifar10
from resnet_lib.models import create_model
from resnet_lib.training import Recipe, evaluate, fit

pytestmark = pytest.mark.usefixtures("one_thread")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def torchrun(*command: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*TORCHRUN, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(two_processes.__file__).parent)},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, one_thread):
    """Where the two processes have been, with a run that one process began."""
    folder = tmp_path_factory.mktemp("two processes")
    two_processes.stopped(InFloat64(small_resnet()), folder / "begun alone.pt")
    process = torchrun(two_processes.__file__, folder)
    (folder / "output.txt").write_text("".join(process.communicate(timeout=300)))
    assert (folder / "1.pt").exists(), (folder / "output.txt").read_text()
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """What each of the two processes found."""
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


# --- The same weights


@pytest.mark.parametrize(
    ("name", "rounding"), [("float64", 1e-12), ("float32", 1e-4), ("without batch norm", 1e-6), ("fast", 1e-9)]
)
def test_two_processes_end_with_the_weights_of_one_to_rounding(found, name, rounding):
    weights, history = RUNS[name]()
    for of_two, history_of_two in (each[name] for each in found):
        assert largest_difference(weights, of_two) < rounding
        pd.testing.assert_frame_equal(history, history_of_two, rtol=0, atol=rounding)


def test_both_processes_have_the_same_weights_to_the_bit(found):
    for name in RUNS:
        one, other = (each[name][0] for each in found)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_local_batch_norm_is_what_each_half_batch_would_have_by_itself(found):
    """One process that takes the shares in turn, each with batch norm of its own, and adds up the gradients."""
    halves = [InFloat64(small_resnet()) for _ in range(2)]
    optimizers = [torch.optim.SGD(half.parameters(), 0.02, 0.9, weight_decay=1e-4, nesterov=True) for half in halves]
    loaders = [BatchLoader(images("train", 25), 9, True, True, RECIPE.seed, rank, 2) for rank in range(2)]
    for epoch in range(2):
        for shares in zip(*(loader.epoch(epoch) for loader in loaders), strict=True):
            count = sum(len(labels) for _, labels in shares)
            losses = [F.cross_entropy(half(x), y, reduction="sum") for half, (x, y) in zip(halves, shares, strict=True)]
            for half, loss in zip(halves, losses, strict=True):
                half.zero_grad()
                (loss / count).backward()
            for parameters in zip(*(half.parameters() for half in halves), strict=True):
                total = sum(parameter.grad for parameter in parameters)
                for parameter in parameters:
                    parameter.grad = total.clone()
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = RECIPE.learning_rate(epoch)
                optimizer.step()
        for one, other in zip(*(half.buffers() for half in halves), strict=True):
            if one.is_floating_point():
                one.copy_((one + other) / 2)
                other.copy_(one)
    weights, history = found[1]["local batch norm"]
    assert largest_difference(halves[0].state_dict(), weights) < 1e-12
    assert history["test_accuracy"].iloc[-1] == evaluate(halves[0], images("test", 10))
    # It is not what one process has, by much more than rounding.
    assert largest_difference(found[0]["float64"][0], weights) > 1e-3


@pytest.mark.parametrize("name", two_processes.batch_norm_layers())
def test_batch_norm_over_all_is_batch_norm_of_the_whole_batch(found, name):
    layer, maps = two_processes.batch_norm_layers()[name]
    expected = two_processes.run_layer(layer, maps, slice(None))
    shares = [each[f"layer: {name}"] for each in found]
    for key, whole in expected.items():
        if key in ("output", "input gradient"):
            whole_of_two = torch.cat([share[key] for share in shares])
        elif key.startswith("gradient"):
            whole_of_two = shares[0][key] + shares[1][key]
        else:
            assert torch.equal(shares[0][key], shares[1][key])
            whole_of_two = shares[0][key]
        torch.testing.assert_close(whole_of_two, whole, rtol=1e-4, atol=1e-5)


def test_each_process_drops_out_by_itself(found):
    one, other = (each["dropped"] for each in found)
    count = min(len(one), len(other))
    assert not torch.equal(one[:count], other[:count])
    assert largest_difference(found[0]["dropout"][0], found[0]["dropout resumed"][0]) == 0


# --- Shares of a batch


@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("augment", [False, True])
def test_the_shares_together_are_the_batch_of_one_process_to_the_bit(world_size, augment):
    data = load_cifar10("train", "bundled")[:100]
    settings = {"batch_size": 31, "augment": augment, "shuffle": True, "seed": 4}
    shares = [BatchLoader(data, **settings, rank=rank, world_size=world_size) for rank in range(world_size)]
    alone = BatchLoader(data, **settings)
    for step, (batch, *parts) in enumerate(zip(alone.epoch(2), *(share.epoch(2) for share in shares), strict=True)):
        for whole, *pieces in zip(batch, *parts, strict=True):
            assert torch.equal(torch.cat(pieces), whole)
        sizes = [len(labels) for _, labels in parts]
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) == alone.images_in(step)


def test_more_processes_than_images_in_a_batch_are_refused():
    data = load_cifar10("train", "bundled")[:100]
    with pytest.raises(ValueError, match=r"8 processes cannot share a batch of 4 images.*batch_size=32, 100 images"):
        BatchLoader(data, 32, rank=0, world_size=8)
    BatchLoader(data, 32, rank=0, world_size=4)


# --- Stop, resume, fail


def test_what_one_process_began_two_finish_and_the_other_way_round(folder, found):
    weights, history = RUNS["float64"]()
    for each in found:
        assert largest_difference(weights, each["begun alone"][0]) < 1e-12
        pd.testing.assert_frame_equal(history, each["begun alone"][1], rtol=0, atol=1e-12)
        assert each["lengths"] == [2]  # the first epoch was there
    begun_by_two = two_processes.train(InFloat64(small_resnet(1)), checkpoint=folder / "begun by two.pt")
    assert largest_difference(weights, begun_by_two[0]) < 1e-12
    pd.testing.assert_frame_equal(history, begun_by_two[1], rtol=0, atol=1e-12)


def test_both_processes_see_that_one_has_a_loss_that_is_not_a_number(found):
    said = "The loss became nan in epoch 0, step 2 (both counted from 0)."
    assert all(each["diverged"].startswith(said) for each in found)


def test_a_fault_in_one_process_ends_the_run_with_its_traceback_and_keeps_what_was_done(folder):
    output = (folder / "output.txt").read_text()
    assert "ZeroDivisionError: only process 1 has this fault" in output
    assert "Error in process 1 of 0 to 1. " in output
    assert f"{folder / 'faulty.pt'} keeps the first epoch." in output
    assert len(torch.load(folder / "faulty.pt", weights_only=True)["history"]) == 1


# The command as a person gives it, on every 25th of the bundled images. Each process leaves its number by its rank.
COMMAND = """
import os, sys
from pathlib import Path
import resnet_lib.data
load = resnet_lib.data.load_cifar10
resnet_lib.data.load_cifar10 = lambda split, size: load(split, size)[::25]
from resnet_lib import __main__
out = Path(sys.argv[-1])
out.mkdir(exist_ok=True)
(out.parent / os.environ["RANK"]).write_text(str(os.getpid()))
__main__.main()
"""
ARGUMENTS = shlex.split("train --model resnet8 --size bundled --epochs 10 --batch-size 50 --seed 2 --device cpu --out")


def start(tmp_path: Path) -> subprocess.Popen:
    (tmp_path / "command.py").write_text(COMMAND)
    return torchrun(tmp_path / "command.py", *ARGUMENTS, tmp_path / "run")


def wait_for_epochs(tmp_path: Path, epochs: int, process: subprocess.Popen) -> None:
    while not (tmp_path / "run" / "checkpoint.pt").exists() or finished_epochs(tmp_path / "run") < epochs:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_the_command_survives_ctrl_c_and_the_death_of_a_process(tmp_path):
    process = start(tmp_path)
    wait_for_epochs(tmp_path, 1, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert re.findall("Stopped.*", errors) == [f"Stopped. {kept(tmp_path)} Run the same again to go on from there."]
    assert "KeyboardInterrupt" not in errors
    done = finished_epochs(tmp_path / "run")
    assert output.count("resnet8, 10 epochs") == output.count("1 of 10 epochs") == 1  # one process writes

    process = start(tmp_path)
    wait_for_epochs(tmp_path, done + 1, process)
    os.kill(int((tmp_path / "1").read_text()), signal.SIGKILL)
    output, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "SIGKILL" in errors  # torchrun says who died, and ends process 0, be it before or after its own message
    assert f"\n{done + 1} of 10 epochs" in output

    done_again = finished_epochs(tmp_path / "run")
    _, history, sessions = read_run(tmp_path / "run")
    assert [(each["first_epoch"], each["last_epoch"]) for each in sessions] == [(0, done - 1), (done, len(history) - 1)]
    assert sessions[0]["command"].startswith("torchrun --nproc-per-node=2 -m resnet_lib train --model resnet8")
    assert sessions[0]["hardware"]["processes"] == 2
    assert len(history) in (done_again, done_again - 1)  # a kill may come between checkpoint and history
    # One process goes on from there, and has learnt what one would have learnt.
    recipe = Recipe(10, 50, 0.1, "multi_step", (5, 7, 9), seed=2)
    train, test = load_cifar10("train", "bundled")[::25], load_cifar10("test", "bundled")[::25]
    torch.manual_seed(2)
    expected = fit(create_model("resnet8"), train, recipe, test, progress=False)
    resumed, checkpoint = create_model("resnet8"), tmp_path / "run" / "checkpoint.pt"
    history = fit(resumed, train, recipe, test, checkpoint=checkpoint, progress=False)
    assert len(history) == 10
    assert history["train_loss"].sub(expected["train_loss"]).abs().max() < 0.05


def kept(tmp_path: Path) -> str:
    done = finished_epochs(tmp_path / "run")
    return f"{tmp_path / 'run' / 'checkpoint.pt'} keeps the first {f'{done} epochs' if done > 1 else 'epoch'}."


# --- Alone


def test_alone_nothing_is_distributed():
    model = nn.BatchNorm2d(1)
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.sums(1, 2.5) == [1, 2.5]
    assert distributed.from_main(lambda: 3) == 3
    with distributed.together(torch.device("cpu")), distributed.replicated(model, False) as network:
        assert network is model
    assert not torch.distributed.is_initialized()
    assert distributed.launcher() == ["python"]
    assert distributed.who() == ""


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 1), ("cuda:1", 4)])
def test_two_processes_need_a_gpu_each(monkeypatch, device, gpus):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(
        ValueError, match=rf"2 processes on this machine need a GPU each: device='{device}', {gpus} GPUs"
    ):
        distributed.own_gpu(torch.device(device))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert distributed.own_gpu(torch.device("cuda")) == torch.device("cuda", 1)
    assert distributed.own_gpu(torch.device("cpu")) == torch.device("cpu")
