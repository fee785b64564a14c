"""Sound and faulty stages, networks and blocks for the tests of notebook 09 to judge.

Each list goes from what any test sees to what only a careful one does.
"""

import copy
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock as TorchvisionBlock

from resnet_lib.checks.judging import Subject
from resnet_lib.faults import Block, Classifier, SmallNet, make_stage, narrow_net
from resnet_lib.models import BasicBlock

# --- 1: stages, from the number of channels and of blocks


def separate(channels: int, blocks: int, shortcut: str = "A") -> nn.Sequential:
    return nn.Sequential(*[BasicBlock(channels, channels, shortcut=shortcut) for _ in range(blocks)])


def projected(channels: int, blocks: int) -> nn.Sequential:
    return separate(channels, blocks, shortcut="C")


def copied(channels: int, blocks: int) -> nn.Sequential:
    block = BasicBlock(channels, channels)
    return nn.Sequential(*[copy.deepcopy(block) for _ in range(blocks)])


def sharing_conv2(channels: int, blocks: int) -> nn.Sequential:
    stage = separate(channels, blocks)
    for block in stage:
        block.conv2 = stage[0].conv2
    return stage


STAGES = (
    Subject(
        lambda: separate,
        True,
        "a stage of blocks made one by one",
        "Every block has weights of its own here. Count them by hand for one block and for two.",
    ),
    Subject(
        lambda: make_stage,
        False,
        "the stage above",
        "A printout, a length and `state_dict` name the same weights again and again. `parameters()` gives each tensor "
        "once: how should their number grow with the number of blocks?",
    ),
    Subject(
        lambda: projected,
        True,
        "a stage of blocks with projections",
        "Its blocks are larger, and separate. Do not compare with a number that you know; compare two stages.",
    ),
    Subject(
        lambda: copied,
        True,
        "a stage of copies of one block",
        "Copies start with equal values, and each then learns its own. Ask if they are the same tensors, or count.",
    ),
    Subject(
        lambda: sharing_conv2,
        False,
        "a stage whose blocks differ, but share their second convolution",
        "The blocks are different objects, and still share a layer. Count weights, not blocks.",
    ),
)

# --- 2: networks in evaluation


class RepairedSmallNet(SmallNet):
    """The dropout is a part of the network, as the batch norm is."""

    def __init__(self, drop: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.drop = drop or nn.Dropout(p=0.5)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(images)))
        return self.fc(self.drop(self.block(x).mean(dim=(2, 3))))


def by_its_batch() -> nn.Module:
    """A network whose batch norm keeps no running statistics, and so uses the batch's in evaluation too."""
    network = narrow_net()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return network


ANSWERS = (
    Subject(
        RepairedSmallNet,
        True,
        "a network with a dropout that `eval()` reaches",
        "Does your test put it in evaluation mode? And if it compares one image alone with the same among others: sums "
        "in another order round differently, so use `torch.allclose`, with `atol=1e-5`.",
    ),
    Subject(
        SmallNet,
        False,
        "the network above",
        "Its logits for an image are others each time, in evaluation too. Compare numbers, not shapes.",
    ),
    Subject(
        narrow_net,
        True,
        "a network without dropout, fresh from its constructor",
        "A new network is in training mode. Your test has to call `network.eval()` itself.",
    ),
    Subject(
        lambda: RepairedSmallNet(F.dropout),
        False,
        "a network that calls F.dropout with its defaults",
        "No module of it is a dropout: `F.dropout` drops unless it is told `training=False`. Run the network.",
    ),
    Subject(
        by_its_batch,
        False,
        "a network whose batch norm uses the batch's statistics in evaluation",
        "Twice the same batch gives twice the same. Give it an image alone, and then among others.",
    ),
)

# --- 3: networks whose loss on one batch comes near 0, and others


class Ending(nn.Module):
    """A narrow network with something after its logits."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.end = narrow_net(), end

    def forward(self, images: Tensor) -> Tensor:
        return self.end(self.body(images))


LEARNERS = (
    Subject(
        narrow_net,
        True,
        "a narrow ResNet-8",
        "Its loss on eight images can come near 0: Adam with lr=0.01 takes some 40 steps to a loss below 0.1.",
    ),
    Subject(
        Classifier,
        False,
        "the network above",
        "Its loss falls, and its accuracy rises. But how far can the loss fall? Train on, and ask for a loss near 0.",
    ),
    Subject(
        lambda: Ending(lambda logits: logits.log_softmax(dim=1)),
        True,
        "a network that ends with log_softmax",
        "The softmax of log-probabilities gives the probabilities back, so it learns as well as any. Ask what the loss "
        "reaches, not what the outputs look like.",
    ),
    Subject(
        lambda: Ending(lambda logits: logits.sigmoid()),
        False,
        "a network that ends with a sigmoid",
        "Its outputs do not add up to 1, and are too close together all the same. Ask what the loss reaches.",
    ),
    Subject(
        lambda: Ending(lambda logits: logits.tanh()),
        False,
        "a network that ends with tanh",
        "Its outputs have both signs, and are too close together all the same: its loss ends at 0.8. Ask for near 0.",
    ),
)

# --- 4: blocks of 16 channels


class RepairedBlock(Block):
    """Its ReLU makes a new tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.relu = nn.ReLU()


class AddingInPlace(RepairedBlock):
    """Adds its branch onto the tensor that it was given."""

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.bn1(self.conv1(self.relu(x)))))
        x += self.bn2(out)
        return x


BLOCKS = (
    Subject(
        lambda: RepairedBlock(16),
        True,
        "the block with a ReLU that makes a new tensor",
        "It leaves its input as it was. Compare the input with the input, not with the output.",
    ),
    Subject(
        lambda: Block(16),
        False,
        "the block above",
        "Two things hide this fault. If you compare x with itself, both have changed: keep `x.clone()` from before. "
        "And if x has no negative numbers (`torch.rand`), ReLU has nothing to change: take `torch.randn`.",
    ),
    Subject(
        lambda: TorchvisionBlock(16, 16),
        True,
        "torchvision's block",
        "Its ReLUs work in place too, but on what batch norm has just made. Ask what a block does to x, not what it is "
        "made of.",
    ),
    Subject(
        lambda: AddingInPlace(16),
        False,
        "a block that ends with x += ...",
        "No ReLU of it works in place. The sum does.",
    ),
)
