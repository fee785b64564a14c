"""Notebook 03's checks: answers that learners really give, each with its own diagnosis; tests of tests are judged."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from check_output import said
from torch import nn

from resnet_lib.checks import building
from resnet_lib.checks.specimens import BLOCKS, NETWORKS, SCHEDULES
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.models import BasicBlock, Bottleneck


def assert_diagnosed(check, answer, diagnosis):
    text = said(check, answer)
    assert text.startswith("✗")
    assert diagnosis in text
    assert "Look again at" in text


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (32_768, "Batch norm follows it"),
        (33_024, "two numbers for each channel"),
        (33_792, "buffers"),
        (33_536, "no bias"),
        (294_912, "and has a batch norm"),
        (384, "128 times 256"),
        (512, "batch norm alone"),
        (295_424, "3×3 convolution"),
        (8_448, "second stage's"),
        (132_096, "fourth stage's"),
        (0, "option A"),
        (1, "too small"),
    ],
)
def test_wrong_counts_get_their_own_diagnosis(answer, diagnosis):
    assert_diagnosed(building.projection_parameters, answer, diagnosis)


def test_the_right_count_is_the_networks_own():
    from resnet_lib.models import resnet34

    with torch.device("meta"):
        projection = resnet34().layer3[0].downsample
    assert said(building.projection_parameters, sum(p.numel() for p in projection.parameters())).startswith("✓")


def layers(model):
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def norms(model):
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]


WRONG_DEPTHS = [
    (lambda model: len(layers(model)), "the projections too"),
    (lambda model: sum("downsample" not in name for name, _ in layers(model)) - 1, "linear layer at the end"),
    (lambda model: sum("downsample" not in name for name, _ in layers(model)) - 2, "blocks' layers only"),
    (
        lambda model: 2 + 2 * sum(isinstance(m, BasicBlock | Bottleneck) for m in model.modules()),
        "a bottleneck has three",
    ),
    (lambda model: sum(isinstance(m, BasicBlock | Bottleneck) for m in model.modules()), "number of blocks"),
    (lambda model: len(list(model.parameters())), "parameter tensors"),
    (lambda model: len(layers(model)) + len(norms(model)), "Neither is a layer here"),
    (
        lambda model: sum("downsample" not in name for name, _ in [*layers(model), *norms(model)]),
        "They do not count as layers",
    ),
    (lambda model: sum("weight" in name for name, _ in model.named_parameters()), "their scale is called weight too"),
    (
        lambda model: 1 + sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in model.modules()),
        "every 1×1 convolution",
    ),
    (lambda model: 34, "None of the usual slips"),
    (lambda model: model.depth, "raised an error"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_DEPTHS)
def test_wrong_depths_get_their_own_diagnosis(function, diagnosis):
    assert_diagnosed(building.depth, function, diagnosis)


def backward(model, images, labels):
    F.cross_entropy(model(images), labels).backward()
    return list(model.parameters())


def by_size(model, images, labels):
    model.zero_grad()
    return all(p.grad is not None and p.grad.abs().sum() > 0 for p in backward(model, images, labels))


def by_hooks(model, images, labels):
    ran = []
    parts = [part for part in model.modules() if list(part.parameters(recurse=False))]
    for part in parts:
        part.register_forward_hook(lambda m, x, y: ran.append(m))
    model(images)
    return set(parts) == set(ran)


def without_clearing(model, images, labels):
    return all(p.grad is not None for p in backward(model, images, labels))


def first_and_last_only(model, images, labels):
    parameters = backward(model, images, labels)
    return parameters[0].grad is not None and parameters[-1].grad is not None


WRONG_TESTS_OF_WEIGHTS = [
    (by_size, "not how large it is"),
    (by_hooks, "Only a backward pass tells"),
    (without_clearing, "zero_grad"),
    (first_and_last_only, "Look at all the parameters"),
    (lambda model, images, labels: "pre_layer" not in str(model), "a test that cannot fail tests nothing"),
    (lambda model, images, labels: all(p.grad is not None for p in model.parameters()), "passes nothing"),
    (lambda model, images, labels: [p.grad for p in backward(model, images, labels)], "one truth value"),
    (lambda model, images, labels: None, "`return` missing"),
    (lambda model, images, labels: model.nonsense, "error is your test's own"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_TESTS_OF_WEIGHTS)
def test_wrong_tests_of_weights_get_their_own_diagnosis(function, diagnosis):
    assert_diagnosed(building.reaches_every_weight, function, diagnosis)


def judged_by(cases, groups=2, near=math.isclose, default_epoch=7):
    """A test of schedules that asks for these (epoch, epoch_list, rate), and for base_lr without a list."""

    def test(adjust, base_lr=0.3):
        weights = [torch.zeros(1) for _ in range(groups)]
        optimizer = torch.optim.SGD([{"params": [weight]} for weight in weights], lr=1.0)
        for epoch, epoch_list, expected in cases:
            returned = adjust(base_lr, optimizer, epoch, epoch_list)
            rates = [returned, *(group["lr"] for group in optimizer.param_groups)]
            if not all(near(rate, expected) for rate in rates):
                return False
        try:
            return default_epoch is None or near(adjust(base_lr, optimizer, default_epoch), base_lr)
        except UnboundLocalError:
            return False

    return test


def to_the_last_bit(a, b):
    return a == b


CAREFUL = [(110, [80, 110], 0.003), (79, [80, 110], 0.3), (80, [80, 110], 0.03)]


def with_the_usual_rate(adjust):
    cases = [(epoch, milestones, rate / 3) for epoch, milestones, rate in CAREFUL]
    return judged_by(cases)(adjust, base_lr=0.1)


def by_return_value(adjust):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    try:
        return all(math.isclose(adjust(0.3, optimizer, *case[:2]), case[2]) for case in [*CAREFUL, (5, None, 0.3)])
    except UnboundLocalError:
        return False


WRONG_TESTS_OF_SCHEDULES = [
    (with_the_usual_rate, "Only another `base_lr` than 0.1"),
    (judged_by(CAREFUL, default_epoch=None), "Call it without `epoch_list` too"),
    (judged_by([(4, None, 0.3), *CAREFUL]), "catch the error, and return False"),
    (judged_by(CAREFUL, near=to_the_last_bit), "not quite 0.003"),
    (judged_by([(110, [80, 110], 0.3 * 0.1**2)], near=to_the_last_bit), "dividing by 10"),
    (judged_by([(79, [80, 110], 0.3), (90, [80, 110], 0.03), (120, [80, 110], 0.003)]), "milestone's own epoch"),
    (judged_by([(79, [80], 0.3), (80, [80], 0.03)]), "second milestone"),
    (by_return_value, "look at `param_groups`"),
    (judged_by(CAREFUL, groups=1), "two parameter groups"),
    (judged_by([(0, [80, 110], 0.3), *CAREFUL[1:], CAREFUL[0]], default_epoch=0), "Jump straight to a late epoch"),
    (lambda adjust: adjust.__name__ == "adjust_learning_rate", "dividing by 10"),
    (lambda adjust: True, "a test that cannot fail tests nothing"),
    (lambda adjust: False, "passes nothing"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_TESTS_OF_SCHEDULES)
def test_wrong_tests_of_schedules_get_their_own_diagnosis(function, diagnosis):
    assert_diagnosed(building.schedule_is_right, function, diagnosis)


def silenced(block, x, shift=True):
    nn.init.zeros_(block.bn2.weight)
    if shift:
        nn.init.zeros_(block.bn2.bias)
    return block(x)


WRONG_TESTS_OF_BLOCKS = [
    (lambda block, x: torch.equal(silenced(block, x, shift=False), x), "both γ and β"),
    (lambda block, x: isinstance(block.downsample, nn.Identity), "not how it is written"),
    (lambda block, x: str(block) == str(BasicBlock(16, 16)), "not how it is written"),
    (lambda block, x: "Sequential" not in str(block), "so a silent one returns 0"),
    (
        lambda block, x: block.downsample is None or isinstance(block.downsample, nn.Identity),
        "so a silent one returns 0",
    ),
    (
        lambda block, x: hasattr(block, "residual_branch") is False or isinstance(block.downsample, nn.Identity),
        "only running it tells",
    ),
    (lambda block, x: torch.equal(block(x), x), "passes nothing"),
    (lambda block, x: block.downsample is None, "and then run the block"),
    (lambda block, x: silenced(block, x) == x, "one truth value"),
    (lambda block, x: True, "a test that cannot fail tests nothing"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_TESTS_OF_BLOCKS)
def test_wrong_tests_of_blocks_get_their_own_diagnosis(function, diagnosis):
    assert_diagnosed(building.keeps_identity, function, diagnosis)


@pytest.mark.parametrize("truth", [bool, np.bool_, torch.tensor])
def test_a_truth_value_may_come_from_numpy_or_torch(truth):
    assert said(building.keeps_identity, lambda block, x: truth(torch.equal(silenced(block, x), x))).startswith("✓")


def test_specimens_are_what_they_are_said_to_be():
    """By other means than the exercises' own solutions."""
    data = load_cifar10("test", "bundled")[:2]
    for subject in NETWORKS:
        model = subject.make()
        parameters = list(model.parameters())
        loss = F.cross_entropy(model(normalise(data.images)), data.labels)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        assert all(gradient is not None for gradient in gradients) == subject.sound, subject.name

    x = torch.rand(2, 16, 4, 4)
    for subject in BLOCKS:
        block = subject.make()
        block.bn2.register_forward_hook(lambda _m, _x, y: torch.zeros_like(y))
        assert torch.equal(block(x), x) == subject.sound, subject.name


@pytest.mark.parametrize("subject", SCHEDULES, ids=lambda subject: subject.name)
def test_schedules_are_sound_where_they_equal_multi_step_lr(subject):
    """Over a whole run, from a run resumed at any epoch, without a list, and for every parameter group."""

    def optimizer():
        return torch.optim.SGD([{"params": [torch.zeros(1)]} for _ in range(2)], lr=0.5)

    def equals(milestones, first_epoch):
        ours, theirs = optimizer(), optimizer()
        scheduler = torch.optim.lr_scheduler.MultiStepLR(theirs, milestones)
        for epoch in range(30):
            expected = [group["lr"] for group in theirs.param_groups]
            if epoch >= first_epoch:
                returned = subject.make()(0.5, ours, epoch, milestones or None)
                set_rates = [group["lr"] for group in ours.param_groups]
                if [returned, *set_rates] != pytest.approx([expected[0], *expected]):
                    return False
            theirs.step()
            scheduler.step()
        return True

    try:
        sound = all(equals(milestones, first) for milestones in ([], [10, 20]) for first in (0, 15))
    except UnboundLocalError:
        sound = False
    assert sound == subject.sound
