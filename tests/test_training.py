"""`fit` is the plain loop, measured honestly, and a stopped run ends as if it had never been stopped."""

import math
import platform
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_lib import training
from resnet_lib.checkpoints import CheckpointError
from resnet_lib.data import BatchLoader, Cifar10, load_cifar10, normalise
from resnet_lib.fast import create_network
from resnet_lib.models import create_model
from resnet_lib.training import (
    Recipe,
    TrainingDiverged,
    TrainingInterrupted,
    evaluate,
    fit,
    pick_device,
    predict,
)

TIMES = ["seconds", "images_per_second"]
RECIPE = Recipe(epochs=3, batch_size=40, peak_lr=0.05, schedule="multi_step", milestones=(1, 2), seed=3)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def train():
    """100 real images: ten of each class."""
    return load_cifar10("train", "bundled")[::50]


@pytest.fixture(scope="module")
def test():
    return load_cifar10("test", "bundled")[::20]


def resnet8(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("resnet8")


def dropout_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(10))


def linear_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


def with_labels_moved(data: Cifar10) -> Cifar10:
    return replace(data, labels=data.labels.roll(1))


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    weights, others = one.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[key], others[key]) for key in weights)


def same_history(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    one, other = one.drop(columns=TIMES), other.drop(columns=TIMES)
    return one.equals(other) and list(one.dtypes) == list(other.dtypes)


# --- The loop


@pytest.mark.skipif(not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_freed_memory_is_kept_for_the_next_tensors():
    """In a fresh process: a tensor of 16 MB, made anew again and again, costs page faults the first time alone."""
    program = """
import resource, torch
from resnet_lib.training import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
print(faults())
keep_freed_memory()
print(faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 10


def test_memory_is_left_alone_where_there_is_no_mallopt(monkeypatch):
    monkeypatch.setattr(training.ctypes, "CDLL", lambda name: object())
    training.keep_freed_memory()
    monkeypatch.setattr(training.sys, "platform", "darwin")
    monkeypatch.setattr(training.ctypes, "CDLL", lambda name: pytest.fail("asked for the C library"))
    training.keep_freed_memory()


def test_fit_is_the_plain_loop_to_the_bit(train, test):
    model = resnet8().eval()  # as an evaluation may have left it
    history = fit(model, train, RECIPE, test, progress=False)

    plain = resnet8().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 2])
    loader = BatchLoader(train, batch_size=40, augment=True, shuffle=True, seed=3)
    for epoch in range(3):
        rate = optimizer.param_groups[0]["lr"]
        losses, hits = [], []
        plain.train()
        for images, labels in loader.epoch(epoch):
            logits = plain(images)
            losses += F.cross_entropy(logits, labels, reduction="none").tolist()
            hits += (logits.argmax(1) == labels).tolist()
            optimizer.zero_grad()
            F.cross_entropy(logits, labels).backward()
            optimizer.step()
        scheduler.step()
        plain.eval()
        with torch.no_grad():
            right = [plain(normalise(test.images[i : i + 1])).argmax().item() == test.labels[i] for i in range(50)]
        row = history.iloc[epoch]
        assert row["epoch"] == epoch
        assert row["lr"] == pytest.approx(rate)
        assert row["train_loss"] == pytest.approx(sum(losses) / 100, rel=1e-5)
        assert row["train_accuracy"] == sum(hits) / 100
        assert row["test_accuracy"] == sum(right) / 50
        assert row["images_per_second"] >= 100 / row["seconds"] > 0
    assert same_weights(model, plain)
    columns = ["epoch", "lr", "train_loss", "train_accuracy", "test_accuracy", "seconds", "images_per_second"]
    assert list(history.columns) == columns
    assert history["epoch"].dtype == "int64"


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_the_updates_are_the_textbooks(train, nesterov, label_smoothing):
    """Softmax regression has a gradient in closed form: no autograd and no optimiser on the other side."""
    recipe = Recipe(
        3,
        100,
        peak_lr=0.01,
        weight_decay=0.5,
        momentum=0.8,
        nesterov=nesterov,
        label_smoothing=label_smoothing,
        augment=False,
    )
    model = linear_net()
    weight, bias = (parameter.detach().double().clone() for parameter in model[1].parameters())
    history = fit(model, train, recipe, progress=False)

    pixels = normalise(train.images).flatten(1).double()
    targets = F.one_hot(train.labels, 10) * (1 - label_smoothing) + label_smoothing / 10
    velocities = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for epoch in range(3):
        probabilities = (pixels @ weight.T + bias).softmax(1)
        loss = -(targets * probabilities.log()).sum(1).mean().item()
        assert history["train_loss"][epoch] == pytest.approx(loss, rel=1e-5)
        error = (probabilities - targets) / 100
        gradients = [error.T @ pixels + 0.5 * weight, error.sum(0) + 0.5 * bias]
        velocities = [0.8 * velocity + gradient for velocity, gradient in zip(velocities, gradients, strict=True)]
        steps = velocities
        if nesterov:
            steps = [gradient + 0.8 * velocity for velocity, gradient in zip(velocities, gradients, strict=True)]
        weight, bias = weight - 0.01 * steps[0], bias - 0.01 * steps[1]
    torch.testing.assert_close(model[1].weight.double(), weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model[1].bias.double(), bias, rtol=1e-4, atol=1e-6)


def test_a_schedule_within_the_epoch_sets_the_rate_of_every_step(train, monkeypatch):
    recipe = Recipe(epochs=2, batch_size=25, peak_lr=0.1, schedule="one_cycle", warmup_epochs=0.5)
    rates = []
    real_step = training.train_step

    def watched_step(model, optimizer, *batch):
        rates.append(optimizer.param_groups[0]["lr"])
        return real_step(model, optimizer, *batch)

    monkeypatch.setattr(training, "train_step", watched_step)
    history = fit(linear_net(), train, recipe, progress=False)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8, cycle_momentum=False)
    for step, rate in enumerate(rates):
        warmup = min(1, 0.1 + 0.9 * step / 2)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"] * warmup)
        optimizer.step()
        scheduler.step()
    assert list(history["lr"]) == [rates[0], rates[4]]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(train):
    nets = [resnet8(), resnet8(), resnet8()]
    for model, seed in zip(nets, (3, 3, 4), strict=True):
        torch.rand(seed)  # whatever was drawn before
        fit(model, train, replace(RECIPE, epochs=1, milestones=(), seed=seed), progress=False)
    assert same_weights(nets[0], nets[1])
    assert not same_weights(nets[0], nets[2])


def test_without_a_set_to_evaluate_on_there_is_no_accuracy_of_it(train):
    history = fit(linear_net(), train, Recipe(1, 50, 0.001), progress=False)
    assert [name for name in history if "accuracy" in name] == ["train_accuracy"]


def test_the_progress_bar_tells_epochs_and_accuracy(train, test, capsys):
    history = fit(linear_net(), train, Recipe(2, 50, 0.001), test)
    bar = capsys.readouterr().err
    assert "4/4" in bar
    assert f"2/2 epochs, test {history['test_accuracy'][1]:.1%}" in bar
    fit(linear_net(), train, Recipe(2, 50, 0.001), test, progress=False)
    assert capsys.readouterr().err == ""


# --- Evaluation


def test_evaluation_leaves_the_model_and_the_random_state_alone(train, test):
    model = resnet8().train()
    model.layer1.eval()  # as one does to freeze batch norm
    modes = {name: module.training for name, module in model.named_modules()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    accuracy = evaluate(model, test)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert evaluate(model.eval(), test) == accuracy


def test_modes_are_put_back_also_when_evaluation_fails(test):
    model = resnet8().train()
    model.fc = nn.Linear(1, 10)
    with pytest.raises(RuntimeError):
        predict(model, test)
    assert model.training
    assert model.layer3.training


def test_predictions_are_ordinary_tensors_in_the_datas_order(test):
    model = resnet8()
    logits = predict(model, test, batch_size=7)
    assert logits.shape == (50, 10)
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(normalise(test.images)), rtol=1e-4, atol=1e-4)
    assert evaluate(model, test) == (logits.argmax(1) == test.labels).sum().item() / 50
    nn.Parameter(logits).sum().backward()  # inference tensors would refuse


# --- Stop and resume


class Stopped(Exception):
    pass


def stop_after(epochs: int, error: type[BaseException]):
    def on_epoch(history):
        if len(history) == epochs:
            raise error

    return on_epoch


@pytest.mark.parametrize("make_model", [resnet8, dropout_net])
@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
def test_a_run_stopped_between_epochs_ends_as_if_it_had_not_been(train, test, tmp_path, make_model, error):
    whole = make_model()
    whole(normalise(train.images[:1]))  # the lazy layer takes its shape
    expected = fit(whole, train, RECIPE, test, progress=False)

    checkpoint = tmp_path / "new folder" / "checkpoint.pt"
    first = make_model()
    first(normalise(train.images[:1]))
    with pytest.raises(TrainingInterrupted if error is KeyboardInterrupt else Stopped):
        fit(first, train, RECIPE, test, checkpoint=checkpoint, on_epoch=stop_after(2, error), progress=False)
    again = make_model(seed=5)  # a new process would not even need the same first weights
    again(normalise(train.images[:1]))
    torch.rand(100)
    lengths = []
    history = fit(
        again, train, RECIPE, test, checkpoint=checkpoint, on_epoch=lambda h: lengths.append(len(h)), progress=False
    )
    assert lengths == [3]
    assert same_weights(again, whole)
    assert same_history(history, expected)

    # Once more: there is nothing left to do, and the result is the same.
    finished = make_model(seed=6)
    finished(normalise(train.images[:1]))
    assert fit(finished, train, RECIPE, test, checkpoint=checkpoint, progress=False).equals(history)
    assert same_weights(finished, whole)


def test_ctrl_c_within_an_epoch_loses_that_epoch_alone_and_says_how_to_go_on(train, test, tmp_path, monkeypatch):
    whole = resnet8()
    expected = fit(whole, train, RECIPE, test, progress=False)
    checkpoint = tmp_path / "checkpoint.pt"
    steps = 0
    real_step = training.train_step

    def interrupted_step(*batch):
        nonlocal steps
        steps += 1
        if steps == 5:  # epochs have three steps: the second of the second
            raise KeyboardInterrupt
        return real_step(*batch)

    monkeypatch.setattr(training, "train_step", interrupted_step)
    said = re.escape(f"{checkpoint} keeps the first epoch. Run the same again to go on from there.")
    with pytest.raises(TrainingInterrupted, match=said):
        fit(resnet8(), train, RECIPE, test, checkpoint=checkpoint, progress=False)
    again = resnet8(seed=9)
    assert same_history(fit(again, train, RECIPE, test, checkpoint=checkpoint, progress=False), expected)
    assert same_weights(again, whole)


def test_ctrl_c_while_the_checkpoint_is_written_does_not_claim_more_than_is_kept(train, tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint.pt"

    def interrupted_save(path, state):
        if len(state.history) == 2:
            raise KeyboardInterrupt
        real_save(path, state)

    real_save = training.save_checkpoint
    monkeypatch.setattr(training, "save_checkpoint", interrupted_save)
    with pytest.raises(TrainingInterrupted, match=r"keeps the first epoch\."):
        fit(linear_net(), train, RECIPE, checkpoint=checkpoint, progress=False)


@pytest.mark.parametrize(("with_checkpoint", "said"), [(True, "no checkpoint yet"), (False, "No checkpoint was asked")])
def test_ctrl_c_with_nothing_kept_says_so(train, tmp_path, monkeypatch, with_checkpoint, said):
    def interrupted_step(*batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_step", interrupted_step)
    checkpoint = tmp_path / "checkpoint.pt" if with_checkpoint else None
    with pytest.raises(TrainingInterrupted, match=said):
        fit(linear_net(), train, RECIPE, checkpoint=checkpoint, progress=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model, data, recipe: (create_model("resnet8", shortcut="B"), data, recipe), "model .*PaddedIdentity"),
        (lambda model, data, recipe: (model, data, replace(recipe, peak_lr=0.2)), "-peak_lr: 0.05\n  \\+peak_lr: 0.2"),
        (lambda model, data, recipe: (model, data, replace(recipe, nesterov=True)), "\\+nesterov: True"),
        (lambda model, data, recipe: (model, data[:50], recipe), "-.*100 images.*\n  \\+.*50 images"),
        (lambda model, data, recipe: (model, with_labels_moved(data), recipe), "-.*checksum .*\n  \\+.*checksum "),
    ],
)
def test_the_checkpoint_of_another_run_is_refused_with_what_differs(train, tmp_path, change, said):
    checkpoint = tmp_path / "checkpoint.pt"
    recipe = replace(RECIPE, epochs=1, milestones=())
    fit(resnet8(), train, recipe, checkpoint=checkpoint, progress=False)
    content = checkpoint.read_bytes()
    model, data, recipe = change(resnet8(), train, recipe)
    with pytest.raises(CheckpointError, match=f"(?s)another run.*{said}"):
        fit(model, data, recipe, checkpoint=checkpoint, progress=False)
    assert checkpoint.read_bytes() == content


def test_a_fast_networks_plain_twin_does_not_take_over_its_checkpoint(train, tmp_path):
    recipe, checkpoint = replace(RECIPE, epochs=1, milestones=()), tmp_path / "checkpoint.pt"
    fit(create_network("fast_resnet"), train[:10], recipe, checkpoint=checkpoint, progress=False)
    with pytest.raises(CheckpointError, match="shortcut=False"):
        fit(create_network("fast_resnet", shortcut="none"), train[:10], recipe, checkpoint=checkpoint, progress=False)


def test_held_out_training_images_have_a_column_of_their_own(train):
    model = linear_net()
    history = fit(model, train[:60], replace(RECIPE, epochs=1, milestones=()), train[60:], progress=False)
    assert history["evaluated_accuracy"].iloc[-1] == evaluate(model, train[60:])
    alone = fit(linear_net(), train[:60], replace(RECIPE, epochs=1, milestones=()), progress=False)
    assert history["train_accuracy"].tolist() == alone["train_accuracy"].tolist()


def test_a_checkpoint_that_cannot_be_written_is_told_before_the_first_step(train, tmp_path):
    (tmp_path / "file").touch()
    model = linear_net()
    with pytest.raises(CheckpointError, match="no folder that can be written to"):
        fit(model, train, RECIPE, checkpoint=tmp_path / "file" / "checkpoint.pt", progress=False)
    assert same_weights(model, linear_net())


# --- Divergence


def test_divergence_names_the_step_and_keeps_the_last_good_checkpoint(train, test, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    # The rate is fine in the first epoch and absurd from the second on.
    recipe = replace(RECIPE, batch_size=10, milestones=(1,), factor=1e9)
    said = (
        r"The loss became (nan|inf) in epoch 1, step \d \(both counted from 0\).*lower peak_lr.* keeps the first epoch"
    )
    for _ in range(2):  # the second time from the checkpoint
        with pytest.raises(TrainingDiverged, match=said):
            fit(resnet8(), train, recipe, test, checkpoint=checkpoint, progress=False)
        content = torch.load(checkpoint, weights_only=True)
        assert len(content["history"]) == 1
        assert all(value.isfinite().all() for value in content["model"].values())


def test_a_step_with_a_loss_that_is_not_finite_moves_no_weight(train):
    model = resnet8()
    optimizer = RECIPE.make_optimizer(model)
    nn.init.constant_(model.fc.bias, math.inf)
    before = [parameter.clone() for parameter in model.parameters()]
    loss, _ = training.train_step(model, optimizer, normalise(train.images[:10]), train.labels[:10])
    assert math.isnan(loss)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))
    assert optimizer.state_dict()["state"] == {}


def test_a_plainly_absurd_rate_diverges_within_the_first_epochs(train):
    with pytest.raises(TrainingDiverged, match=r"epoch \d.*step \d.*No checkpoint was asked for"):
        fit(resnet8(), train, Recipe(epochs=20, batch_size=20, peak_lr=1e6), progress=False)


def test_weights_ruined_by_an_epochs_last_step_never_reach_the_checkpoint(train, tmp_path):
    """The loss of that step is finite: it is of the weights before it."""
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(TrainingDiverged, match=r"weights became NaN or infinite by the end of epoch 0, step 0"):
        fit(resnet8(), train, Recipe(2, 100, peak_lr=1e30, weight_decay=1e30), checkpoint=checkpoint, progress=False)
    assert not checkpoint.exists()


# --- Settings


def test_a_set_without_images_to_evaluate_on_is_told_before_the_first_step(train, test):
    model = linear_net()
    with pytest.raises(ValueError, match="no images to evaluate on"):
        fit(model, train, RECIPE, test[:0], progress=False)
    assert same_weights(model, linear_net())


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "xpu", "hpu", ""])
def test_a_device_that_is_not_there_is_told(device):
    with pytest.raises(ValueError, match=re.escape(f"device={device!r} cannot be used here") + r".*Try 'cpu'"):
        pick_device(device)


def test_devices_that_are_there():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "step"}, "schedule='step'.*'multi_step'"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 2.5}, "epochs=2.5: expected a whole number"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 40.0}, "batch_size=40.0: expected a whole number"),
        ({"peak_lr": -0.1}, "peak_lr=-0.1"),
        ({"peak_lr": math.nan}, "peak_lr=nan"),
        ({"milestones": (110, 80)}, r"milestones=\(110, 80\).*rising"),
        ({"milestones": (-1, 2)}, r"milestones=\(-1, 2\).*0 or more"),
        ({"milestones": (math.nan,)}, r"milestones=\(nan,\)"),
        ({"factor": 0.0}, "factor=0.0"),
        ({"factor": -0.1}, "factor=-0.1"),
        ({"factor": math.inf}, "factor=inf"),
        ({"factor": math.nan}, "factor=nan"),
        ({"momentum": -0.1}, "momentum=-0.1"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"momentum": math.nan}, "momentum=nan"),
        ({"momentum": 0.0, "nesterov": True}, "need a momentum"),
        ({"weight_decay": -1e-4}, "weight_decay=-0.0001"),
        ({"weight_decay": math.inf}, "weight_decay=inf"),
        ({"weight_decay": math.nan}, "weight_decay=nan"),
        ({"label_smoothing": -0.1}, "label_smoothing=-0.1"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"label_smoothing": math.nan}, "label_smoothing=nan"),
        ({"warmup_epochs": 4}, "warmup_epochs=4.*epochs=3"),
        ({"warmup_epochs": -1}, "warmup_epochs=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**32}, "seed=4294967296"),
        ({"seed": 0.5}, "seed=0.5: expected a whole number"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        replace(RECIPE, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": np.int64(3)},
        {"milestones": (0, 1.5)},
        {"factor": 2},
        {"momentum": 0},
        {"weight_decay": 0},
        {"label_smoothing": 0.99},
    ],
)
def test_a_recipe_at_the_edge_of_what_can_be_is_taken(settings):
    for name, value in settings.items():
        assert getattr(replace(RECIPE, **settings), name) == value


def test_milestones_in_a_list_make_the_same_recipe():
    assert replace(RECIPE, milestones=[1, 2]) == RECIPE
