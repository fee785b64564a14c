"""Drawings show what a module does: operations, shapes and shortcuts, against hooks on a real forward pass."""

import copy
import itertools

import matplotlib.pyplot as plt
import pytest
import torch
import torchvision
from matplotlib.patches import Arc, FancyBboxPatch
from torch import nn

from resnet_lib import models
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.diagrams import STYLES, block_figure, network_figure
from resnet_lib.models import BasicBlock, Bottleneck, cifar_resnet
from resnet_lib.tracing import read_block, read_network, shapes_only
from resnet_lib.variants import scale_shortcuts


@pytest.fixture(scope="module")
def images():
    return normalise(load_cifar10("test", "bundled").images[:2])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def shapes_by_hooks(module: nn.Module, x: torch.Tensor, kinds: tuple[type, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Name and output shape of each module of these kinds, in the order in which a real forward pass runs them."""
    seen = []
    handles = [
        part.register_forward_hook(lambda _m, _x, y, name=name: seen.append((name, tuple(y.shape[1:]))))
        for name, part in module.named_modules()
        if isinstance(part, kinds)
    ]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return seen


BLOCKS = {
    "identity": (lambda: BasicBlock(64, 64), "identity"),
    "A": (lambda: BasicBlock(64, 128, 2, "A"), "fixed"),
    "B": (lambda: BasicBlock(64, 128, 2, "B"), "projection"),
    "C": (lambda: BasicBlock(64, 64, 1, "C"), "projection"),
    "plain": (lambda: BasicBlock(64, 64, 1, "none"), "none"),
    "bottleneck": (lambda: Bottleneck(64, 16), "identity"),
    "torchvision's": (lambda: torchvision.models.resnet18().layer1[1], "identity"),
    "torchvision's projection": (lambda: torchvision.models.resnet18().layer2[0], "projection"),
}


@pytest.mark.parametrize(("make", "kind"), BLOCKS.values(), ids=BLOCKS.keys())
def test_a_block_is_read_as_it_runs(make, kind):
    block = make()
    read = read_block(block, (64, 8, 8))
    assert read.shortcut_kind == kind
    steps = [(step.name, step.shape) for part in (read.branch, read.shortcut or (), read.after) for step in part]
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, models.PaddedIdentity)
    ran = shapes_by_hooks(block, torch.ones(2, 64, 8, 8), kinds)
    assert sorted(steps) == sorted(ran)
    branch = [item for item in ran if not item[0].startswith("downsample")]
    assert [(step.name, step.shape) for step in (*read.branch, *read.after)] == branch
    assert read.output_shape == ran[-1][1]


def test_a_block_in_words():
    words = read_block(BasicBlock(64, 128, 2, "B"), (64, 32, 32)).in_words
    assert words == (
        "From 64 × 32 × 32 to 128 × 16 × 16. Branch: 3×3 convolution 64 → 128 stride 2; batch norm; ReLU; 3×3 "
        "convolution 128 → 128; batch norm. Shortcut: 1×1 convolution 64 → 128 stride 2; batch norm. After the "
        "addition: ReLU."
    )
    assert "Shortcut: the identity." in read_block(BasicBlock(8, 8), (8, 4, 4)).in_words
    assert "nothing is added" in read_block(BasicBlock(8, 8, shortcut="none"), (8, 4, 4)).in_words
    assert "extra_channels=8 stride=2" in read_block(BasicBlock(8, 16, 2, "A"), (8, 4, 4)).in_words


def test_a_drawing_follows_its_code():
    block = BasicBlock(8, 8)
    block.conv1.stride = (1, 2)
    block.downsample = nn.AvgPool2d(1, (1, 2))
    read = read_block(block, (8, 4, 4))
    assert [step.shape for step in (*read.branch, *read.shortcut)] == [(8, 4, 2)] * 6
    assert read.shortcut_kind == "fixed"

    net = cifar_resnet(8)
    scale_shortcuts(net, 0.5)
    assert {shortcut.kind for shortcut in read_network(net).shortcuts} == {"fixed"}

    class Forgetful(BasicBlock):
        def forward(self, x):
            return self.relu(self.residual_branch(x))

    assert read_block(Forgetful(8, 8), (8, 4, 4)).shortcut is None


NETWORKS = {
    "34": (lambda: models.resnet34(), 34, {"identity": 13, "projection": 3}),
    "34 A": (lambda: models.resnet34(shortcut="A"), 34, {"identity": 13, "fixed": 3}),
    "34 C": (lambda: models.resnet34(shortcut="C"), 34, {"projection": 16}),
    "34 plain": (lambda: models.resnet34(shortcut="none"), 34, {}),
    "110": (lambda: cifar_resnet(110), 110, {"identity": 52, "fixed": 2}),
    "torchvision's 50": (lambda: torchvision.models.resnet50(), 50, {"identity": 12, "projection": 4}),
}


@pytest.mark.parametrize(("make", "depth", "kinds"), NETWORKS.values(), ids=NETWORKS.keys())
def test_a_network_is_read_as_it_runs(make, depth, kinds, images):
    net = make().eval()
    read = read_network(net)
    ran = shapes_by_hooks(net, images, (nn.Conv2d, nn.Linear))
    assert [(layer.name, layer.shape) for layer in read.layers] == [item for item in ran if "downsample" not in item[0]]
    assert len(read.layers) == depth
    assert read.shortcuts_of(0, depth - 1) == kinds
    for around in read.shortcuts:
        first, last = (read.layers[i].name.rpartition(".")[0] for i in (around.first, around.last))
        assert first == last
        assert around.last - around.first == (2 if depth == 50 else 1)


def test_a_network_in_words():
    words = read_network(cifar_resnet(8, shortcut="B")).in_words
    assert words == (
        "8 weight layers for an image of 3 × 32 × 32. conv1: 1 layer, 16 × 32 × 32; layer1: 2 layers, 16 × 32 × 32, "
        "shortcuts: 1 identity; layer2: 2 layers, 32 × 16 × 16, shortcuts: 1 projection; layer3: 2 layers, 64 × 8 × 8, "
        "shortcuts: 1 projection; fc: 1 layer, 10."
    )


def test_what_does_not_run_is_not_read():
    net = cifar_resnet(8)
    net.unused = models.conv3x3(3, 8)
    assert read_network(net) == read_network(cifar_resnet(8))


def test_reading_leaves_no_trace():
    net = cifar_resnet(8).train()
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    before = copy.deepcopy(net.state_dict())
    random_state = torch.get_rng_state()
    read_network(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(net.fc.weight.grad, torch.ones_like(net.fc.weight))
    assert all(module.training and not module._forward_hooks for module in net.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_copy_of_shapes_only_shares_nothing_and_keeps_all_else():
    net = models.resnet18().train()
    net.fc.weight.requires_grad_(False)
    copied = shapes_only(net)
    assert {tensor.device.type for tensor in (*copied.parameters(), *copied.buffers())} == {"meta"}
    assert {tensor.device.type for tensor in (*net.parameters(), *net.buffers())} == {"cpu"}
    assert str(copied) == str(net)
    assert [(n, p.shape, p.dtype, p.requires_grad) for n, p in copied.named_parameters()] == [
        (n, p.shape, p.dtype, p.requires_grad) for n, p in net.named_parameters()
    ]
    assert copied(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    copied.layer1 = nn.Identity()
    assert len(net.layer1) == 2


class Undecided(BasicBlock):
    def forward(self, x):
        return x if x.sum() > 0 else self.residual_branch(x)


class Gated(BasicBlock):
    def forward(self, x):
        return x * self.residual_branch(x)


class Doubled(BasicBlock):
    def forward(self, x):
        return x + self.residual_branch(x) + self.conv1(x)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Undecided, "Undecided cannot be traced"),
        (Gated, "Gated ends in mul: expected a sum of two paths"),
        (Doubled, "Doubled is no chain: add joins several paths"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(kind, said):
    with pytest.raises(ValueError, match=said):
        read_block(kind(8, 8), (8, 4, 4))


def test_a_shape_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"BasicBlock does not run on 3 × 4 × 4: .+"):
        read_block(BasicBlock(8, 8), (3, 4, 4))


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_operation_of_a_block_is_a_box_with_its_words():
    blocks = {name: read_block(make(), (64, 8, 8)) for name, (make, _) in BLOCKS.items()}
    figure = block_figure(blocks, "title")
    for axes, (name, block) in zip(figure.axes, blocks.items(), strict=True):
        steps = [*block.branch, *(block.shortcut or ()), *block.after]
        boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
        assert len(boxes) == len(steps)
        written = [text.get_text() for text in axes.texts]
        assert all("\n".join(step.lines) in written for step in steps)
        assert written.count("+") == (block.shortcut is not None)
        assert ("identity" in written) == (block.shortcut_kind == "identity")
        assert axes.get_title(loc="left") == name


def test_words_fit_their_boxes():
    blocks = {name: read_block(make(), (64, 8, 8)) for name, (make, _) in BLOCKS.items()}
    figure = block_figure(blocks, "title")
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
        words = [text.get_window_extent() for text in axes.texts if text.get_text()]
        for box in boxes:
            inside = [word for word in words if box.contains((word.x0 + word.x1) / 2, (word.y0 + word.y1) / 2)]
            assert len(inside) == 1
            assert inside[0].width < box.width
            assert inside[0].height < box.height


def test_every_layer_is_a_bar_and_every_shortcut_an_arc():
    reads = {"yours": read_network(models.resnet34()), "plain": read_network(models.resnet18(shortcut="none"))}
    figure = network_figure(reads, "title")
    for axes, read in zip(figure.axes, reads.values(), strict=True):
        bars = axes.containers[0]
        assert [bar.get_height() for bar in bars] == [(*layer.shape, 1, 1)[2] for layer in read.layers]
        arcs = [patch for patch in axes.patches if isinstance(patch, Arc)]
        for arc, around in zip(arcs, read.shortcuts, strict=True):
            left, right = bars[around.first].get_x(), bars[around.last].get_x() + bars[around.last].get_width()
            assert left < arc.center[0] - arc.width / 2 < arc.center[0] + arc.width / 2 < right
            assert arc.get_edgecolor()[:3] == STYLES[around.kind][0]
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["identity", "projection"]
    assert any(text.startswith("layer3\n12 layers\n256 × 8 × 8") for text in texts(figure))


@pytest.mark.parametrize("make", [models.resnet18, models.resnet34, models.resnet50])
def test_stages_names_do_not_run_into_each_other(make):
    figure = network_figure({"a": read_network(make()), "b": read_network(models.resnet34())}, "title")
    figure.canvas.draw()
    for axes in figure.axes:
        extents = sorted((text.get_window_extent() for text in axes.texts), key=lambda extent: extent.x0)
        for left, right in itertools.pairwise(extents):
            assert left.x1 < right.x0 or left.y0 > right.y1 or right.y0 > left.y1
