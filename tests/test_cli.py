"""The command line trains, goes on after Ctrl-C and after kill -9 to the same bits, and tells errors in a line."""

import contextlib
import io
import json
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

from resnet_lib import __main__ as cli
from resnet_lib.data import load_cifar10
from resnet_lib.fast import create_network
from resnet_lib.models import create_model
from resnet_lib.provenance import RunFolder, describe_session
from resnet_lib.training import Recipe, evaluate, fit

# `python -m resnet_lib` on every 25th image of the bundled set, so that an epoch takes a quarter of a second. A test
# runner in the background of a shell hands down a SIGINT that is ignored; a person's terminal does not.
ON_A_FEW = """
import runpy, signal
import resnet_lib.data
signal.signal(signal.SIGINT, signal.default_int_handler)
load = resnet_lib.data.load_cifar10
resnet_lib.data.load_cifar10 = lambda split, size: load(split, size)[::25]
runpy.run_module("resnet_lib", run_name="__main__", alter_sys=True)
"""
SETTINGS = shlex.split("--model resnet8 --size bundled --epochs 8 --batch-size 50 --seed 2 --device cpu")


def start(out: Path, settings: list[str] = SETTINGS) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", ON_A_FEW, "train", *settings, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def wait_for(file: Path, process: subprocess.Popen) -> None:
    while not file.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def read_run(folder: Path) -> tuple[dict, pd.DataFrame, list[dict]]:
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    history = pd.read_csv(folder / "history.csv").drop(columns=["seconds", "images_per_second"])
    return content, history, json.loads((folder / "provenance.json").read_text())


def finished_epochs(folder: Path) -> int:
    return len(torch.load(folder / "checkpoint.pt", weights_only=True)["history"])


def same_tensors(one: dict, other: dict) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def run_here(*arguments: str | Path) -> int:
    """The exit code of a command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["resnet_lib", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as exit:
            return exit.code or 0
    return 0


@pytest.fixture(scope="module")
def on_a_few(one_thread):
    """As ON_A_FEW and OMP_NUM_THREADS have it, for this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "load_cifar10", lambda split, size: load_cifar10(split, size)[::25])
        yield


@pytest.fixture(scope="module")
def uninterrupted(on_a_few, tmp_path_factory):
    """The folder of a run that was never stopped, and what it printed."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):  # no terminal: no bar
        assert run_here("train", *SETTINGS, "--out", folder) == 0
    return folder, output.getvalue()


def test_a_run_leaves_its_history_its_checkpoint_and_how_it_was_made(uninterrupted):
    folder, output = uninterrupted
    assert sorted(file.name for file in folder.iterdir()) == ["checkpoint.pt", "history.csv", "provenance.json"]
    content, history, sessions = read_run(folder)
    assert list(history.columns) == ["epoch", "lr", "train_loss", "train_accuracy", "test_accuracy"]
    assert list(history["epoch"]) == list(range(8))
    # 80, 110 and 130 of 150 epochs are 4, 6 and 7 of 8.
    assert list(history["lr"]) == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.0001])
    lines = output.splitlines()
    assert len(lines) == 1 + 8 + 1
    assert lines[0].startswith("resnet8, 8 epochs on Cifar10(bundled train: 200 images), device cpu")
    accuracy = history["test_accuracy"].iloc[-1]
    assert lines[-2].startswith("8 of 8 epochs: learning rate 0.0001, train loss")
    assert f"test accuracy {accuracy:.1%}" in lines[-2]
    assert lines[-1] == f"test accuracy after the last epoch: {accuracy:.2%}"
    # The weights in the checkpoint are the ones that were measured.
    model = create_model("resnet8")
    model.load_state_dict(content["model"])
    test = load_cifar10("test", "bundled")[::25]
    assert evaluate(model, test) == pytest.approx(accuracy)

    assert len(sessions) == 1
    assert sessions[0]["hardware"]["threads"] == 1
    assert torch.__version__.startswith(sessions[0]["versions"]["torch"])
    assert re.fullmatch("([0-9a-f]{40}(-modified)?|unknown)", sessions[0]["commit"])
    assert (sessions[0]["first_epoch"], sessions[0]["last_epoch"]) == (0, 7)
    # The command is complete, and its folder is the run's own, not this machine's.
    assert shlex.split(sessions[0]["command"]) == ["python", "-m", "resnet_lib", "train", *SETTINGS, "--out", "run"]
    assert str(folder.parent) not in (folder / "provenance.json").read_text()


def test_the_command_is_fit_with_the_seed_before_the_weights(uninterrupted):
    torch.manual_seed(2)
    model = create_model("resnet8")
    recipe = Recipe(8, 50, 0.1, "multi_step", (4, 6, 7), momentum=0.9, weight_decay=1e-4, seed=2)
    fit(model, load_cifar10("train", "bundled")[::25], recipe, progress=False)
    assert same_tensors(model.state_dict(), read_run(uninterrupted[0])[0]["model"])


@pytest.mark.parametrize(("model", "recipe"), [("fast_resnet", "fast_cpu"), ("fast_resnet_wide", "fast_wide")])
def test_a_fast_recipe_is_a_command_and_tells_both_evaluations(on_a_few, tmp_path, capsys, model, recipe):
    few = shlex.split(f"--model {model} --recipe {recipe} --size bundled --epochs 1 --batch-size 50 --device cpu")
    assert run_here("train", *few, "--two-views", "--out", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    network = create_network(model)
    network.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"])
    test = load_cifar10("test", "bundled")[::25]
    assert lines[-2] == f"test accuracy after the last epoch: {evaluate(network, test):.2%}"
    assert lines[-1] == f"with two views: {evaluate(network, test, mirrored=True):.2%}"


@pytest.mark.parametrize("how", ["kill -9", "Ctrl-C"])
def test_a_stopped_run_goes_on_to_the_same_bits(uninterrupted, tmp_path, capsys, how):
    if how == "Ctrl-C" and sys.platform == "win32":
        pytest.skip("Windows has no SIGINT to send to one process")
    process = start(tmp_path)
    wait_for(tmp_path / "checkpoint.pt", process)
    if how == "kill -9":
        process.kill()
        process.communicate()
        assert process.returncode != 0
    else:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert re.search(
            r"Stopped\. .*checkpoint\.pt keeps the first .*Run the same again to go on from there\.", errors
        )
        assert "Traceback" not in errors
    done = finished_epochs(tmp_path)
    assert 1 <= done < 8

    if how == "kill -9":
        output = finish(start(tmp_path))
    else:  # in this process, which is quicker
        assert run_here("train", *SETTINGS, "--out", tmp_path) == 0
        output = capsys.readouterr().out
    assert f"\n{done + 1} of 8 epochs" in output
    assert f"\n{done} of 8 epochs" not in output
    content, history, sessions = read_run(tmp_path)
    expected_content, expected_history, _ = read_run(uninterrupted[0])
    assert same_tensors(content["model"], expected_content["model"])
    momenta, expected_momenta = (each["optimizer"]["state"] for each in (content, expected_content))
    assert all(same_tensors(momenta[key], expected_momenta[key]) for key in expected_momenta)
    pd.testing.assert_frame_equal(history, expected_history, check_exact=True)
    assert (sessions[-1]["first_epoch"], sessions[-1]["last_epoch"]) == (done, 7)


@pytest.fixture
def copy_of_run(uninterrupted, tmp_path):
    for file in uninterrupted[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_finished_run_says_its_result_again_and_stays_as_it_is(on_a_few, copy_of_run, capsys):
    before = {file.name: file.read_bytes() for file in copy_of_run.iterdir()}
    (copy_of_run / "history.csv").write_text("lost by a kill just after the last checkpoint")
    code = run_here("train", *SETTINGS, "--out", copy_of_run)
    output = capsys.readouterr().out
    assert code == 0
    assert "test accuracy after the last epoch: " in output
    assert {file.name: file.read_bytes() for file in copy_of_run.iterdir()} == before


def test_another_recipe_is_refused_and_leaves_no_trace(on_a_few, copy_of_run, capsys):
    before = {file.name: file.read_bytes() for file in copy_of_run.iterdir()}
    code = run_here("train", *SETTINGS, "--out", copy_of_run, "--recipe", "he2015", "--shortcut", "B")
    errors = capsys.readouterr().err
    assert code == 1
    assert errors.startswith(f"Error: {copy_of_run / 'checkpoint.pt'} belongs to another run.")
    assert "-milestones: (4, 6, 7)\n  +milestones: (4, 6)" in errors
    assert "PaddedIdentity" in errors
    assert {file.name: file.read_bytes() for file in copy_of_run.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "vgg16"], "model 'vgg16': expected resnet18"),
        (["--model", "resnet21"], "depth=21"),
        (["--model", "resnet20", "--stem", "readme"], "resnet20 is made for the 'cifar' stem, not 'readme'"),
        (["--epochs", "0"], "epochs=0"),
        (["--batch-size", "0"], "batch_size=0"),
        (["--seed", "-1"], "seed=-1"),
        (["--device", "cuda:99"], "device='cuda:99' cannot be used here"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_and_makes_no_folder(tmp_path, capsys, arguments, said):
    code = run_here("train", "--out", tmp_path / "run", *arguments)
    errors = capsys.readouterr().err
    assert code == 1
    assert errors.startswith("Error: ")
    assert said in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_training(on_a_few, tmp_path, capsys):
    (tmp_path / "file").touch()
    code = run_here("train", *SETTINGS, "--out", tmp_path / "file")
    output, errors = capsys.readouterr()
    assert code == 1
    assert "is no folder that can be written to" in errors
    assert "1 of 8 epochs" not in output


def test_an_option_that_is_not_there_is_told_with_what_there_is(capsys):
    code = run_here("train", "--recipe", "fast")
    errors = capsys.readouterr().err
    assert code == 2
    assert "'fast' is not one of 'readme', 'he2015'" in errors


def test_help_has_a_text_for_each_option_and_no_type_names_of_the_parser(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run_here("train", "--help") == 0
    shown = capsys.readouterr().out
    assert "Train a network on CIFAR-10." in shown
    options = re.findall(r"(?m)^  (--[a-z-]+)(?: <[^>]*>| [A-Z]+)?(.*(?:\n {10,}.*)*)", shown)
    names = (
        "model shortcut stem recipe epochs batch-size seed size evaluate-on out device local-batch-norm two-views help"
    )
    assert [name for name, _ in options] == [f"--{name}" for name in names.split()]
    assert all(len(text.split()) >= 4 for _, text in options)
    assert not re.search("range|<str>|<int>|<path>|TEXT|INTEGER|Optional", shown)


def test_the_recipe_as_the_options_change_it():
    recipe = cli.choose_recipe("readme", epochs=15, batch_size=128, seed=7)
    assert (recipe.epochs, recipe.milestones, recipe.batch_size, recipe.seed) == (15, (8, 11, 13), 128, 7)
    assert cli.choose_recipe("he2015", None, None, 0) == cli.RECIPES["he2015"]


# --- Provenance


@pytest.mark.parametrize(
    ("typed", "recorded"),
    [
        (["--out", "runs/a"], "--out runs/a"),
        (["--out", "/home/zora/runs/a"], "--out a"),
        (["--out=/home/zora/runs/a=b"], "--out=a=b"),
        (["--from", "../../zora/cifar.tar.gz"], "--from cifar.tar.gz"),
        (["--out", "two words"], "--out 'two words'"),
    ],
)
def test_a_recorded_command_has_no_folders_of_the_machine(monkeypatch, typed, recorded):
    monkeypatch.setattr(sys, "argv", ["/home/zora/course/resnet_lib/__main__.py", "train", *typed])
    session = describe_session(torch.device("cpu"))
    assert session["command"] == f"python -m resnet_lib train {recorded}"
    # Not a name that could stand in the hash of a commit.
    assert "zora" not in json.dumps(session)


def test_sessions_are_listed_with_the_epochs_that_they_trained(tmp_path):
    def sessions():
        return [
            (session["name"], session["first_epoch"], session["last_epoch"])
            for session in json.loads((tmp_path / "provenance.json").read_text())
        ]

    history = pd.DataFrame({"epoch": [0, 1, 2], "lr": [0.1] * 3})
    first = RunFolder(tmp_path, {"name": "first"})
    first.record(history[:1])
    first.record(history[:2])
    second = RunFolder(tmp_path, {"name": "second"})
    assert sessions() == [("first", 0, 1)]  # it may still be killed before it finishes an epoch
    second.record(history)
    assert sessions() == [("first", 0, 1), ("second", 2, 2)]
    # Its checkpoint deleted, a run starts anew: the sessions of the old one made nothing of it.
    RunFolder(tmp_path, {"name": "anew"}).record(history[:1])
    assert sessions() == [("anew", 0, 0)]


def test_a_damaged_list_of_sessions_is_told_and_kept(tmp_path):
    file = tmp_path / "provenance.json"
    file.write_text('[{"name": "fir')
    with pytest.raises(ValueError, match=r"provenance\.json is damaged .* Delete it to go on"):
        RunFolder(tmp_path, {"name": "second"})
    assert file.read_text() == '[{"name": "fir'
