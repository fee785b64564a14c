"""Filter normalisation by hand, and the surface against closed forms and autograd."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from resnet_lib.data import load_cifar10, normalise
from resnet_lib.loss_surface import filter_normalise, loss_surface, random_direction, surface_grid
from resnet_lib.models import cifar_resnet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def batch():
    data = load_cifar10("train", "bundled")[:12]
    return normalise(data.images), data.labels


@pytest.fixture
def model():
    torch.manual_seed(0)
    return cifar_resnet(8).eval()


# Directions


def test_each_filter_gets_the_norm_of_its_weights():
    """As Li et al. write it: d_ij ← d_ij / |d_ij| · |θ_ij|, one filter after the other."""
    torch.manual_seed(0)
    for shape in ((4, 3, 3, 3), (5, 7), (2, 6, 4)):
        direction, weight = torch.randn(shape), torch.randn(shape)
        weight[1] = 0
        expected = torch.stack([d / d.norm() * w.norm() for d, w in zip(direction, weight, strict=True)])
        torch.testing.assert_close(filter_normalise(direction, weight), expected)


def test_a_filter_without_a_direction_stays_where_it_is():
    direction = torch.zeros(2, 3)
    direction[0] = 1.0
    assert filter_normalise(direction, torch.ones(2, 3)).tolist() == [[1, 1, 1], [0, 0, 0]]


def test_directions_leave_biases_and_batch_norm_alone(model):
    state = torch.get_rng_state()
    direction = random_direction(model, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert direction.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert direction[name].shape == parameter.shape
        if "bn" in name or name == "fc.bias":
            assert not direction[name].any()
        else:
            norms = direction[name].flatten(1).norm(dim=1)
            torch.testing.assert_close(norms, parameter.detach().flatten(1).norm(dim=1))
    again, other = random_direction(model, seed=3), random_direction(model, seed=4)
    assert all(torch.equal(direction[name], again[name]) for name in direction)
    flat, flat_other = (torch.cat([part.flatten() for part in d.values()]) for d in (direction, other))
    assert abs(F.cosine_similarity(flat, flat_other, dim=0)) < 0.02  # nearly at right angles: 76,000 weights


@pytest.mark.parametrize("shapes", [((3, 2), (2, 3)), ((3,), (3,)), ((), ())])
def test_shapes_that_cannot_be_are_refused(shapes):
    with pytest.raises(ValueError, match="expected the same, with at least two axes"):
        filter_normalise(*(torch.ones(shape) for shape in shapes))


# Surface


def test_the_loss_of_a_linear_layer_is_its_closed_form():
    """Two classes and one input of 1: the loss at weights (u, v) is ln(1 + exp(v - u))."""
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[2.0], [1.0]])
    directions = {"weight": torch.tensor([[1.0], [0.0]])}, {"weight": torch.tensor([[0.0], [1.0]])}
    table = loss_surface(model, torch.ones(1, 1), torch.tensor([0]), directions, [-3, 0, 0.5])
    assert len(table) == 9
    for row in table.itertuples():
        assert row.loss == pytest.approx(math.log1p(math.exp(1 + row.b - 2 - row.a)), rel=1e-5)
        assert row.error == (1 + row.b > 2 + row.a)


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_the_surface_is_the_loss_of_the_moved_weights(model, batch, mode):
    images, labels = batch
    model.bn1.running_mean += 0.3
    directions = random_direction(model, 0), random_direction(model, 1)
    table = loss_surface(model, images, labels, directions, [-0.5, 0, 1], mode)
    assert list(table.columns) == ["a", "b", "loss", "error"]
    for row in table.itertuples():
        moved = {
            name: value + row.a * directions[0][name] + row.b * directions[1][name]
            for name, value in model.named_parameters()
        }
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        logits = functional_call(copy.deepcopy(model).train(mode == "batch"), moved | buffers, (images,))
        assert row.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
        assert row.error == pytest.approx((logits.argmax(1) != labels).double().mean().item())


def test_its_slope_at_the_centre_is_the_gradients(model, batch):
    """In float64, by central difference; what is left is of ReLUs that open or close within the step."""
    model.double().train()
    images, labels = batch[0].double(), batch[1]
    directions = random_direction(model, 0), random_direction(model, 1)
    table = loss_surface(model, images, labels, directions, [-1e-6, 0, 1e-6])
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(F.cross_entropy(model(images), labels), list(parameters.values()))
    at = table.set_index(["a", "b"])["loss"]
    for direction, slope in zip(directions, (at[1e-6, 0] - at[-1e-6, 0], at[0, 1e-6] - at[0, -1e-6]), strict=True):
        expected = sum((g * d).sum() for g, d in zip(gradients, direction.values(), strict=True)).item()
        assert slope / 2e-6 == pytest.approx(expected, rel=2e-3)


def test_filters_scaled_by_any_number_have_the_same_surface(batch):
    """What filter normalisation is for: batch norm undoes the scale, and the picture must not depend on it."""
    torch.manual_seed(0)
    model = cifar_resnet(8)
    scaled = copy.deepcopy(model)
    for name, parameter in scaled.named_parameters():
        if parameter.ndim == 4 and "layer" in name:
            parameter.data *= 8
    surfaces = [
        loss_surface(net, *batch, (random_direction(net, 0), random_direction(net, 1)), [-0.5, 0.5])
        for net in (model, scaled)
    ]
    np.testing.assert_allclose(surfaces[0]["loss"], surfaces[1]["loss"], rtol=1e-3)


def test_the_model_is_left_as_it_was(model, batch):
    model.bn1.train()
    before = copy.deepcopy(model.state_dict())
    loss_surface(model, *batch, (random_direction(model, 0), random_direction(model, 1)), [-1, 1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.bn1.training
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bad_requests_are_refused(model, batch):
    direction = random_direction(model, 0)
    with pytest.raises(ValueError, match="batch_norm='eval'"):
        loss_surface(model, *batch, (direction, direction), [0], "eval")
    with pytest.raises(ValueError, match="steps is empty"):
        loss_surface(model, *batch, (direction, direction), [])
    for wrong in (random_direction(cifar_resnet(14), 0), direction | {"fc.bias": torch.zeros(9)}, {}):
        with pytest.raises(ValueError, match="does not fit the model"):
            loss_surface(model, *batch, (direction, wrong), [0])


# Grid


def test_a_grid_has_a_row_for_each_b():
    table = pd.DataFrame(
        [(a, b, 10 * a + b, 0.0) for a in (-1, 0, 2) for b in (-1, 0, 2)], columns=["a", "b", "loss", "e"]
    )
    steps, losses = surface_grid(table.sample(frac=1, random_state=0))
    assert steps.tolist() == [-1, 0, 2]
    assert losses.tolist() == [[-11, -1, 19], [-10, 0, 20], [-8, 2, 22]]
    with pytest.raises(ValueError, match="8 points"):
        surface_grid(table.iloc[1:])
    with pytest.raises(ValueError, match="twice"):
        surface_grid(pd.concat([table, table]))
