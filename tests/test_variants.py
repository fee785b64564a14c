"""Networks with one thing changed are the course's networks in everything else."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_lib.data import load_cifar10, normalise
from resnet_lib.models import cifar_resnet, resnet50
from resnet_lib.variants import (
    ACTIVATIONS,
    SHORTCUT_SCALES,
    Setting,
    draw_weights,
    experiment_net,
    remove_batch_norm,
    replace_activation,
    residual_blocks,
    scale_shortcuts,
    zero_init_residual,
)


@pytest.fixture(scope="module")
def images():
    return normalise(load_cifar10("train", "bundled").images[:8])


def reference_forward(model, images, activation, batch_norm, scale, gamma=1.0):
    """The experiment net written out in functions, from its weights alone."""

    def normed(x, weight, stride=1, gamma=1.0):
        x = F.conv2d(x, weight, stride=stride, padding=1)
        return gamma * F.batch_norm(x, None, None, training=True) if batch_norm else x

    x = activation(normed(images, model.conv1.weight))
    for stage in (model.layer1, model.layer2, model.layer3):
        for block in stage:
            (out_channels, in_channels), stride = block.conv1.weight.shape[:2], block.conv1.stride[0]
            shortcut = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, out_channels - in_channels))
            inner = activation(normed(x, block.conv1.weight, stride))
            x = activation(scale * shortcut + normed(inner, block.conv2.weight, gamma=gamma))
    return model.fc(x.mean((2, 3)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("shortcut", "batch_norm"),
    [*((shortcut, True) for shortcut in SHORTCUT_SCALES), *((s, False) for s in SHORTCUT_SCALES if s != "zero_gamma")],
)
def test_experiment_net_computes_what_its_setting_says(images, activation, shortcut, batch_norm):
    model = experiment_net(Setting(14, activation, "kaiming", batch_norm, shortcut)).train()
    scale = {"plain": 0, "scaled_0.5": 0.5, "scaled_0.9": 0.9, "residual": 1, "zero_gamma": 1}[shortcut]
    gamma = 0.0 if shortcut == "zero_gamma" else 1.0
    expected = reference_forward(model, images, getattr(torch, activation), batch_norm, scale, gamma)
    torch.testing.assert_close(model(images), expected, rtol=1e-3, atol=1e-4)


def test_settings_of_one_seed_share_their_weights():
    """So a difference between plain and residual is the shortcut's, not the draw's."""
    plain = experiment_net(Setting(14, "tanh", "xavier", False, "plain"), seed=5)
    residual = experiment_net(Setting(14, "relu", "xavier", True, "scaled_0.5"), seed=5)
    other = experiment_net(Setting(14, "relu", "xavier", True, "scaled_0.5"), seed=6)
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, residual.get_parameter(name))
    assert not torch.equal(residual.conv1.weight, other.conv1.weight)


def test_experiment_net_leaves_the_random_state():
    state = torch.get_rng_state()
    experiment_net(Setting(8))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("initialisation", "deviation"),
    [
        ("normal_0.01", 0.01),
        ("xavier", math.sqrt(2 / (9 * 32 + 9 * 64))),
        ("kaiming", math.sqrt(2 / (9 * 32))),
    ],
)
def test_weights_are_drawn_with_the_published_deviation(initialisation, deviation):
    model = cifar_resnet(8)
    classifier = model.fc.weight.clone()
    draw_weights(model, initialisation)
    weight = model.layer3[0].conv1.weight  # 32 → 64 channels, so fan_in and fan_out differ
    assert weight.std().item() == pytest.approx(deviation, rel=0.03)
    assert weight.mean().item() == pytest.approx(0, abs=0.05 * deviation)
    assert torch.equal(model.fc.weight, classifier)


def test_a_built_network_can_be_changed():
    model = resnet50(shortcut="C")
    keys = [name for name in model.state_dict() if "conv" in name]
    replace_activation(model, "tanh")
    zero_init_residual(model)
    assert all(not block.bn3.weight.any() and block.bn2.weight.all() for block in residual_blocks(model))
    remove_batch_norm(model)
    kinds = {type(module) for module in model.modules()}
    assert nn.Tanh in kinds
    assert not kinds & {nn.ReLU, nn.BatchNorm2d}
    assert [name for name in model.state_dict() if "conv" in name] == keys


def test_scaled_shortcuts_of_projections(images):
    model = cifar_resnet(8, "C").eval()
    block, x = model.layer1[0], torch.relu(model.conv1(images))
    expected = torch.relu(0.25 * block.downsample(x) + block.residual_branch(x))
    scale_shortcuts(model, 0.25)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("change", [lambda model: scale_shortcuts(model, 0.5), zero_init_residual])
def test_what_needs_shortcuts_says_so(change):
    with pytest.raises(ValueError, match="no shortcuts"):
        change(cifar_resnet(8, "none"))
    with pytest.raises(ValueError, match="no shortcuts"):
        change(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"activation": "gelu"}, "activation='gelu': expected one of 'sigmoid', 'tanh', 'relu'"),
        ({"initialisation": "he"}, "initialisation='he'"),
        ({"shortcut": "B"}, "shortcut='B'"),
        ({"shortcut": "zero_gamma", "batch_norm": False}, "batch_norm=True"),
    ],
)
def test_settings_that_cannot_be(setting, message):
    with pytest.raises(ValueError, match=message):
        Setting(8, **setting)


def test_depths_that_cannot_be():
    with pytest.raises(ValueError, match="6n"):
        experiment_net(Setting(9))
