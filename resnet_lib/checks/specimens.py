"""Sound and faulty networks, schedules and blocks, for the readers' tests to judge.

Each list goes from what any test sees to what only a careful one does.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchvision.models.resnet import BasicBlock as TorchvisionBlock

from resnet_lib.checks.judging import Subject
from resnet_lib.models import BasicBlock, ResNet, cifar_resnet, conv3x3
from resnet_lib.schedules import adjust_learning_rate, multi_step
from resnet_lib.variants import zero_init_residual


class WithExtraLayer(nn.Module):
    """A network with one layer more, which forward never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.network = cifar_resnet(8)
        self.extra = conv3x3(3, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class WithWastedLayer(WithExtraLayer):
    """A network that runs one layer more and throws its result away."""

    def forward(self, images: Tensor) -> Tensor:
        self.extra(images)
        return self.network(images)


def zero_gamma() -> ResNet:
    model = cifar_resnet(8)
    zero_init_residual(model)
    return model


def with_detached_branch() -> ResNet:
    model = cifar_resnet(8)
    model.layer2[0].bn2.register_forward_hook(lambda _module, _inputs, output: output.detach())
    return model


def with_old_gradient() -> WithExtraLayer:
    model = WithExtraLayer()
    model.extra.weight.grad = torch.ones_like(model.extra.weight)
    return model


NETWORKS = (
    Subject(
        lambda: cifar_resnet(8),
        True,
        "a ResNet-8",
        "In a ResNet-8 every parameter has a gradient after `backward`.",
    ),
    Subject(
        WithExtraLayer,
        False,
        "a network with a layer that forward never calls",
        "The parameters of a layer that never runs have no gradient: their `.grad` is None.",
    ),
    Subject(
        zero_gamma,
        True,
        "a ResNet-8 whose branches end with γ = 0",
        "Its branches have gradients, all of them 0 in the first step. They are reached, and will move later (notebook "
        "02). Ask whether there is a gradient, not how large it is.",
    ),
    Subject(
        WithWastedLayer,
        False,
        "a network that runs a layer and throws its result away",
        "The layer runs, but the loss does not depend on it. Only a backward pass tells.",
    ),
    Subject(
        with_detached_branch,
        False,
        "a ResNet-8 with a detached branch",
        "The branch's result counts, but no gradient comes back through `detach`. Look at all the parameters.",
    ),
    Subject(
        with_old_gradient,
        False,
        "a network with a gradient left over from an earlier step",
        "The dead layer's `.grad` was there before your backward pass. Clear them first: `model.zero_grad()`.",
    ),
)

# From base_lr, the optimizer, the epoch and the milestones.
Rate = Callable[[float, Optimizer, int, Sequence[int]], float]


def schedule(rate: Rate, groups: slice = slice(None)) -> Callable:
    """A function like `adjust_learning_rate` with this rate, told to these of the optimizer's parameter groups."""

    def adjust(base_lr: float, optimizer: Optimizer, epoch: int, epoch_list: Sequence[int] | None = None) -> float:
        lr = rate(base_lr, optimizer, epoch, epoch_list or ())
        for group in optimizer.param_groups[groups]:
            group["lr"] = lr
        return lr

    return adjust


def right(base_lr: float, _optimizer: Optimizer, epoch: int, milestones: Sequence[int]) -> float:
    return multi_step(epoch, base_lr, milestones)


def right_by_division(base_lr: float, _optimizer: Optimizer, epoch: int, milestones: Sequence[int]) -> float:
    return base_lr / 10 ** bisect_right(milestones, epoch)


def deaf(_base_lr: float, _optimizer: Optimizer, epoch: int, milestones: Sequence[int]) -> float:
    return multi_step(epoch, 0.1, milestones)


def late(base_lr: float, _optimizer: Optimizer, epoch: int, milestones: Sequence[int]) -> float:
    return base_lr * 0.1 ** sum(epoch > milestone for milestone in milestones)


def with_one_drop(base_lr: float, _optimizer: Optimizer, epoch: int, milestones: Sequence[int]) -> float:
    return base_lr * 0.1 ** any(epoch >= milestone for milestone in milestones)


def from_the_last_rate(base_lr: float, optimizer: Optimizer, epoch: int, milestones: Sequence[int]) -> float:
    last = base_lr if epoch == 0 else optimizer.param_groups[0]["lr"]
    return last * 0.1 if epoch in milestones else last


def lost_without_a_list(
    base_lr: float, optimizer: Optimizer, epoch: int, epoch_list: Sequence[int] | None = None
) -> float:
    if epoch_list is not None:
        lr = multi_step(epoch, base_lr, epoch_list)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


SCHEDULES = (
    Subject(
        lambda: adjust_learning_rate,
        True,
        "`resnet_lib.schedules.adjust_learning_rate`",
        "This one is right. Go through your epochs and rates by hand, and compare numbers with `math.isclose`: in "
        "floating point, 0.3 · 0.1 · 0.1 is not quite 0.003.",
    ),
    Subject(
        lambda: schedule(deaf),
        False,
        "a schedule that ignores base_lr",
        "It starts at 0.1 whatever it is told. Only another `base_lr` than 0.1 shows that.",
    ),
    Subject(
        lambda: lost_without_a_list,
        False,
        "a schedule that fails without epoch_list",
        "Call it without `epoch_list` too, catch the error, and return False.",
    ),
    Subject(
        lambda: schedule(right_by_division),
        True,
        "a schedule that divides where others multiply",
        "Its rates differ in the last bit: in floating point, dividing by 10 is not multiplying by 0.1. Use "
        "`math.isclose`.",
    ),
    Subject(
        lambda: schedule(late),
        False,
        "a schedule that drops one epoch late",
        "It is right before a milestone and long after it. Ask for the rate in the milestone's own epoch.",
    ),
    Subject(
        lambda: schedule(with_one_drop),
        False,
        "a schedule with one drop only",
        "It is right up to the second milestone. Ask for the rate from there on too.",
    ),
    Subject(
        lambda: schedule(right, slice(0)),
        False,
        "a schedule that returns the rate and does not set it",
        "What it returns is right, but the optimizer goes on with its old rate: look at `param_groups`.",
    ),
    Subject(
        lambda: schedule(right, slice(1)),
        False,
        "a schedule that sets the first parameter group only",
        "Give it an optimizer with two parameter groups, and look at both.",
    ),
    Subject(
        lambda: schedule(from_the_last_rate),
        False,
        "a schedule that must have been called in every epoch before",
        "It multiplies the rate that it finds, so a resumed run goes wrong. Jump straight to a late epoch.",
    ),
)


class LeakyBlock(BasicBlock):
    """y = ReLU(F(x) + 0.9 · x), from the modules of a sound block."""

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual_branch(x) + 0.9 * self.downsample(x))


# So that the printout is a sound block's too.
LeakyBlock.__name__ = BasicBlock.__name__


def trained_block() -> BasicBlock:
    """With scales and shifts of batch norm as training leaves them."""
    block = BasicBlock(16, 16)
    for norm in (block.bn1, block.bn2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, 0.1, 0.3)
    return block


BLOCKS = (
    Subject(
        lambda: BasicBlock(16, 16),
        True,
        "a fresh block",
        "Once its branch is silent, it returns x. Does your test silence the branch, and then run the block?",
    ),
    Subject(
        lambda: BasicBlock(16, 16, shortcut="C"),
        False,
        "a block with a projection",
        "A projection turns x into something else, however silent the branch is.",
    ),
    Subject(
        trained_block,
        True,
        "a block whose batch norm has been trained",
        "Its shift β is no longer 0. A branch is silent when both γ and β of its last batch norm are 0.",
    ),
    Subject(
        lambda: TorchvisionBlock(16, 16),
        True,
        "torchvision's block",
        "It adds x itself, and its `downsample` is None. Ask what a block does, not how it is written.",
    ),
    Subject(
        lambda: BasicBlock(16, 16, shortcut="none"),
        False,
        "a plain block",
        "It adds nothing, so a silent one returns 0.",
    ),
    Subject(
        lambda: LeakyBlock(16, 16),
        False,
        "a block that adds 0.9 · x",
        "Its modules and its printout are those of a sound block; only running it tells.",
    ),
)
