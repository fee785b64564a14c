"""Exercises on building a network, and on tests that find what is wrong with one."""

import torch
from torch import nn

from resnet_lib.checks.judging import check_test
from resnet_lib.checks.specimens import BLOCKS, NETWORKS, SCHEDULES
from resnet_lib.checks.verdicts import check_function, check_number
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.models import BasicBlock, Bottleneck, ResNet, cifar_resnet, conv3x3


def projection_parameters(answer: object) -> None:
    """The parameters of the projection at the start of ResNet-34's third stage: 128 → 256 channels."""
    weights, norm = 128 * 256, 2 * 256
    check_number(
        answer,
        weights + norm,
        "128 · 256 weights of the 1×1 convolution, and a scale and a shift for each of 256 channels.",
        "a count of parameters",
        "`make_shortcut` in section 3: which two modules is a projection made of?",
        {
            weights: "That is the 1×1 convolution alone. Batch norm follows it.",
            weights + 256: "Batch norm learns two numbers for each channel: a scale and a shift.",
            weights + 2 * norm: "Running means and variances are measured, not learned: they are buffers.",
            weights + norm + 256: "The convolution has no bias: batch norm would take it away again.",
            9 * weights: "That is a 3×3 convolution. A projection looks at one pixel at a time, and has a batch norm.",
            128 + 256: "Each of the 256 new channels has a weight for each of the 128 old ones: 128 times 256.",
            norm: "That is batch norm alone. In front of it stands a 1×1 convolution.",
            9 * weights + norm: "That would be a 3×3 convolution. A projection looks at one pixel at a time.",
            64 * 128 + 256: "That is the second stage's, from 64 to 128 channels.",
            256 * 512 + 1024: "That is the fourth stage's, from 256 to 512 channels.",
            0: "That is option A, which pads with zeros. ResNet-34 has option B here.",
        },
    )


def depth(function: object) -> None:
    """The reader's depth(model): the number in a network's name, weight layers without the projections."""

    def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
        return [item for item in model.named_modules() if isinstance(item[1], nn.Conv2d | nn.Linear)]

    def blocks(model: nn.Module) -> int:
        return sum(isinstance(module, BasicBlock | Bottleneck) for module in model.modules())

    torch.manual_seed(0)
    bottlenecks = ResNet(Bottleneck, (1, 1, 1), widths=(8, 16, 32))
    check_function(
        function,
        lambda model: sum("downsample" not in name for name, _ in layers(model)),
        [(cifar_resnet(8, "B"),), (cifar_resnet(20, "C"),), (bottlenecks,)],
        "what section 5 counts: 34 = 1 + 2 · 16 + 1",
        "Convolutions and linear layers, but not the projections: eight, twenty, and eleven with bottlenecks.",
        [
            (lambda m: len(layers(m)), "You counted the projections too. The number in a name leaves them out."),
            (
                lambda m: sum("downsample" not in n and n != "fc" for n, _ in layers(m)),
                "The linear layer at the end has weights too.",
            ),
            (
                lambda m: sum("downsample" not in n and "." in n for n, _ in layers(m)),
                "You counted the blocks' layers only. The first convolution and the linear layer belong to it.",
            ),
            (lambda m: 2 * blocks(m) + 2, "A basic block has two layers, but a bottleneck has three."),
            (blocks, "That is the number of blocks. How many layers does each have?"),
            (
                lambda m: sum(
                    "downsample" not in name
                    for name, x in m.named_modules()
                    if isinstance(x, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
                ),
                "You counted batch norms. They do not count as layers of their own.",
            ),
            (
                lambda m: sum(x.kernel_size != (1, 1) if isinstance(x, nn.Conv2d) else True for _, x in layers(m)),
                "You left out every 1×1 convolution. Only shortcuts' do not count; a bottleneck's branch has two.",
            ),
            (lambda m: sum(1 for _ in m.parameters()), "That counts parameter tensors, those of batch norm included."),
            (
                lambda m: sum(name.endswith("weight") for name, _ in m.named_parameters()),
                "You counted batch norms (their scale is called weight too) and projections. Neither is a layer here.",
            ),
        ],
    )


def reaches_every_weight(function: object) -> None:
    """The reader's test reaches_every_weight(model, images, labels): does every parameter get a gradient?"""
    data = load_cifar10("test", "bundled")[:2]
    check_test(
        function,
        NETWORKS,
        (normalise(data.images), data.labels),
        "It finds layers that never run, that run for nothing and that are cut off, and lets γ = 0 pass.",
        "section 9, check 2: what does `.grad` hold for a parameter that the loss does not depend on?",
    )


def schedule_is_right(function: object) -> None:
    """The reader's test schedule_is_right(adjust) for functions that are called like `adjust_learning_rate`."""
    check_test(
        function,
        SCHEDULES,
        (),
        "It finds seven faulty schedules, the listing's two faults among them, and accepts both right ones.",
        "the five lines that say what a right schedule does",
    )


def keeps_identity(function: object) -> None:
    """The reader's test keeps_identity(block, x): does a silent block return x?"""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = conv3x3(3, 16)(normalise(load_cifar10("test", "bundled").images[:2])).relu().detach()
    check_test(
        function,
        BLOCKS,
        (x,),
        "It judges by what a block does: projections, plain blocks and 0.9 · x are found, torchvision's passes.",
        "section 9, check 3: how is a branch silenced, and what should come out then?",
    )
