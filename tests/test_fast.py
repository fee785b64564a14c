"""The fast network's tricks do what their names say, and its recipe trains by `fit` like any other."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

from resnet_lib import record, training
from resnet_lib.data import BatchLoader, load_cifar10, normalise
from resnet_lib.fast import (
    FAST_CPU,
    FAST_WIDE,
    FastBlock,
    FastLoader,
    FastRecipe,
    FastResNet,
    create_network,
    cut_out,
    fast_resnet,
    move_and_mirror,
    training_flops,
    whitening_filters,
)
from resnet_lib.models import ResNet
from resnet_lib.muon import Muon, orthogonalise
from resnet_lib.notes import first_losses
from resnet_lib.plan import TrainingRun
from resnet_lib.runs import load_run
from resnet_lib.training import evaluate, fit, predict

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = FastRecipe(
    epochs=2, batch_size=40, peak_lr=0.24, schedule="linear", weight_decay=1e-3, low_resolution=24, low_epochs=1
)


@pytest.fixture(scope="module")
def train():
    """100 real images: ten of each class."""
    return load_cifar10("train", "bundled")[::50]


def small_net(**options):
    torch.manual_seed(0)
    return FastResNet(**{"widths": (8, 12), "blocks_per_stage": (1, 1)} | options)


# The network


def test_whitened_patches_are_uncorrelated_with_variance_one():
    images = normalise(load_cifar10("train", "bundled").images[::5])
    filters = whitening_filters(images, smoothing=0)
    assert filters.shape == (24, 3, 2, 2)
    outputs = F.conv2d(images, filters).transpose(0, 1).flatten(1).double()
    moments = outputs[:12] @ outputs[:12].T / outputs.shape[1]
    torch.testing.assert_close(moments, torch.eye(12, dtype=torch.float64), atol=2e-4, rtol=0)
    torch.testing.assert_close(outputs[12:], -outputs[:12])


def test_smoothing_keeps_the_noise_of_weak_components_down():
    images = normalise(load_cifar10("train", "bundled").images[::5])
    exact, smoothed = (whitening_filters(images, smoothing=smoothing).flatten(1).norm(dim=1) for smoothing in (0, 5e-4))
    assert (smoothed < exact).all()
    assert exact[0] / smoothed[0] > 1.2 > 1.01 > exact[11] / smoothed[11]


def test_fast_resnet_starts_from_training_images_that_are_not_for_validation():
    images = normalise(load_cifar10("train_part", "bundled").images)
    net = fast_resnet(widths=(8,), blocks_per_stage=(1,))
    torch.testing.assert_close(net.conv1.weight, whitening_filters(images))
    assert not net.conv1.weight.requires_grad
    assert net.conv1.bias.requires_grad


def test_a_block_adds_its_branch_to_what_it_was_given():
    torch.manual_seed(0)
    block, plain = FastBlock(4), FastBlock(4, shortcut=False)
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x) - plain(x), x)


def test_convolutions_start_as_the_identity_as_far_as_their_channels_go():
    x = torch.randn(2, 8, 5, 5)
    wider = small_net().stages[1][0]
    torch.testing.assert_close(wider(x)[:, :8], x)
    assert not torch.allclose(small_net(identity_init=False).stages[1][0](x)[:, :8], x)


def test_the_scale_of_batch_norm_is_fixed_unless_asked_for():
    scales = [
        parameter.requires_grad for name, parameter in small_net().named_parameters() if name.endswith("2.weight")
    ]
    assert scales == [False, False]
    assert all(parameter.requires_grad for parameter in small_net(frozen_scale=False).parameters())


@pytest.mark.parametrize("size", [32, 24, 20, 9])
def test_images_of_several_sizes_go_through(size):
    assert fast_resnet()(torch.randn(2, 3, size, size)).shape == (2, 10)


def test_stages_and_widths_must_agree_in_number():
    with pytest.raises(ValueError, match="2 stages but 1 widths"):
        FastResNet(widths=(8,), blocks_per_stage=(1, 1))


def test_a_network_by_name():
    shortcuts = {
        shortcut: [
            block.shortcut for block in create_network("fast_resnet", shortcut=shortcut).modules() if is_block(block)
        ]
        for shortcut in (None, "none")
    }
    assert shortcuts == {None: [True] * 3, "none": [False] * 3}
    assert isinstance(create_network("resnet8", shortcut="B"), ResNet)


def is_block(module):
    return isinstance(module, FastBlock)


@pytest.mark.parametrize("model", ["fast_resnet", "fast_resnet_wide"])
@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_network_guesses(seed, model):
    test = load_cifar10("test", "bundled")[:100]
    torch.manual_seed(seed)
    loss = F.cross_entropy(create_network(model)(normalise(test.images)), test.labels)
    assert loss.item() == pytest.approx(math.log(10), abs=0.1)


@pytest.mark.parametrize(("model", "recipe"), [("fast_resnet", FAST_CPU), ("fast_resnet_wide", FAST_WIDE)])
def test_the_rate_of_the_last_layer_is_the_published_one_over_its_channels_squared(model, recipe):
    channels = create_network(model).fc.in_features
    # 0.67 for a loss summed over the batch, and logits divided by their channels: airbench94_muon, K. Jordan 2024.
    assert recipe.head_lr == pytest.approx(recipe.batch_size * 0.67 / channels**2, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "readme"}, "stem='readme': fast_resnet has a stem of its own"),
        ({"shortcut": "B"}, "shortcut='B': those of fast_resnet are the identity"),
    ],
)
def test_what_the_fast_network_does_not_have_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create_network("fast_resnet", **options)


# The optimiser


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (12, 12)])
def test_orthogonalise_keeps_singular_vectors_and_brings_values_near_one(shape):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    wanted = torch.logspace(-1.9, 0, min(shape))  # of the largest; of the norm, which is longer, still a hundredth
    result = orthogonalise(1e-3 * u @ torch.diag(wanted) @ v)
    values = torch.diagonal(u.T @ result @ v.T)
    torch.testing.assert_close(result, u @ torch.diag(values) @ v, atol=1e-4, rtol=0)
    assert values.min() > 0.6
    assert values.max() < 1.2


def test_muon_without_orthogonal_groups_is_nesterov_sgd():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    settings = {"lr": 0.1, "momentum": 0.85, "weight_decay": 0.01}
    optimizers = Muon(ours.parameters(), **settings), SGD(theirs.parameters(), nesterov=True, **settings)
    for _ in range(4):
        x = torch.randn(8, 4)
        for net, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_an_orthogonal_step_turns_every_direction_by_the_rate():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 3, 3, 3))
    start = weight.detach() * 6**0.5 / weight.detach().norm()
    weight.square().mul(torch.randn(6, 3, 3, 3)).sum().backward()
    Muon([weight], lr=0.5, orthogonal=True).step()
    step = (weight.detach() - start).flatten(1)
    values = torch.linalg.svdvals(step) / 0.5
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_each_kind_of_parameter_has_its_rate_and_its_decay_does_not_depend_on_it():
    optimizer = replace(RECIPE, vector_lr=0.06, head_lr=0.6).make_optimizer(small_net())
    filters, vectors, head = optimizer.param_groups
    assert [group["lr_factor"] * 0.24 for group in optimizer.param_groups] == pytest.approx([0.24, 0.06, 0.6])
    assert (filters["orthogonal"], vectors["orthogonal"], head["orthogonal"]) == (True, False, False)
    assert filters["weight_decay"] == 0
    assert vectors["weight_decay"] * 0.06 == pytest.approx(1e-3) == head["weight_decay"] * 0.6
    without = replace(RECIPE, muon=False).make_optimizer(small_net())
    assert not any(group["orthogonal"] for group in without.param_groups)


@pytest.mark.parametrize(
    "wrong",
    [
        {"peak_lr": 0.0},
        {"vector_lr": 0.0},
        {"head_lr": -1.0},
        {"filter_momentum": 1.0},
        {"filter_momentum": -0.1},
        {"low_epochs": 3},
        {"low_epochs": 0.5},
        {"low_resolution": 8},
        {"low_resolution": 20.5},
        {"padding": -1},
        {"padding": 32},
        {"cutout": -1},
        {"cutout": 32},
        {"cutout": 2.5},
    ],
)
def test_a_recipe_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        replace(RECIPE, **wrong)


def test_the_smallest_images_that_a_recipe_takes_can_be_trained_on(train):
    smallest = replace(RECIPE, epochs=1, low_resolution=9)
    assert fit(fast_resnet(widths=(4, 4, 4)), train, smallest, progress=False)["train_loss"].notna().all()


def test_parameters_of_no_known_shape_are_trained_too():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    model.scale = nn.Parameter(torch.ones(()))
    model.mix = nn.Parameter(torch.ones(2, 3, 4))
    optimizer = RECIPE.make_optimizer(model)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_filters_that_are_all_zero_are_moved_and_no_numbers_are_lost():
    filters = nn.Parameter(torch.zeros(4, 3, 3, 3))
    filters.grad = torch.randn(4, 3, 3, 3)
    Muon([filters], orthogonal=True).step()
    assert filters.isfinite().all()
    assert filters.abs().min() > 0


def test_a_shorter_recipe_keeps_the_share_of_small_images():
    recipe = replace(RECIPE, epochs=18, low_epochs=10)
    assert [recipe.scaled_to(epochs).low_epochs for epochs in (36, 9, 2, 1)] == [20, 5, 1, 1]


def test_the_cost_of_a_training_is_that_of_its_products():
    recipe = replace(RECIPE, low_resolution=16)
    # Widths 24, 8, 8, 12, 12; pixels of each convolution at 32 × 32, and a quarter of them at 16 × 16.
    layers = [(24, 8, 1024), (8, 8, 256), (8, 12, 256), (12, 12, 64)]
    first = 2 * 9 * 3 * 24 * 1024
    convolutions = sum(2 * 9 * inputs * outputs * pixels for inputs, outputs, pixels in layers)
    head = 2 * 12 * 10
    # Three products each (forward, by the weights, by the input), but none by the images themselves.
    full, low = (2 * first * share + 3 * (convolutions * share + head) for share in (1, 1 / 4))
    # Five iterations of three products for each filter, 3 epochs of ... steps.
    shapes = [(24, 27), (8, 216), (8, 72), (12, 72), (12, 108)]
    muon = sum(5 * (2 * 2 * a * a * b + 2 * a**3) for a, b in (sorted(shape) for shape in shapes))
    expected = 100 * (low + full) + 2 * 3 * muon  # an epoch of each; two epochs of three steps
    assert training_flops(small_net(), recipe, 100) == pytest.approx(expected, rel=1e-9)


# The images


def test_moved_images_are_what_reflection_padding_and_a_cut_give(train):
    images = train.images[:25]
    top, left = torch.cartesian_prod(torch.arange(-2, 3), torch.arange(-2, 3)).T[..., None]
    mirrored = torch.arange(25) % 2 == 1
    moved = move_and_mirror(images, top, left, mirrored)
    padded = F.pad(images.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect")
    for i in range(25):
        y, x = 2 + top[i, 0], 2 + left[i, 0]
        expected = padded[i, :, y : y + 32, x : x + 32]
        expected = expected.flip(2) if mirrored[i] else expected
        assert torch.equal(moved[i].permute(2, 0, 1).float(), expected)


def test_a_square_of_each_image_is_painted_over():
    images = torch.rand(3, 3, 8, 6) + 1
    corners = [(0, 0), (5, 3), (2, 1)]
    cut = cut_out(images, *torch.tensor(corners).T[..., None], 3)
    expected = images.clone()
    for image, (top, left) in zip(expected, corners, strict=True):
        image[:, top : top + 3, left : left + 3] = 0
    assert torch.equal(cut, expected)


def test_a_loader_paints_over_another_square_in_each_epoch_and_nothing_else(train):
    whole = replace(RECIPE, low_epochs=0)
    with_cutout, without = (FastLoader(train, replace(whole, cutout=size)) for size in (12, 0))
    painted = []
    for epoch in (0, 1):
        pairs = zip(with_cutout.epoch(epoch), without.epoch(epoch), strict=True)
        (cut, labels), (images, same) = next(pairs)  # of later batches the moves differ: more was drawn
        square = (cut != images).any(1)
        assert torch.equal(labels, same)
        assert (cut[:, 0][square] == 0).all()
        assert cut.is_contiguous(memory_format=torch.channels_last)
        rows, columns = square.any(2), square.any(1)
        assert (rows.sum(1) == 12).all()
        assert (columns.sum(1) == 12).all()
        painted.append(rows)
    assert not torch.equal(*painted)
    no_augmentation = FastLoader(train, replace(whole, cutout=12, augment=False))
    assert (next(no_augmentation.epoch(0))[0] != 0).all()


def test_each_image_is_mirrored_in_every_second_epoch(train):
    loader = FastLoader(train, replace(RECIPE, padding=0, low_epochs=0))
    plain = normalise(train.images)
    mirrored = []
    for epoch in (0, 1, 2):
        seen = torch.zeros(100, dtype=torch.bool)
        for images, _ in loader.epoch(epoch):
            for image in images:
                match = (plain == image).all((1, 2, 3)) | (plain.flip(3) == image).all((1, 2, 3))
                seen[match] = not (plain[match] == image).all()
        mirrored.append(seen)
    assert torch.equal(mirrored[1], ~mirrored[0])
    assert torch.equal(mirrored[2], mirrored[0])
    assert 20 < mirrored[0].sum() < 80


def test_the_first_epochs_are_small(train):
    loader = FastLoader(train, RECIPE)
    assert {images.shape[2:] for images, _ in loader.epoch(0)} == {(24, 24)}
    large = [images for images, _ in loader.epoch(1)]
    assert {images.shape[2:] for images in large} == {(32, 32)}
    assert large[0].is_contiguous(memory_format=torch.channels_last)


def test_without_augmentation_the_images_are_those_of_any_loader(train):
    fast = FastLoader(train, replace(RECIPE, augment=False, low_epochs=0))
    usual = BatchLoader(train, 40, shuffle=True)
    for (images, labels), (others, same) in zip(fast.epoch(3), usual.epoch(3), strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, same)


def test_two_processes_share_a_batch_of_the_same_images(train):
    recipe = replace(RECIPE, cutout=8)
    whole = list(FastLoader(train, recipe).epoch(1))
    halves = zip(*(FastLoader(train, recipe, rank, 2).epoch(1) for rank in (0, 1)), strict=True)
    for (images, labels), parts in zip(whole, halves, strict=True):
        assert torch.equal(images, torch.cat([part[0] for part in parts]))
        assert torch.equal(labels, torch.cat([part[1] for part in parts]))


# Training


def test_fit_moves_all_rates_along_the_schedule_and_the_loss_falls(train, monkeypatch):
    rates = []
    real_step = training.train_step

    def watched_step(model, optimizer, *batch):
        rates.append([group["lr"] for group in optimizer.param_groups])
        return real_step(model, optimizer, *batch)

    monkeypatch.setattr(training, "train_step", watched_step)
    recipe = replace(RECIPE, epochs=6)
    history = fit(small_net(), train, recipe, progress=False)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert history["lr"].tolist() == pytest.approx([0.24 * (1 - epoch / 6) for epoch in range(6)])
    # Three steps an epoch: each group's own peak, filters, biases and last layer, falls in a line to 0.
    shares = 1 - np.arange(18)[:, None] / 18
    np.testing.assert_allclose(rates, shares * [0.24, recipe.vector_lr, recipe.head_lr], rtol=1e-6)


def test_a_stopped_run_ends_with_the_same_bits(train, tmp_path):
    whole, stopped = small_net(), small_net()
    fit(whole, train, RECIPE, progress=False)

    class Stop(Exception):
        pass

    def stop(history):
        raise Stop

    with pytest.raises(Stop):
        fit(stopped, train, RECIPE, checkpoint=tmp_path / "c.pt", on_epoch=stop, progress=False)
    resumed = small_net()
    fit(resumed, train, RECIPE, checkpoint=tmp_path / "c.pt", progress=False)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_first_losses_are_those_of_fit(train):
    recipe = replace(RECIPE, batch_size=50)
    history = fit(small_net(), train, recipe, progress=False)
    losses = first_losses(small_net().to(memory_format=torch.channels_last), train, recipe)
    assert len(losses) == 2
    assert sum(losses) / 2 == pytest.approx(history["train_loss"][0], rel=1e-4)


def test_a_recorded_run_says_what_it_cost_and_what_two_views_reach(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "create_network", lambda *arguments, **options: small_net())
    run = TrainingRun("quick", "fast_resnet", RECIPE, size="bundled", per_class=8)
    record.Recorder(lambda *arguments: None, tmp_path / "work", tmp_path / "data").record(run)
    loaded = load_run("quick", tmp_path / "data" / "runs")
    assert loaded.flop == training_flops(small_net(), RECIPE, 80)
    torch.manual_seed(RECIPE.seed)
    network = small_net()
    fit(network, record.first_of_each_class(load_cifar10("train", "bundled"), 8), RECIPE, progress=False)
    test = load_cifar10("test", "bundled")
    assert loaded.mirrored_accuracy == pytest.approx(evaluate(network, test, mirrored=True))
    assert loaded.mirrored_accuracy != evaluate(network, test)
    assert loaded.settings["recipe"]["low_epochs"] == 1


def test_mirrored_prediction_is_the_mean_of_two_views(train):
    net = small_net().eval()
    images = normalise(train.images)
    with torch.inference_mode():
        expected = (net(images) + net(images.flip(3))) / 2
    mirrored = predict(net, train, mirrored=True)
    torch.testing.assert_close(mirrored, expected, atol=1e-5, rtol=1e-5)
    right = (mirrored.argmax(1) == train.labels).double().mean()
    assert evaluate(net, train, mirrored=True) == pytest.approx(right.item())
