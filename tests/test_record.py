"""A recorded run is the plain training, survives a kill at any moment, and says how it was made."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from resnet_lib import __main__ as cli
from resnet_lib import notes as notes_module
from resnet_lib import record as record_module
from resnet_lib.checkpoints import CheckpointError
from resnet_lib.data import load_cifar10
from resnet_lib.files import write_csv
from resnet_lib.models import create_model
from resnet_lib.notes import Notes, first_of_each_class, probe, probe_batch
from resnet_lib.plan import GROUPS, PLANNED, PeakSweep, TrainingRun, find, schedule_recipe
from resnet_lib.record import Recorder, next_peak, save_weights
from resnet_lib.runs import choose_peaks, load_layers, load_run, load_runs, load_trained, trained_metadata
from resnet_lib.training import README_RECIPE, Recipe, evaluate, fit, predict

pytestmark = pytest.mark.usefixtures("one_thread")

TIMES = ["seconds", "images_per_second"]
RECIPE = Recipe(epochs=2, batch_size=40, peak_lr=0.05, seed=3)
TINY = TrainingRun("tiny", "resnet8", RECIPE, size="bundled", per_class=8, probe=True, keep_weights=True)
RESULTS = ["runs/layers/tiny.csv", "runs/tiny.csv", "runs/tiny.json", "weights/tiny.safetensors"]


@functools.cache
def load_a_few(*arguments):
    """Every 25th image of the bundled set; once, since that takes longer than to train on them."""
    return load_cifar10(*arguments)[::25]


@pytest.fixture(autouse=True, scope="module")
def on_a_few():
    with pytest.MonkeyPatch.context() as patch:
        for module in (record_module, notes_module):
            patch.setattr(module, "load_cifar10", load_a_few)
        patch.setattr(notes_module, "PROBE_IMAGES", 16)
        patch.setattr(notes_module, "PROBE_PER_CLASS", 3)
        yield


# `record` in a process of its own, to be killed.
IN_A_PROCESS = f"""
import sys
from pathlib import Path
from resnet_lib import notes, record
from resnet_lib.plan import TrainingRun
from resnet_lib.training import Recipe
load = record.load_cifar10
record.load_cifar10 = notes.load_cifar10 = lambda *arguments: load(*arguments)[::25]
notes.PROBE_IMAGES, notes.PROBE_PER_CLASS = 16, 3
folder = Path(sys.argv[1])
record.Recorder(lambda *arguments: None, folder / "work", folder / "data").record({TINY!r})
"""


def recorder(folder: Path, report=lambda *arguments: None) -> Recorder:
    return Recorder(report, folder / "work", folder / "data")


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def assert_same_results(folder: Path, other: Path) -> None:
    """All files of `TINY`, but for when they were made and how long that took."""
    one, other = folder / "data", other / "data"
    assert files(one) == files(other) == RESULTS
    assert (one / "runs/layers/tiny.csv").read_bytes() == (other / "runs/layers/tiny.csv").read_bytes()
    assert trained_metadata("tiny", one / "weights") == trained_metadata("tiny", other / "weights")
    weights, expected = (load_trained("tiny", data / "weights").state_dict() for data in (one, other))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    run, expected = (load_run("tiny", data / "runs") for data in (one, other))
    assert run.history.drop(columns=TIMES).equals(expected.history.drop(columns=TIMES))
    assert (run.settings, run.first_losses) == (expected.settings, expected.first_losses)


@pytest.fixture(scope="module")
def recorded(on_a_few, tmp_path_factory):
    """The folder in which `TINY` was recorded without a stop."""
    folder = tmp_path_factory.mktemp("recorded")
    recorder(folder).record(TINY)
    return folder


# --- One run


def test_a_recorded_run_is_the_plain_training_to_the_bit(recorded):
    """Measuring along the way changes nothing: weights, optimiser, random state."""
    torch.manual_seed(3)
    model = create_model("resnet8", shortcut="A")
    train, test = (load_a_few(split, "bundled") for split in ("train", "test"))
    history = fit(model, first_of_each_class(train, 8), RECIPE, test, progress=False, checkpoint=recorded / "plain.pt")
    run = load_run("tiny", recorded / "data" / "runs")
    shared = [name for name in history if name not in TIMES]
    pd.testing.assert_frame_equal(run.history[shared], history[shared], rtol=1e-5)

    plain, recorded_state = (
        torch.load(file, weights_only=True)
        for file in (recorded / "plain.pt", recorded / "work" / "tiny" / "checkpoint.pt")
    )
    assert all(torch.equal(plain["model"][name], recorded_state["model"][name]) for name in plain["model"])
    assert torch.equal(plain["random_state"]["cpu"], recorded_state["random_state"]["cpu"])
    momentum, recorded_momentum = (state["optimizer"]["state"] for state in (plain, recorded_state))
    for key, value in momentum.items():
        assert torch.equal(value["momentum_buffer"], recorded_momentum[key]["momentum_buffer"])


def test_it_says_how_it_was_made(recorded):
    run = load_run("tiny", recorded / "data" / "runs")
    assert run.settings["data"] == {"split": "train", "size": "bundled", "images": 80, "evaluated_on": "test"}
    assert (run.settings["model"], run.settings["shortcut"]) == ("resnet8", "A")
    assert Recipe(**run.settings["recipe"]) == RECIPE
    assert run.seconds == round(run.history["seconds"].sum())
    (session,) = run.sessions
    assert session["command"] == "python -m resnet_lib record tiny"
    assert re.fullmatch("([0-9a-f]{40}(-modified)?|unknown)", session["commit"])
    assert {"versions", "hardware", "started"} <= session.keys()
    assert (session["first_epoch"], session["last_epoch"]) == (0, 1)
    assert str(recorded.parent) not in (recorded / "data" / "runs" / "tiny.json").read_text()


def test_the_first_losses_are_those_of_the_run(recorded):
    """Two steps of 40 images are the first epoch: its mean loss is theirs."""
    run = load_run("tiny", recorded / "data" / "runs")
    assert len(run.first_losses) == 2
    assert run.history["train_loss"][0] == pytest.approx(sum(run.first_losses) / 2, rel=1e-5)


def test_gradients_are_measured_at_the_start_and_after_each_epoch(recorded):
    """Against autograd on a copy; at the end, that of the trained weights, the checkpoint's."""
    layers = load_layers("tiny", recorded / "data" / "runs")
    assert list(layers.columns) == ["epochs_trained", "layer", "gradient_norm", "weight_norm"]
    assert layers["epochs_trained"].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    trained = torch.load(recorded / "work" / "tiny" / "checkpoint.pt", weights_only=True)["model"]
    for epochs in (0, 2):
        torch.manual_seed(3)
        model = create_model("resnet8")
        if epochs:
            model.load_state_dict(trained)
        images, labels = probe_batch()
        F.cross_entropy(model(images), labels).backward()
        weights = {
            name: module.weight for name, module in model.named_modules() if name.endswith(("fc", "conv1", "conv2"))
        }
        table = layers[layers["epochs_trained"] == epochs].set_index("layer")
        assert set(table.index) == set(weights)
        for name, weight in weights.items():
            assert table.loc[name, "gradient_norm"] == pytest.approx(weight.grad.norm().item(), rel=2e-3)
            assert table.loc[name, "weight_norm"] == pytest.approx(weight.norm().item(), rel=1e-3)


def test_training_accuracy_is_of_fixed_images_in_evaluation_mode(recorded):
    model = create_model("resnet8")
    model.load_state_dict(torch.load(recorded / "work" / "tiny" / "checkpoint.pt", weights_only=True)["model"])
    fixed = first_of_each_class(load_a_few("train", "bundled"), notes_module.PROBE_PER_CLASS)
    history = load_run("tiny", recorded / "data" / "runs").history
    assert history["train_eval_accuracy"].iloc[-1] == pytest.approx(evaluate(model, fixed), rel=1e-5)


def test_measuring_leaves_every_modules_mode_and_buffers():
    model = create_model("resnet8").train()
    model.layer1.eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    probe(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_measurement_that_fails_leaves_every_modules_mode():
    model = create_model("resnet8").eval()
    model.layer1.train()
    modes = [module.training for module in model.modules()]
    model.fc.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        probe(model)
    assert [module.training for module in model.modules()] == modes


def test_a_run_begun_on_a_gpu_is_measured_on_a_machine_without(tmp_path, monkeypatch):
    model = create_model("resnet8")
    Notes(tmp_path).measure(model, 0)
    with monkeypatch.context() as patch:  # what a tensor on a GPU is saved with
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save({"history": [{"epoch": 0}], "model": model.state_dict()}, tmp_path / "checkpoint.pt")
    notes = Notes(tmp_path)
    notes.catch_up(model)
    assert [measured["epochs"] for measured in notes.measured] == [0, 1]


def test_the_first_images_of_each_class():
    data = load_cifar10("train", "bundled")[torch.randperm(5000, generator=torch.Generator().manual_seed(0))]
    some = first_of_each_class(data, 7)
    assert torch.bincount(some.labels).tolist() == [7] * 10
    expected = [i for i in range(5000) if (data.labels[:i] == data.labels[i]).sum() < 7]
    assert torch.equal(some.images, data.images[expected])
    assert first_of_each_class(data, None) is data


# --- Kills


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches a kill."""


def test_killed_at_any_write_it_leaves_nothing_half_and_ends_the_same(recorded, tmp_path, monkeypatch):
    """Every file is put in place by `Path.replace`: die just before each of them in turn."""
    put_in_place = Path.replace
    for deadly in range(100):
        writes = []

        def replace_or_die(self, target, deadly=deadly, writes=writes):
            if len(writes) == deadly:
                raise Killed
            writes.append(Path(target).name)
            return put_in_place(self, target)

        folder = tmp_path / str(deadly)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace_or_die)
            try:
                recorder(folder).record(TINY)
            except Killed:
                assert not (folder / "data" / "runs" / "tiny.csv").exists()
            else:
                break
        assert set(files(folder / "data")) < set(RESULTS)
        for name in files(folder / "data"):  # what is there is whole, if not all
            assert (folder / "data" / name).stat().st_size == pytest.approx(
                (recorded / "data" / name).stat().st_size, abs=10
            )
        recorder(folder).record(TINY)
        assert_same_results(folder, recorded)
    assert writes[-4:] == ["tiny.safetensors", "tiny.csv", "tiny.json", "tiny.csv"]
    assert 12 < deadly < 30


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_killed_by_the_system_it_goes_on(recorded, tmp_path):
    def start() -> subprocess.Popen:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", IN_A_PROCESS, tmp_path], env=environment)

    process = start()
    while not (tmp_path / "work" / "tiny" / "history.csv").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "data").rglob("*.csv"))
    assert start().wait(120) == 0
    for partial in tmp_path.rglob("*.partial"):  # a kill may leave such; git ignores them
        partial.unlink()
    assert_same_results(tmp_path, recorded)


def test_an_old_checkpoint_of_another_plan_is_refused(recorded, tmp_path):
    recorder(tmp_path).record(TINY)
    (tmp_path / "data" / "runs" / "tiny.csv").unlink()
    with pytest.raises(CheckpointError, match="belongs to another run"):
        recorder(tmp_path).record(replace(TINY, recipe=replace(RECIPE, peak_lr=0.1)))
    # Without it the run begins anew, whatever notes are left.
    (tmp_path / "work" / "tiny" / "checkpoint.pt").unlink()
    (tmp_path / "work" / "tiny" / "notes.json").write_text("not even JSON")
    recorder(tmp_path).record(TINY)
    assert_same_results(tmp_path, recorded)
    # With it, but without the notes, what was measured on the way is lost.
    (tmp_path / "work" / "tiny" / "notes.json").unlink()
    with pytest.raises(CheckpointError, match=r"does not have what was measured in the 2 epochs .* to start anew"):
        recorder(tmp_path).record(TINY)


def test_what_an_earlier_session_left_is_taken_over(recorded, tmp_path):
    """From another machine's first epoch, by way of the repository."""

    def stop(name, history, epochs):
        raise Killed

    with pytest.raises(Killed):
        recorder(tmp_path / "earlier", stop).record(TINY)
    left = tmp_path / "later" / "data" / "runs" / "unfinished" / "tiny"
    shutil.copytree(tmp_path / "earlier" / "work" / "tiny", left)
    copy = {file.name: file.read_bytes() for file in left.iterdir()}
    assert recorder(tmp_path / "later").state(TINY) == "1 of 2 epochs"
    trained = []
    recorder(tmp_path / "later", lambda name, history, epochs: trained.append(len(history))).record(TINY)
    assert trained == [2]  # the second epoch alone
    assert {file.name: file.read_bytes() for file in left.iterdir()} == copy
    shutil.rmtree(left.parent)
    assert_same_results(tmp_path / "later", recorded)
    sessions = load_run("tiny", tmp_path / "later" / "data" / "runs").sessions
    assert [(session["first_epoch"], session["last_epoch"]) for session in sessions] == [(0, 0), (1, 1)]


# --- Weights


def test_the_weights_come_back_as_they_were_but_for_half_precision(recorded):
    weights = recorded / "data" / "weights"
    model = load_trained("tiny", weights)
    trained = torch.load(recorded / "work" / "tiny" / "checkpoint.pt", weights_only=True)["model"]
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == trained[name].dtype
        assert torch.allclose(tensor, trained[name], rtol=1e-3, atol=1e-6)
    assert trained_metadata("tiny", weights) == {
        "model": "resnet8",
        "shortcut": "A",
        "run": "tiny",
        "test_accuracy": f"{load_run('tiny', recorded / 'data' / 'runs').history['test_accuracy'].iloc[-1]:.4f}",
        "bundled_test_accuracy": f"{evaluate(model, load_a_few('test', 'bundled')):.4f}",
    }


def test_weights_that_half_precision_would_spoil_stay_float32(tmp_path):
    """A batch norm whose running variance is beyond float16."""
    torch.manual_seed(0)
    model = create_model("resnet8").eval()
    model.bn1.running_var.fill_(1e6)
    model.bn1.weight.data.fill_(1e3)
    images = load_a_few("test", "bundled")
    images = type(images)(images.images, predict(model, images).argmax(1), "test", "bundled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_module, "load_cifar10", lambda *_: images)  # labelled as the model has it: all is right
        save_weights(TINY, model, pd.DataFrame({"test_accuracy": [1.0]}), tmp_path)
    assert trained_metadata("tiny", tmp_path)["bundled_test_accuracy"] == "1.0000"
    assert torch.equal(load_trained("tiny", tmp_path).bn1.running_var, model.bn1.running_var)


def test_what_is_not_there_is_told_with_what_is(recorded):
    data = recorded / "data"
    with pytest.raises(FileNotFoundError, match=r"no recorded run 'tin' .* There are: tiny\."):
        load_run("tin", data / "runs")
    with pytest.raises(FileNotFoundError, match=r"no recorded trained network 'tin' .* There are: tiny\."):
        load_trained("tin", data / "weights")
    with pytest.raises(FileNotFoundError, match=r"gradients by layer 'tin' .* There are: tiny\."):
        load_layers("tin", data / "runs")
    with pytest.raises(FileNotFoundError, match="None of these runs is recorded"):
        load_runs(["tin"], data / "runs")


def test_several_runs_in_one_table(recorded):
    table = load_runs(["missing", "tiny"], recorded / "data" / "runs")
    assert table[["run", "model", "shortcut", "schedule", "peak_lr", "seed"]].drop_duplicates().values.tolist() == [
        ["tiny", "resnet8", "A", "constant", 0.05, 3]
    ]
    assert table["epoch"].tolist() == [0, 1]


# --- The sweep of peaks


def short(schedule: str) -> TrainingRun:
    recipe = replace(schedule_recipe(schedule, 1), batch_size=16)
    return TrainingRun(schedule, "resnet8", recipe, size="bundled", split="train_part", per_class=4)


SWEEP = PeakSweep("sweep", (short("constant"), short("linear")), (0.05, 0.1), most=3)


def test_a_sweep_is_one_table_and_resumable(tmp_path):
    done = []

    def stop_at_the_third(name, history, epochs):
        done.append(name)
        if len(done) == 3:
            raise Killed

    with pytest.raises(Killed):
        recorder(tmp_path, stop_at_the_third).record(SWEEP)
    assert not (tmp_path / "data").exists()
    assert "3 epochs in 3 runs" in recorder(tmp_path).state(SWEEP)
    recorder(tmp_path, lambda name, *_: done.append(name)).record(SWEEP)
    assert len(done) == len(set(done))  # none was trained twice

    table = pd.read_csv(tmp_path / "data" / "runs" / "sweep.csv")
    counts = table.groupby("schedule")["peak_lr"].nunique()
    assert counts.between(2, 3).all()
    assert {"epoch", "lr", "train_loss", "validation_accuracy"} <= set(table)
    provenance = json.loads((tmp_path / "data" / "runs" / "sweep.json").read_text())
    assert [settings["recipe"]["schedule"] for settings in provenance["settings"]] == ["constant", "linear"]
    assert provenance["sessions"][0]["command"] == "python -m resnet_lib record sweep"
    assert recorder(tmp_path).state(SWEEP) == "recorded"

    # A run that leaves its peak to the sweep gets the best one.
    run = replace(short("linear"), name="final", peaks="sweep", probe=False)
    recorder(tmp_path).record(run)
    linear = table[table["schedule"] == "linear"].sort_values(
        ["validation_accuracy", "peak_lr"], ascending=[False, True]
    )
    assert load_run("final", tmp_path / "data" / "runs").settings["recipe"]["peak_lr"] == linear["peak_lr"].iloc[0]


def test_a_group_may_hold_more_than_runs():
    runs = load_runs(["schedules_peaks", "resnet8_bundled", "fast_ablation_0"])
    assert set(runs["run"]) == {"resnet8_bundled"}
    with pytest.raises(FileNotFoundError, match="None of these runs"):
        load_runs(["schedules_peaks"])


def test_a_sweep_in_which_every_run_diverges_is_recorded_as_such(tmp_path):
    hopeless = PeakSweep("sweep", (short("constant"),), (1e20, 1e25), most=2)
    recorder(tmp_path).record(hopeless)
    table = pd.read_csv(tmp_path / "data" / "runs" / "sweep.csv")
    assert table["peak_lr"].tolist() == [1e20, 1e25]
    assert table["validation_accuracy"].isna().all()


def test_a_run_whose_sweep_is_missing_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recorded sweep 'sweep'"):
        recorder(tmp_path).record(replace(short("linear"), peaks="sweep"))


def test_the_best_peak_is_the_last_epochs_and_of_equals_the_lower(tmp_path):
    rows = [("a", 0.1, 0, 0.9), ("a", 0.1, 1, 0.5), ("a", 0.4, 1, 0.7), ("a", 0.2, 1, 0.7), ("a", 0.8, 1, None)]
    rows += [("b", 0.1, 1, 0.5), ("b", 0.2, 1, 0.4)]
    write_csv(tmp_path / "s.csv", pd.DataFrame(rows, columns=["schedule", "peak_lr", "epoch", "validation_accuracy"]))
    assert choose_peaks("s", tmp_path) == {"a": 0.2, "b": 0.1}


def test_a_schedule_that_diverged_at_every_peak_is_told(tmp_path):
    rows = [("a", 0.1, 1, 0.5), ("b", 0.1, 1, None), ("b", 0.2, 1, None)]
    write_csv(tmp_path / "s.csv", pd.DataFrame(rows, columns=["schedule", "peak_lr", "epoch", "validation_accuracy"]))
    with pytest.raises(ValueError, match=r"sweep 's': every peak of 'b' diverged"):
        choose_peaks("s", tmp_path)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({}, 0.1),
        ({0.1: 0.5}, 0.2),
        ({0.1: 0.5, 0.2: 0.6, 0.4: 0.5}, None),
        ({0.1: 0.5, 0.2: 0.6, 0.4: 0.7}, 0.8),
        ({0.1: 0.5, 0.2: 0.6, 0.4: 0.7, 0.8: float("nan")}, None),
        ({0.1: 0.5, 0.2: 0.4, 0.4: 0.3}, 0.05),
        ({0.1: 0.5, 0.2: 0.4, 0.4: 0.3, 0.05: 0.6}, 0.025),
        ({0.1: 0.5, 0.2: 0.4, 0.4: 0.3, 0.05: 0.6, 0.025: 0.7}, None),
    ],
)
def test_a_peak_at_the_edge_makes_the_sweep_wider(measured, expected):
    assert next_peak(PeakSweep("s", (), (0.1, 0.2, 0.4), most=5), measured) == expected


# --- The plan


def test_the_plan_has_what_the_comparison_needs():
    schedules = [run for run in find(["schedules"]) if isinstance(run, TrainingRun)]
    assert {(run.recipe.schedule, run.recipe.seed) for run in schedules} == {
        (schedule, seed)
        for schedule in ("constant", "multi_step", "cosine", "one_cycle", "linear")
        for seed in range(3)
    }
    # Equal but for schedule, seed and the peak that the sweep chooses.
    alike = {
        replace(run, name="", recipe=replace(run.recipe, schedule="constant", milestones=(), seed=0))
        for run in schedules
    }
    assert len(alike) == 1
    assert {run.recipe.milestones for run in schedules} == {(), (16, 22, 26)}

    twins = find(["twins"])
    assert {(run.model, run.shortcut, run.recipe.seed) for run in twins} == {
        (f"resnet{depth}", shortcut, seed) for depth in (8, 20, 32, 56) for shortcut in ("A", "none") for seed in (0, 1)
    }
    assert {replace(run.recipe, seed=0) for run in twins} == {replace(README_RECIPE.scaled_to(12), batch_size=128)}
    assert len({(run.split, run.per_class, run.probe) for run in twins}) == 1
    # The budget is 20 hours of two cores; the fast recipe's runs have another question, and are not in it.
    assert sum(item.core_hours for name, item in PLANNED.items() if not name.startswith("fast_")) < 40


def test_the_sweep_never_sees_the_test_set():
    (sweep,) = (item for item in PLANNED.values() if isinstance(item, PeakSweep))
    assert {(run.split, run.evaluate_on) for run in sweep.runs} == {("train_part", "validation")}
    assert len(sweep.peaks) >= 4


def test_the_long_run_is_the_one_that_the_train_command_makes():
    """So that a checkpoint of `python -m resnet_lib train --recipe readme --batch-size 128` can be taken over."""
    assert PLANNED["resnet20_readme_150"].recipe == cli.choose_recipe("readme", None, 128, 0)


def test_weights_are_kept_with_their_test_accuracy_or_not_at_all():
    with pytest.raises(ValueError, match="keep_weights is for runs on split='train'"):
        TrainingRun("no_test_accuracy", "resnet8", README_RECIPE, split="train_part", keep_weights=True)


def test_names_stand_for_runs_and_groups_in_order_each_once():
    assert [item.name for item in find(["twin_plain8_0", "twins"])][:2] == ["twin_plain8_0", "twin_resnet8_0"]
    assert len(find(["all", "twins", "schedules"])) == len(PLANNED) == len(set(PLANNED))
    assert find(["schedules"])[0].name == "schedules_peaks"
    assert not PLANNED.keys() & GROUPS.keys()
    assert all(re.fullmatch("[a-z0-9_-]+", name) and item.name == name for name, item in PLANNED.items())
    with pytest.raises(ValueError, match=r"no run 'twin' in the plan\. Groups: .*twins.* Runs: .*twin_plain8_0"):
        find(["twin"])


# --- The command


def run_here(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["resnet_lib", "record", *arguments])
    try:
        cli.main()
    except SystemExit as exit:
        return exit.code or 0
    return 0


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    """`record` with `TINY` as its plan."""
    monkeypatch.setattr("resnet_lib.plan.PLANNED", {"tiny": TINY})
    monkeypatch.setattr("resnet_lib.plan.GROUPS", {"all": ("tiny",)})
    monkeypatch.setattr(record_module.Recorder.__init__, "__defaults__", (tmp_path / "work", tmp_path / "data"))
    return tmp_path


def test_the_command_lists_and_records_and_leaves_what_is_recorded(in_a_folder, recorded, monkeypatch, capsys):
    assert run_here(monkeypatch, "--list") == 0
    assert re.search(r"tiny +0\.0\d core hours +not begun", capsys.readouterr().out)
    assert run_here(monkeypatch, "all") == 0
    output = capsys.readouterr().out
    assert "tiny: 2 of 2 epochs: learning rate 0.05, train loss" in output
    assert output.rstrip().endswith("tiny.csv")
    assert_same_results(in_a_folder, recorded)
    made = (in_a_folder / "data" / "runs" / "tiny.csv").read_bytes()
    assert run_here(monkeypatch, "tiny") == 0
    output = capsys.readouterr().out
    assert "tiny is recorded already" in output
    for needless in re.search("delete (.*) and (.*)[.]", output).groups():
        path = Path(needless)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "not begun" in record_module.Recorder(print).state(TINY)
    (in_a_folder / "data" / "runs" / "tiny.csv").write_bytes(made)
    assert (in_a_folder / "data" / "runs" / "tiny.csv").read_bytes() == made
    assert run_here(monkeypatch) == 0
    assert re.search("tiny .* recorded", capsys.readouterr().out)


def test_an_unknown_name_is_told_in_a_line(monkeypatch, capsys):
    assert run_here(monkeypatch, "resnet20") == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: There is no run 'resnet20' in the plan. Groups: ")
    assert len(error.splitlines()) == 1


def test_ctrl_c_is_told_with_how_far_it_came(in_a_folder, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "progress_line", interrupt)  # after the first epoch, where its line would be printed
    assert run_here(monkeypatch, "tiny") == 130
    assert "Stopped. " in (error := capsys.readouterr().err)
    assert "keeps the first epoch. Run the same again to go on from there." in error
