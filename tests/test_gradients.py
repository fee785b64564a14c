"""Gradients measured by layer, block, path and along a line, against finite differences and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from resnet_lib.data import load_cifar10, normalise
from resnet_lib.gradients import (
    autocorrelation,
    block_jacobian,
    gradient_along_line,
    gradient_flow,
    path_length_gradients,
    signal_flow,
)
from resnet_lib.models import BasicBlock, Bottleneck, cifar_resnet
from resnet_lib.probes import moments, norm
from resnet_lib.variants import Setting, experiment_net, residual_blocks


@pytest.fixture(scope="module")
def batch():
    """16 real images and their labels."""
    data = load_cifar10("train", "bundled")[:16]
    return normalise(data.images), data.labels


class Odd(nn.Module):
    """What real models do: layers called out of order, one of them twice, in-place and functional ReLUs."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 10)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.never = nn.Linear(2, 2)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x)))
        x = F.relu(self.shared(x), inplace=True)
        x = self.relu(self.shared(x))
        return self.last(x.mean((2, 3)))


def finite_difference_norm(loss, weight, step=1e-6):
    """Norm of the gradient of `loss()` by `weight`, element by element."""
    slopes = []
    flat = weight.data.view(-1)
    for i in range(len(flat)):
        value = flat[i].item()
        flat[i] = value + step
        above = loss()
        flat[i] = value - step
        slopes.append((above - loss()) / (2 * step))
        flat[i] = value
    return math.hypot(*slopes)


def test_gradient_norms_are_those_of_finite_differences(batch):
    torch.manual_seed(0)
    model = Odd().double().train()
    images, labels = batch[0][:4, :, ::4, ::4].double(), batch[1][:4]
    flow = gradient_flow(model, images, labels).set_index("name")
    with torch.no_grad():
        for name in flow.index:
            expected = finite_difference_norm(
                lambda: F.cross_entropy(model(images), labels).item(), model.get_submodule(name).weight
            )
            assert flow.loc[name, "gradient_norm"] == pytest.approx(expected, rel=1e-6)


def test_rows_are_in_forward_order_one_for_each_layer_that_runs(batch):
    flow = gradient_flow(Odd(), *batch)
    assert list(flow["name"]) == ["stem", "shared", "last"]
    assert list(flow["kind"]) == ["conv", "conv", "linear"]
    assert flow["block"].isna().all()


def test_activations_are_the_layers_outputs_before_anything_overwrites_them(batch):
    model = Odd().train()
    flow = gradient_flow(model, *batch).set_index("name")
    with torch.no_grad():
        stem = model.stem(batch[0])
        first = model.shared(F.relu(F.batch_norm(stem, None, None, training=True)))
        both = torch.cat([first, model.shared(F.relu(first))])
    assert flow.loc["stem", "activation_mean"] == pytest.approx(stem.mean().item(), rel=1e-3)
    assert flow.loc["stem", "activation_variance"] == pytest.approx(stem.var().item(), rel=1e-3)
    assert flow.loc["shared", "activation_mean"] == pytest.approx(both.mean().item(), rel=1e-3)
    assert flow.loc["shared", "activation_variance"] == pytest.approx(both.var().item(), rel=1e-3)


def test_torchvisions_networks_are_measured_too(batch):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).train()
    flow = gradient_flow(model, *batch)
    assert list(flow["name"][:4]) == ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1"]
    assert list(flow["name"][5:8]) == ["layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0"]
    assert flow.loc[7, ["stage", "block", "kind"]].tolist() == ["layer2", 0, "conv"]
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    expected = [model.get_submodule(name).weight.grad.norm().item() for name in flow["name"]]
    assert flow["gradient_norm"].tolist() == pytest.approx(expected, rel=1e-3)
    assert flow["weight_norm"].tolist() == pytest.approx(
        [model.get_submodule(name).weight.double().norm().item() for name in flow["name"]], rel=1e-5
    )


def test_update_to_weight_is_what_a_step_of_sgd_does(batch):
    model = cifar_resnet(8).train()
    flow = gradient_flow(model, *batch, lr=0.05).set_index("name")
    before = model.layer1[0].conv1.weight.detach().clone()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    torch.optim.SGD(model.parameters(), lr=0.05).step()
    moved = (model.layer1[0].conv1.weight - before).norm() / before.norm()
    assert flow.loc["layer1.0.conv1", "update_to_weight"] == pytest.approx(moved.item(), rel=1e-3)


def snapshot(model):
    """Everything about a model that measuring must not change."""
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "identities": [id(value) for value in [*model.parameters(), *model.buffers()]],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            [len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)]
            for module in model.modules()
        ],
        "random": torch.get_rng_state(),
    }


MEASUREMENTS = {
    "gradient_flow": gradient_flow,
    "signal_flow": signal_flow,
    "path_length_gradients": lambda model, images, labels: path_length_gradients(model, images, labels, samples=1),
    "gradient_along_line": lambda model, images, labels: gradient_along_line(model, images[0], images[1], steps=4),
    "block_jacobian": lambda model, images, labels: block_jacobian(model.layer3[0], torch.rand(32, 4, 4)),
}


@pytest.mark.parametrize("measurement", MEASUREMENTS.values(), ids=MEASUREMENTS.keys())
@pytest.mark.parametrize("fails", [False, True])
def test_measuring_leaves_no_trace(batch, measurement, fails):
    model = cifar_resnet(8).train()
    model.avgpool = nn.Sequential(model.avgpool, nn.Dropout())  # draws random numbers
    model.layer1.eval()  # mixed modes
    model.layer2[0].conv1.weight.requires_grad_(False)
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    model.layer3[0].register_forward_hook(lambda *_: None)
    if fails:
        model.layer3[0].bn2.register_forward_hook(lambda *_: 1 / 0)
    before = snapshot(model)
    with torch.no_grad():
        if fails:
            with pytest.raises(ZeroDivisionError):
                measurement(model, *batch)
        else:
            state = torch.get_rng_state()
            measurement(model, *batch)
            torch.set_rng_state(state)  # block_jacobian's input above is drawn here
    after = snapshot(model)
    torch.testing.assert_close(after.pop("values"), before.pop("values"), rtol=0, atol=0)
    for old, new in zip(before.pop("grads"), after.pop("grads"), strict=True):
        assert new is None if old is None else torch.equal(old, new)
    assert fails or torch.equal(before["random"], after["random"])
    del before["random"], after["random"]
    assert after == before


def test_random_state_is_kept(batch):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3072, 10))
    state = torch.get_rng_state()
    gradient_flow(model, *batch)
    assert torch.equal(torch.get_rng_state(), state)


def test_mode_decides_between_the_batchs_statistics_and_the_running_ones(batch):
    model = cifar_resnet(8)
    train, evaluation = gradient_flow(model.train(), *batch), gradient_flow(model.eval(), *batch)
    assert (train.attrs["mode"], evaluation.attrs["mode"]) == ("train", "eval")
    for mode, flow in ((False, evaluation), (True, train)):
        loss = F.cross_entropy(model.train(mode)(batch[0]), batch[1]).item()
        assert flow.attrs["loss"] == pytest.approx(loss, rel=1e-4)
    assert train.attrs["loss"] != pytest.approx(evaluation.attrs["loss"], rel=1e-2)


def test_frozen_weights_have_a_gradient_all_the_same(batch):
    model = cifar_resnet(8)
    free = gradient_flow(model, *batch)["gradient_norm"]
    assert gradient_flow(model.requires_grad_(False), *batch)["gradient_norm"].tolist() == free.tolist()


def test_exact_zeros_are_told_from_small_numbers(batch):
    flow = gradient_flow(experiment_net(Setting(56, "relu", "normal_0.01", False, "plain")), *batch)
    assert flow.loc[0, "gradient_norm"] == 0
    assert flow.loc[0, "zero_share"] == 1
    # Zero γ: no gradient passes a residual branch's end, but it does pass the shortcuts.
    flow = gradient_flow(experiment_net(Setting(8, shortcut="zero_gamma")), *batch)
    assert (flow["gradient_norm"] == 0).tolist() == [False] + 6 * [True] + [False]
    # Squares of 1e-30 are 0 in float32.
    assert norm(torch.full((4,), 1e-30)) == pytest.approx(2e-30)
    assert moments(torch.tensor([-1e-30, 1e-30])).variance == pytest.approx(1e-60)


def test_a_layer_that_the_loss_does_not_hear_has_gradient_zero(batch):
    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.heard, self.unheard = nn.Linear(3072, 10), nn.Linear(3072, 10)

        def forward(self, x):
            self.unheard(x.flatten(1))
            return self.heard(x.flatten(1))

    flow = gradient_flow(Deaf(), *batch).set_index("name")
    assert flow.loc["unheard", ["gradient_norm", "zero_share"]].tolist() == [0, 1]
    assert flow.loc["heard", "gradient_norm"] > 0


def test_tied_weights_have_the_gradient_of_all_their_uses(batch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10, bias=False), nn.Tanh(), nn.Linear(10, 10, bias=False))
    model.append(nn.Linear(10, 10, bias=False))
    model[4].weight = model[3].weight
    flow = gradient_flow(model, *batch)
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    assert flow["gradient_norm"].tolist()[1:] == pytest.approx(2 * [model[3].weight.grad.norm().item()], rel=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda model, images, labels: (model, images[:3], labels), "one whole number for every image"),
        (lambda model, images, labels: (model, images[:0], labels[:0]), "at least one image"),
        (lambda model, images, labels: (model, images, labels.float()), "one whole number for every image"),
        (lambda model, images, labels: (model, (images * 255).to(torch.uint8), labels), "normalise"),
        (lambda model, images, labels: (model, images.double(), labels), "float64.*float32"),
        (lambda model, images, labels: (model, images, labels + 5), "labels go from .* 10 classes"),
        (lambda model, images, labels: (nn.ReLU(), images, labels), "ReLU has no convolution and no linear layer"),
        (lambda model, images, labels: (nn.Conv2d(3, 4, 3), images, labels), r"returns \(16, 4, 30, 30\)"),
        (
            lambda model, images, labels: (nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), images, labels),
            "parametrisation",
        ),
    ],
)
def test_bad_input_is_refused_with_a_reason(batch, spoil, message):
    with pytest.raises(ValueError, match=message):
        gradient_flow(*spoil(cifar_resnet(8), *batch))


def test_a_loss_that_is_not_finite_is_an_error(batch):
    with pytest.raises(FloatingPointError, match="nan"):
        gradient_flow(cifar_resnet(8), batch[0] * math.nan, batch[1])


def test_signal_between_the_blocks(batch):
    model = cifar_resnet(14).train()
    flow = signal_flow(model, *batch)
    signals = [model.relu(model.bn1(model.conv1(batch[0])))]
    for block in [*model.layer1, *model.layer2, *model.layer3]:
        signals.append(block(signals[-1]))
    for signal in signals:
        signal.retain_grad()
    F.cross_entropy(model.fc(signals[-1].mean((2, 3))), batch[1]).backward()
    names = ["stem", *(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1))]
    assert flow["name"].tolist() == names
    assert flow["mean"].tolist() == pytest.approx([s.mean().item() for s in signals], rel=1e-3)
    assert flow["variance"].tolist() == pytest.approx([s.var().item() for s in signals], rel=1e-3)
    assert flow["gradient_norm"].tolist() == pytest.approx([s.grad.norm().item() for s in signals], rel=1e-3)


def test_signal_flow_of_torchvisions_network_and_of_one_without_blocks(batch):
    flow = signal_flow(torchvision.models.resnet18(num_classes=10), *batch)
    assert flow["name"].tolist() == ["stem", *(f"layer{i}.{j}" for i in range(1, 5) for j in (0, 1))]
    assert (flow["gradient_norm"] > 0).all()
    with pytest.raises(ValueError, match="no blocks"):
        signal_flow(Odd(), *batch)


def small_block(kind=BasicBlock):
    """A block of few channels, with batch norm that is not the identity, in float64."""
    torch.manual_seed(0)
    block = kind(4, 4 // kind.expansion).double()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return block, torch.randn(4, 3, 3).double()


def finite_difference_jacobian(function, x, step=1e-6):
    columns = []
    for direction in torch.eye(x.numel(), dtype=x.dtype):
        shift = step * direction.view_as(x)
        columns.append((function((x + shift)[None]) - function((x - shift)[None])).flatten() / (2 * step))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("train", [False, True])
def test_block_jacobian_is_that_of_finite_differences(kind, train):
    block, x = small_block(kind)
    block.train(train)
    jacobian = block_jacobian(block, x)
    running = block.bn1.running_mean.clone()
    assert torch.equal(running, torch.zeros_like(running))
    with torch.no_grad():
        torch.testing.assert_close(jacobian, finite_difference_jacobian(block, x), rtol=1e-5, atol=1e-7)


def test_before_its_last_activation_a_residual_block_has_jacobian_identity_plus_that_of_its_branch():
    block, x = small_block()
    block.eval()
    of_sum = block_jacobian(lambda x: block.residual_branch(x) + block.downsample(x), x)
    expected = torch.eye(36, dtype=torch.float64) + finite_difference_jacobian(block.residual_branch, x).detach()
    torch.testing.assert_close(of_sum, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(of_sum, torch.eye(36).double() + block_jacobian(block.residual_branch, x))


def test_jacobian_errors():
    block, x = small_block()
    with pytest.raises(ValueError, match="expected one input"):
        block_jacobian(block, x[None])
    with pytest.raises(ValueError, match="eval"):
        block_jacobian(lambda x: block(x), x)


def linear_net():
    """Six residual blocks without activation and without batch norm: every path is a product of matrices."""
    model = experiment_net(Setting(14, batch_norm=False)).double()
    model.relu = nn.Identity()
    for block in residual_blocks(model):
        block.relu = nn.Identity()
    return model


def test_path_length_gradients_are_those_of_all_paths_enumerated(batch):
    images, labels = batch[0][:2, :, ::2, ::2].double(), batch[1][:2]
    model = linear_net()
    blocks = residual_blocks(model)
    signals = [model.conv1(images)]
    for block in blocks:
        signals.append(block(signals[-1]))
    top = signals[-1].detach().requires_grad_()
    F.cross_entropy(model.fc(top.mean((2, 3))), labels).backward()
    norms = {length: [] for length in range(7)}
    for path in itertools.product([False, True], repeat=6):
        gradient = top.grad
        for block, signal, through in reversed(list(zip(blocks, signals[:-1], path, strict=True))):
            step = block.residual_branch if through else block.downsample
            gradient = torch.autograd.functional.vjp(step, signal, gradient)[1]
        norms[sum(path)].append(gradient.norm().item())
    table = path_length_gradients(model, images, labels, samples=20)
    assert table["length"].tolist() == list(range(7))
    assert table["paths"].tolist() == table["sampled"].tolist() == [1, 6, 15, 20, 15, 6, 1]
    assert table["gradient_norm"].tolist() == pytest.approx(
        [np.mean(np.square(norms[k])) ** 0.5 for k in range(7)], rel=1e-6
    )
    assert table["total"].tolist() == pytest.approx([np.sum(np.square(norms[k])) for k in range(7)], rel=1e-6)
    assert table["share"].sum() == pytest.approx(1)
    sampled = path_length_gradients(model, images, labels, samples=5, seed=3)
    assert sampled["sampled"].tolist() == [1, 5, 5, 5, 5, 5, 1]
    for length, mean in enumerate(sampled["gradient_norm"]):
        assert min(norms[length]) * (1 - 1e-6) <= mean <= max(norms[length]) * (1 + 1e-6)


def test_paths_of_a_network_with_batch_norm_and_relu(batch):
    """With every residual branch at 0 (zero γ) only the path around all blocks carries gradient, and all of it."""
    model = experiment_net(Setting(14, shortcut="zero_gamma")).train()
    table = path_length_gradients(model, *batch, samples=2)
    assert (table["gradient_norm"][1:] == 0).all()
    assert table["gradient_norm"][0] == pytest.approx(signal_flow(model, *batch)["gradient_norm"][0], rel=1e-4)


def test_path_lengths_need_shortcuts(batch):
    with pytest.raises(ValueError, match="no shortcuts"):
        path_length_gradients(cifar_resnet(8, "none"), *batch)
    with pytest.raises(ValueError, match="samples=0"):
        path_length_gradients(cifar_resnet(8), *batch, samples=0)


def test_slope_along_a_line_is_that_of_finite_differences(batch):
    torch.manual_seed(0)
    model = experiment_net(Setting(8, "tanh", "xavier", batch_norm=False)).double()
    start, end = batch[0][:2].double()
    line = gradient_along_line(model, start, end, steps=5, output=3)
    with torch.no_grad():
        for t, output, gradient in line.itertuples(index=False):
            at = [model((start + (t + step) * (end - start))[None])[0, 3].item() for step in (-1e-5, 0, 1e-5)]
            assert output == pytest.approx(at[1])
            assert gradient == pytest.approx((at[2] - at[0]) / 2e-5, rel=1e-5)


def test_gradients_of_a_linear_map_are_the_same_everywhere(batch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).double()
    images = batch[0].double()
    weight = model[1].weight[4].detach()
    line = gradient_along_line(model, images[0], images[1], steps=7, output=4)
    slope = (weight @ (images[1] - images[0]).flatten()).item()
    assert line["gradient"].tolist() == pytest.approx(7 * [slope])


def test_gradient_along_a_line_of_numbers():
    """The setting of Balduzzi et al. 2017, §2: a network of one number. |x| has slope -1 and then 1."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    model[0].weight.data = torch.tensor([[1.0], [-1.0]])
    model[2].weight.data = torch.tensor([[1.0, 1.0]])
    line = gradient_along_line(model, torch.tensor([-2.0]), torch.tensor([2.0]), steps=4)
    assert line["gradient"].tolist() == [-4, -4, 4, 4]


def test_autocorrelation():
    n = 100
    alternating = [(-1) ** i for i in range(n)]
    assert autocorrelation(alternating, 3).tolist() == pytest.approx([1, -0.99, 0.98, -0.97])
    noise = np.random.default_rng(0).normal(size=10_000)
    assert np.abs(autocorrelation(noise, 20)[1:]).max() < 0.04
    assert autocorrelation(np.cumsum(noise), 1)[1] > 0.99
    assert np.isnan(autocorrelation([2.0, 2.0, 2.0], 1)).all()
    assert autocorrelation([1.0, -1.0], 1).tolist() == [1, -0.5]


@pytest.mark.parametrize(("series", "max_lag"), [([1.0, 2.0], 2), ([1.0, 2.0], 5), ([1.0, 2.0], -1), ([], 0)])
def test_no_series_is_compared_with_itself_beyond_its_end(series, max_lag):
    with pytest.raises(ValueError, match=f"max_lag={max_lag}.*{len(series)} values"):
        autocorrelation(series, max_lag)
