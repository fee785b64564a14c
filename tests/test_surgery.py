"""Operations on a network, each against the same network written out by hand, and the original untouched."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_lib.data import load_cifar10, normalise
from resnet_lib.models import cifar_resnet, resnet50
from resnet_lib.surgery import (
    block_names,
    changes_shape,
    drop_blocks,
    drop_each_block,
    recalibrate,
    scale_all_blocks,
    scale_paths,
    swap_blocks,
    swap_each_pair,
    swappable_pairs,
)
from resnet_lib.training import evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data():
    return load_cifar10("test", "bundled")[:40]


@pytest.fixture(scope="module")
def images(data):
    return normalise(data.images)


def worked_in(model: nn.Module) -> nn.Module:
    """With batch norms as training leaves them: scales, shifts and statistics all different."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low in ((module.weight, 0.5), (module.bias, -0.3), (module.running_mean, -0.2)):
                values.data = low + 0.7 * torch.rand(values.shape, generator=generator)
            module.running_var = 0.5 + torch.rand(module.running_var.shape, generator=generator)
    return model.eval()


@pytest.fixture(params=["A", "B", "none"])
def model(request):
    torch.manual_seed(0)
    return worked_in(cifar_resnet(14, request.param))


def blocks_of(model):
    return [block for stage in (model.layer1, model.layer2, model.layer3) for block in stage]


def by_hand(model, images, order=range(6), dropped=(), shortcut=1.0, branch=1.0):
    """Logits of a 14-layer network, block by block, from its modules."""
    blocks = blocks_of(model)
    x = F.relu(model.bn1(model.conv1(images)))
    for i in order:
        block = blocks[i]
        added = branch * block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
        if block.downsample is not None:
            around = shortcut * block.downsample(x)
            added = around if i in dropped else around + added
        elif i in dropped:
            extra = block.conv2.out_channels - x.shape[1]
            added = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, extra)) if extra else x
        x = F.relu(added)
    return model.fc(x.mean((2, 3)))


@pytest.mark.parametrize("dropped", [(), (0,), (1,), (2,), (5,), (0, 2, 4), range(6)])
def test_dropping_leaves_the_shortcut_or_what_a_plain_block_lacks(model, images, dropped):
    names = block_names(model)
    cut = drop_blocks(model, [names[i] for i in dropped])
    torch.testing.assert_close(cut(images), by_hand(model, images, dropped=dropped))


def test_a_dropped_identity_block_gives_back_its_input():
    model = worked_in(cifar_resnet(14))
    cut = drop_blocks(model, ["layer1.1"])
    x = torch.randn(2, 16, 8, 8).relu()
    assert torch.equal(cut.layer1[1](x), x)
    assert not torch.equal(model.layer1[1](x), x)


def test_swapping_changes_the_order_of_two_blocks(model, images):
    torch.testing.assert_close(
        swap_blocks(model, "layer1.0", "layer1.1")(images), by_hand(model, images, order=(1, 0, 2, 3, 4, 5))
    )
    again = swap_blocks(swap_blocks(model, "layer1.0", "layer1.1"), "layer1.0", "layer1.1")
    assert torch.equal(again(images), model(images))


def test_only_blocks_of_one_shape_can_be_swapped(model):
    assert swappable_pairs(model) == [("layer1.0", "layer1.1")]
    assert len(swappable_pairs(cifar_resnet(20))) == 3 + 1 + 1
    assert len(swappable_pairs(cifar_resnet(56))) == 36 + 28 + 28
    for pair in (("layer2.0", "layer2.1"), ("layer1.1", "layer2.1"), ("layer1.0", "layer1.0")):
        with pytest.raises(ValueError, match="cannot change places"):
            swap_blocks(model, *pair)


@pytest.mark.parametrize(("shortcut", "branch"), [(0.5, 1.0), (1.0, 0.5), (0.0, 1.0), (1.3, 0.7)])
def test_scaling_multiplies_the_two_paths(model, images, shortcut, branch):
    if model.layer1[0].downsample is None and shortcut != 1:
        with pytest.raises(ValueError, match="no shortcuts"):
            scale_paths(model, shortcut, branch)
        return
    scaled = scale_paths(model, shortcut, branch)
    torch.testing.assert_close(scaled(images), by_hand(model, images, shortcut=shortcut, branch=branch))


def test_bottlenecks_are_cut_too(images):
    model = worked_in(resnet50())
    names = block_names(model)
    assert len(names) == 16
    # The first block changes the channels, not the size: 64 to 256.
    assert [name for name in names if changes_shape(model.get_submodule(name))] == [f"layer{i}.0" for i in (1, 2, 3, 4)]
    few = images[:2]
    silent = copy.deepcopy(model)
    for norm in (silent.layer1[0].bn3, silent.layer2[1].bn3):
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
    torch.testing.assert_close(drop_blocks(model, ["layer1.0", "layer2.1"])(few), silent(few))
    everywhere = copy.deepcopy(model)
    for name in names:
        norm = everywhere.get_submodule(name).bn3
        norm.weight.data *= 0.5
        norm.bias.data *= 0.5
    torch.testing.assert_close(scale_paths(model, branch=0.5)(few), everywhere(few))


def test_recalibration_measures_the_statistics_of_all_batches(model, data, images):
    again = recalibrate(model, data, batch_size=20)
    halves = [model.conv1(images[:20]), model.conv1(images[20:])]
    mean = torch.stack([half.mean((0, 2, 3)) for half in halves]).mean(0)
    variance = torch.stack([half.var((0, 2, 3)) for half in halves]).mean(0)
    torch.testing.assert_close(again.bn1.running_mean, mean)
    torch.testing.assert_close(again.bn1.running_var, variance)
    assert not again.training
    weights = dict(model.named_parameters())
    assert all(torch.equal(parameter, weights[name]) for name, parameter in again.named_parameters())


def test_tables_hold_errors_of_the_changed_networks(model, data):
    table = drop_each_block(model, data, statistics=data)
    assert table["block"].tolist() == block_names(model)
    assert table["changes_shape"].tolist() == [False, False, True, False, True, False]
    assert set(table["error_before"]) == {1 - evaluate(model, data)}
    for row in table.itertuples():
        cut = drop_blocks(model, [row.block])
        assert row.error_after == 1 - evaluate(cut, data)
        assert row.error_recalibrated == 1 - evaluate(recalibrate(cut, data), data)
    swaps = swap_each_pair(model, data)
    assert swaps[["first", "second"]].values.tolist() == [["layer1.0", "layer1.1"]]
    assert swaps["error_after"][0] == 1 - evaluate(swap_blocks(model, "layer1.0", "layer1.1"), data)
    scales = scale_all_blocks(model, data, "branch", [1, 0.5])
    assert scales["error_after"].tolist() == [
        1 - evaluate(model, data),
        1 - evaluate(scale_paths(model, branch=0.5), data),
    ]


def test_statistics_measured_anew_are_a_column_of_each_table(model, data):
    (swap,) = swap_each_pair(model, data, statistics=data[:20]).itertuples()
    anew = recalibrate(swap_blocks(model, swap.first, swap.second), data[:20])
    assert swap.error_recalibrated == 1 - evaluate(anew, data)
    (scaled,) = scale_all_blocks(model, data, "branch", [0.5], statistics=data[:20]).itertuples()
    assert scaled.error_recalibrated == 1 - evaluate(recalibrate(scale_paths(model, branch=0.5), data[:20]), data)


def test_the_original_is_left_to_the_bit_in_either_mode(model, data):
    for training in (True, False):
        model.train(training)
        before = copy.deepcopy(model.state_dict())
        modules = list(model.modules())
        drop_each_block(model, data, statistics=data)
        swap_each_pair(model, data, statistics=data)
        scale_all_blocks(model, data, "branch", [0.5], statistics=data)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert list(model.modules()) == modules
        assert all(module.training == training for module in modules)
        assert all(parameter.grad is None for parameter in model.parameters())


def test_bad_requests_say_what_there_is(model, data):
    with pytest.raises(ValueError, match=r"'layer1' is no block.*layer1\.0, layer1\.1"):
        drop_blocks(model, ["layer1"])
    with pytest.raises(ValueError, match="no blocks"):
        block_names(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="'shortcut', 'branch'"):
        scale_all_blocks(model, data, "branches", [1])
