"""Each variant lacks the one trick that its name says, and what is recorded of it is what a training by hand gives."""

import json
import math
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from torch import nn

from resnet_lib import ablation, record
from resnet_lib.ablation import SMALL, WITHOUT, Variant, make_variant, renew_statistics, train_variant
from resnet_lib.data import DATA_DIR, FULL_FILE, load_cifar10
from resnet_lib.fast import FastRecipe
from resnet_lib.notes import first_losses, first_of_each_class
from resnet_lib.plan import PLANNED, Ablation
from resnet_lib.training import TrainingDiverged, evaluate, fit

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = FastRecipe(epochs=2, batch_size=40, peak_lr=0.1, schedule="linear", low_resolution=16, low_epochs=1)
ABLATIONS = [name for name, item in PLANNED.items() if isinstance(item, Ablation)]
RECORDED = [name for name in ABLATIONS if (DATA_DIR / "runs" / f"{name}.csv").exists()]


@pytest.fixture(autouse=True)
def on_a_few(monkeypatch):
    """Forty real images for training, forty others for validation."""

    def a_few(split, size="full"):
        return load_cifar10(split, "bundled")[:40]

    for module in (ablation, record):
        monkeypatch.setattr(module, "load_cifar10", a_few)


def kinds(net):
    return {type(module) for module in net.modules()}


def test_each_variant_lacks_what_its_name_says():
    nets = {name: make_variant(variant, 0) for name, variant in WITHOUT.items()}
    whole = nets["nothing"]
    assert nn.GELU in kinds(whole)
    assert nn.GELU not in kinds(nets["GELU, ReLU instead"])
    assert not whole.conv1.weight.requires_grad
    assert nets["whitening"].conv1.weight.requires_grad
    assert whole.stages[0][4].shortcut
    assert not nets["shortcuts"].stages[0][4].shortcut
    assert not whole.stages[0][2].weight.requires_grad
    assert nets["fixed batch-norm scales, both trained at 0.5"].stages[0][2].weight.requires_grad
    assert whole.fc.weight.std() < 0.2 * nets["a last layer near zero, its rate 0.02"].fc.weight.std()
    centre = [net.stages[0][4].conv.weight[:, :, 1, 1] for net in (whole, nets["the identity at the start"])]
    assert torch.equal(centre[0], torch.eye(len(centre[0])))
    assert not torch.equal(centre[1], torch.eye(len(centre[1])))

    batch = torch.randn(4, 3, 32, 32)
    for name, variant in WITHOUT.items():
        assert nets[name](batch).shape == (4, 10)
        changed = {key for key, value in asdict(variant.apply(SMALL)).items() if value != asdict(SMALL)[key]}
        rates = {"peak_lr", "vector_lr", "head_lr"}  # what stands in a trick's place may have SMALL's own
        assert changed | rates == set(variant.recipe) | rates, name
        assert bool(set(variant.recipe) - rates) + bool(variant.network) <= 1  # one thing at a time, and its rate
        assert bool(variant.recipe or variant.network) == (name != "nothing")


@pytest.mark.parametrize("trick", sorted({name.rsplit(" ", 1)[0] for name in WITHOUT if name[-1].isdigit()}))
def test_what_has_a_rate_of_its_own_is_tried_with_several(trick):
    tried = [variant for name, variant in WITHOUT.items() if name.startswith(trick)]
    assert len(tried) >= 2
    assert len({tuple(sorted(variant.recipe.items())) for variant in tried}) == len(tried)


def test_renewed_statistics_are_those_of_the_images_as_they_are():
    net, few = make_variant(Variant(), 0), load_cifar10("train_part", "bundled")[:1000]
    norm, seen = net.stages[0][2], []
    with torch.no_grad():
        norm.running_mean += 5
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    renew_statistics(net, few)
    features = torch.cat(seen)
    assert features.shape[0] == 1000
    torch.testing.assert_close(norm.running_mean, features.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    halves = torch.stack([half.var((0, 2, 3)) for half in features.split(500)])
    torch.testing.assert_close(norm.running_var, halves.mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1  # as it was


def test_small_images_are_given_up_at_about_the_same_cost():
    data = load_cifar10("train", "bundled")[:1000]
    whole, without = (
        ablation.training_flops(make_variant(variant, 0), variant.apply(SMALL), len(data))
        for variant in (WITHOUT["nothing"], WITHOUT["small images first"])
    )
    assert without == pytest.approx(whole, rel=0.15)


def test_a_variant_is_trained_as_fit_would_and_measured_on_validation_images():
    variant = Variant({"label_smoothing": 0.1}, {"activation": nn.ReLU})
    few, validation = load_cifar10("train_part", "bundled")[:40], load_cifar10("validation", "bundled")[:40]
    result = train_variant(variant, replace(TINY, seed=3), few)

    net, recipe = make_variant(variant, 3), replace(TINY, seed=3, label_smoothing=0.1)
    history = fit(net, few, recipe, progress=False)
    assert result["train_accuracy"] == history["train_accuracy"].iloc[-1]
    assert result["validation_accuracy"] == evaluate(net, validation)
    assert result["mirrored_accuracy"] == evaluate(net, validation, mirrored=True)
    renew_statistics(net, few)
    assert result["fresh_accuracy"] == evaluate(net, validation)
    assert result["first_losses"] == first_losses(make_variant(variant, 3), few, recipe, steps=2)


def test_a_variant_that_diverges_is_a_result_too(monkeypatch):
    def diverge(*arguments, **options):
        raise TrainingDiverged("The loss is not finite.")

    monkeypatch.setattr(ablation, "fit", diverge)
    result = train_variant(Variant(), TINY, load_cifar10("train_part", "bundled")[:40])
    assert math.isnan(result["validation_accuracy"])
    assert result["flop"] > 0


def test_it_is_recorded_a_row_a_variant_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    some = {name: WITHOUT[name] for name in ("nothing", "label smoothing", "whitening")}
    monkeypatch.setattr(record, "WITHOUT", some)
    done = []

    def stop_at_the_third(name, history, epochs):
        done.append((name, len(history)))
        if len(done) == 3:
            raise KeyboardInterrupt

    item = Ablation("tiny", replace(TINY, seed=1), per_class=4)
    data = tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        record.Recorder(stop_at_the_third, tmp_path / "work", data).record(item)
    assert not data.exists()
    recorder = record.Recorder(lambda name, history, epochs: done.append((name, len(history))), tmp_path / "work", data)
    assert recorder.state(item) == "3 epochs in 2 runs"
    recorder.record(item)
    assert len(done) == len(set(done)) == 6  # two epochs of each, none twice

    table = pd.read_csv(data / "runs" / "tiny.csv")
    provenance = json.loads((data / "runs" / "tiny.json").read_text())
    assert table["without"].tolist() == list(some) == list(provenance["first_losses"])
    assert set(table["seed"]) == {1}
    few = first_of_each_class(load_cifar10("train_part", "bundled")[:40], 4)
    again = train_variant(some["whitening"], item.recipe, few)
    assert table.loc[2, "mirrored_accuracy"] == again["mirrored_accuracy"]
    assert provenance["sessions"][0]["command"] == "python -m resnet_lib record tiny"
    assert recorder.state(item) == "recorded"


@pytest.mark.skipif(not (DATA_DIR / FULL_FILE).exists(), reason="needs the full CIFAR-10")
@pytest.mark.parametrize("name", RECORDED)
def test_the_first_steps_can_be_made_again(name):
    item = PLANNED[name]
    recorded = json.loads((DATA_DIR / "runs" / f"{name}.json").read_text())["first_losses"]
    train_data = first_of_each_class(load_cifar10("train_part", "full"), item.per_class)
    for without in ("nothing", "whitening"):
        variant = WITHOUT[without]
        recipe = variant.apply(item.recipe)
        losses = first_losses(make_variant(variant, recipe.seed), train_data, recipe, steps=2)
        assert losses == pytest.approx(recorded[without], rel=1e-3)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_ablation_has_a_row_for_each_variant(name):
    table = pd.read_csv(DATA_DIR / "runs" / f"{name}.csv")
    assert table["without"].tolist() == list(WITHOUT)
    assert set(table["seed"]) == {PLANNED[name].recipe.seed}
    learnt = table.dropna()
    assert (
        learnt[["validation_accuracy", "mirrored_accuracy", "fresh_accuracy", "train_accuracy"]].ge(0.08).all(axis=None)
    )
    assert (table["flop"] > 0).all()
