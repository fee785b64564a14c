"""The networks are the papers': equal to torchvision's, with the published sizes, options and layers."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import nn

from resnet_lib import models
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.models import BasicBlock, Bottleneck, PaddedIdentity, ResNet, cifar_resnet, create_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images():
    """Four real test images, (4, 3, 32, 32), normalised."""
    return normalise(load_cifar10("test", "bundled").images[:4]).contiguous()


def parameters(make_model: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):  # shapes without numbers: quicker
        model = make_model()
    return sum(parameter.numel() for parameter in model.parameters())


def randomise_batch_norm(model: nn.Module) -> None:
    """Away from scale 1, shift 0, mean 0, variance 1, where a forgotten or swapped one would not show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def test_importing_the_package_alone_loads_nothing_heavy():
    check = "import sys, resnet_lib; sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_equal_to_torchvision_through_a_training_step(name, images):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None)
    randomise_batch_norm(theirs)
    ours = getattr(models, name)(num_classes=1000, stem="imagenet", shortcut="B")
    ours.load_state_dict(theirs.state_dict(), strict=True)
    before = {key: value.clone() for key, value in theirs.state_dict().items()}
    images, labels = F.interpolate(images, size=64, mode="bilinear"), torch.tensor([1, 500, 999, 7])

    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))

    results = []
    for model in (ours, theirs):
        inputs = images.clone().requires_grad_()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        logits = model.train()(inputs)
        F.cross_entropy(logits, labels).backward()
        gradients = {key: value.grad for key, value in model.named_parameters()}
        optimizer.step()
        results.append((logits, inputs.grad, gradients, model.state_dict()))
    (logits, input_gradient, gradients, after), (their_logits, their_input_gradient, their_gradients, expected) = (
        results
    )
    torch.testing.assert_close(logits, their_logits)
    pairs = [(input_gradient, their_input_gradient)]
    pairs += [(gradients[key], their_gradients[key]) for key in their_gradients]  # every weight's gradient
    pairs += [(after[key].float(), expected[key].float()) for key in expected]  # every weight and batch-norm buffer
    for one, other in pairs:
        assert (one - other).norm() <= 1e-5 * other.norm()
    assert not any(torch.equal(after[key], before[key]) for key in before)  # and the step moved them all


def resnet34_by_hand(stem: str) -> int:
    """ResNet-34's parameters for 10 classes with option B, from table 1 of He et al. 2015."""

    def conv(k, c_in, c_out):
        return k * k * c_in * c_out

    def norm(c):
        return 2 * c  # scale and shift

    count = conv(3 if stem == "cifar" else 7, 3, 64) + norm(64)
    for blocks, c_in, c in ((3, 64, 64), (4, 64, 128), (6, 128, 256), (3, 256, 512)):
        count += conv(3, c_in, c) + (2 * blocks - 1) * conv(3, c, c) + 2 * blocks * norm(c)
        if c_in != c:
            count += conv(1, c_in, c) + norm(c)
    return count + 512 * 10 + 10


@pytest.mark.parametrize(("stem", "count"), [("cifar", 21_282_122), ("readme", 21_289_802), ("imagenet", 21_289_802)])
def test_resnet34_parameters(stem, count):
    assert resnet34_by_hand(stem) == count
    assert parameters(lambda: models.resnet34(num_classes=10, stem=stem)) == count


@pytest.mark.parametrize(
    ("depth", "count", "published_millions"),
    [
        (20, 269_722, "0.27"),
        (32, 464_154, "0.46"),
        (44, 658_586, "0.66"),
        (56, 853_018, "0.85"),
        (110, 1_727_962, "1.7"),
    ],
)
def test_cifar_resnet_parameters_are_those_of_the_paper(depth, count, published_millions):
    """He et al. 2015, table 6."""
    n = (depth - 2) // 6
    convolutions = 9 * (3 * 16 + 2 * n * 16**2 + 16 * 32 + (2 * n - 1) * 32**2 + 32 * 64 + (2 * n - 1) * 64**2)
    norms = 2 * (16 + 2 * n * (16 + 32 + 64))
    assert convolutions + norms + 64 * 10 + 10 == count
    assert parameters(lambda: cifar_resnet(depth)) == count
    decimals = len(published_millions.split(".")[1])
    assert f"{count / 1e6:.{decimals}f}" == published_millions


def test_shortcut_options_differ_by_their_projections_alone():
    projections_b = sum(c * 2 * c + 2 * 2 * c for c in (64, 128, 256))
    projections_c = sum(blocks * (c * c + 2 * c) for blocks, c in ((3, 64), (3, 128), (5, 256), (2, 512)))
    count = {option: parameters(partial(models.resnet34, shortcut=option)) for option in ("A", "B", "C", "none")}
    assert count["A"] == count["none"] == count["B"] - projections_b
    assert count["C"] == count["B"] + projections_c


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet8", "resnet20", "resnet56", "resnet110"])
@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
def test_number_of_weighted_layers_is_in_the_name(name, shortcut):
    with torch.device("meta"):
        model = create_model(name, shortcut=shortcut)
    layers = [key for key, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len([key for key in layers if "downsample" not in key]) == int(name.removeprefix("resnet"))


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    return {key: module for key, module in model.named_modules() if isinstance(module, BasicBlock | Bottleneck)}


@pytest.mark.parametrize("name", ["resnet20", "resnet34", "resnet50"])
def test_where_each_option_has_its_shortcuts(name):
    """He et al. 2015, §4.1: A and B differ where the shape changes; C projects in every block."""
    changing = {"layer2.0", "layer3.0"} | ({"layer4.0"} if name != "resnet20" else set())
    if name == "resnet50":
        changing.add("layer1.0")  # 64 channels to 256
    with torch.device("meta"):
        nets = {option: create_model(name, shortcut=option) for option in ("A", "B", "C", "none")}
    kinds = {
        option: {key: type(block.downsample) for key, block in blocks_of(net).items()} for option, net in nets.items()
    }
    for key in kinds["A"]:
        assert kinds["A"][key] == (PaddedIdentity if key in changing else nn.Identity)
        assert kinds["B"][key] == (nn.Sequential if key in changing else nn.Identity)
        assert kinds["C"][key] == nn.Sequential
        assert kinds["none"][key] is type(None)


@pytest.mark.parametrize("size", [4, 5])
def test_option_a_takes_every_second_pixel_and_appends_zero_channels(size):
    x = torch.randn(2, 3, size, size)
    shortcut = PaddedIdentity(extra_channels=2, stride=2)
    expected = torch.zeros(2, 5, (size + 1) // 2, (size + 1) // 2)
    for channel in range(3):
        for row in range(expected.shape[2]):
            for column in range(expected.shape[3]):
                expected[:, channel, row, column] = x[:, channel, 2 * row, 2 * column]
    assert torch.equal(shortcut(x), expected)
    assert list(shortcut.parameters()) == []


@pytest.mark.parametrize("block_type", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
def test_a_block_is_the_relu_of_residual_branch_plus_shortcut(block_type, shortcut):
    in_channels, channels = (8, 4) if block_type is Bottleneck else (4, 8)
    block = block_type(in_channels, channels, stride=2, shortcut=shortcut).eval()
    randomise_batch_norm(block)
    x = torch.randn(2, in_channels, 7, 7)
    around = 0
    if shortcut == "A":
        around = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, block.residual_branch(x).shape[1] - x.shape[1]))
    elif shortcut in ("B", "C"):
        conv, norm = block.downsample
        projected = torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], x[:, :, ::2, ::2])
        deviation = (norm.running_var + norm.eps).sqrt()
        scale, shift = norm.weight / deviation, norm.bias - norm.weight * norm.running_mean / deviation
        around = projected * scale[:, None, None] + shift[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(block(x), (block.residual_branch(x) + around).clamp(min=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "stem"), [("resnet8", "cifar"), ("resnet18", "readme")])
def test_the_plain_twin_equals_a_plain_net_written_by_hand(name, stem, images):
    model = create_model(name, stem=stem, shortcut="none").eval()
    randomise_batch_norm(model)
    weights = model.state_dict()

    def conv_norm_relu(x, conv, norm, stride):
        kernel = weights[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        statistics = (weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics).relu()

    x = conv_norm_relu(images, "conv1", "bn1", stride=1)
    if stem == "readme":
        x = F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
    stages = (1, 1, 1) if name == "resnet8" else (2, 2, 2, 2)
    for stage, blocks in enumerate(stages, 1):
        for i in range(blocks):
            x = conv_norm_relu(x, f"layer{stage}.{i}.conv1", f"layer{stage}.{i}.bn1", 2 if stage > 1 and i == 0 else 1)
            x = conv_norm_relu(x, f"layer{stage}.{i}.conv2", f"layer{stage}.{i}.bn2", 1)
    expected = x.mean((2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stem", "sides"), [("cifar", (32, 4)), ("readme", (32, 4)), ("imagenet", (8, 1))])
def test_shapes_of_each_stem_on_cifar_images(stem, sides):
    with torch.device("meta"):
        model = models.resnet18(num_classes=7, stem=stem)
        x = torch.empty(2, 3, 32, 32)
        first = model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(x)))))
        last = model.layer4(model.layer3(model.layer2(first)))
        assert first.shape == (2, 64, sides[0], sides[0])
        assert last.shape == (2, 512, sides[1], sides[1])
        assert model(x).shape == (2, 7)


def test_convolutions_start_from_kaiming_with_fan_out():
    torch.manual_seed(0)
    model = models.resnet18()
    for conv in (model.layer1[0].conv1, model.layer3[0].conv1, model.layer4[1].conv2):
        deviation = (2 / (9 * conv.out_channels)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(deviation, rel=0.02)
        assert abs(conv.weight.mean().item()) < deviation / 20


@pytest.mark.parametrize("name", ["resnet8", "resnet18"])
def test_channels_last_computes_the_same(name, images):
    torch.manual_seed(0)
    # In float64: in float32 the rounding alone takes some pixel to the other side of a ReLU's kink.
    model, images = create_model(name, shortcut="B").double(), images[:2].double()
    randomise_batch_norm(model)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model.to(memory_format=memory_format).zero_grad()
        logits = model.eval()(images.to(memory_format=memory_format))
        logits.sum().backward()
        results.append((logits, [parameter.grad.contiguous() for parameter in model.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-9)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert (one - other).norm() <= 1e-9 * one.norm()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: cifar_resnet(21), "depth=21: expected 6n \\+ 2"),
        (lambda: cifar_resnet(2), "depth=2"),
        (lambda: cifar_resnet(-4), "depth=-4"),
        (lambda: models.resnet18(stem="imagnet"), "stem='imagnet'.*'cifar', 'readme', 'imagenet'"),
        (lambda: models.resnet18(shortcut="D"), "shortcut='D'.*'A', 'B', 'C', 'none'"),
        (lambda: cifar_resnet(8, shortcut=None), "shortcut=None"),
        (lambda: BasicBlock(64, 32, shortcut="A"), "from 64 channels down to 32.*'B'"),
        (lambda: ResNet(BasicBlock, (1, 1), widths=(8, 16, 32)), "2 stages but 3 widths"),
        (lambda: ResNet(BasicBlock, (), widths=()), "at least one stage"),
        (lambda: create_model("resnet"), "model 'resnet'"),
        (lambda: create_model("20"), "model '20'"),
        (lambda: create_model("vgg16"), "model 'vgg16'.*resnet18.*resnet20"),
        (lambda: create_model("resnet21"), "depth=21"),
        (lambda: create_model("resnet20", stem="readme"), "resnet20.*'cifar' stem.*'readme'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_names_give_the_constructors_networks():
    with torch.device("meta"):
        assert str(create_model("resnet50", stem="readme", shortcut="C")) == str(models.resnet50(10, "readme", "C"))
        assert str(create_model("resnet34")) == str(models.resnet34(shortcut="B"))
        assert str(create_model("resnet14", num_classes=3)) == str(cifar_resnet(14, "A", 3))
