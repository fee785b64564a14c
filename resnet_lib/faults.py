"""The ten faulty pieces of code of notebook 09, one fault each. **This file names the faults: solve them first.**

Every one was seen in public code, written anew here; the addresses are in the notebook's references. The notebook shows
the same code without what is said about it, and a test holds the two equal. Only the exercises' checks
use it.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib.data import MEAN, STD
from resnet_lib.models import BasicBlock, ResNet, conv3x3

Batches = Sequence[tuple[Tensor, Tensor]]


def narrow_net() -> ResNet:
    """ResNet-8 with half its channels: small enough to train it in seconds. No fault."""
    return ResNet(BasicBlock, (1, 1, 1), widths=(8, 16, 32))


def make_stage(channels: int, blocks: int) -> nn.Sequential:
    """The list holds one block `blocks` times, so all share its weights."""
    block = BasicBlock(channels, channels)
    return nn.Sequential(*[block] * blocks)


class SmallNet(nn.Module):
    """The dropout is made in `forward`, in training mode each time: `eval()` never reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv3x3(3, 16)
        self.bn = nn.BatchNorm2d(16)
        self.block = BasicBlock(16, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(images)))
        x = self.block(x).mean(dim=(2, 3))
        x = nn.Dropout(p=0.5)(x)
        return self.fc(x)


class Classifier(nn.Module):
    """Its softmax comes on top of the one in the cross-entropy, so the loss cannot fall below 1.46."""

    def __init__(self) -> None:
        super().__init__()
        self.body = narrow_net()

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images).softmax(dim=1)


class Block(nn.Module):
    """The first ReLU works in place on the block's input, so the shortcut adds ReLU(x) instead of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.relu(x))
        out = self.conv2(self.relu(self.bn1(out)))
        return self.bn2(out) + x


def to_inputs(images: Tensor) -> Tensor:
    """`reshape` gives the axes new lengths and leaves the numbers in their order; `permute` would move the axes."""
    pixels = images / 255
    pixels = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
    return pixels.reshape(-1, 3, 32, 32)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """One crop and one coin for the whole batch."""
    padded = F.pad(images, (0, 0, 4, 4, 4, 4))
    top, left = torch.randint(9, (2,), generator=generator)
    images = padded[:, top : top + 32, left : left + 32]
    if torch.rand(1, generator=generator) < 0.5:
        images = images.flip(2)
    return images


def mixup(images: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and labels are mixed by two different permutations."""

    def mix(values: Tensor) -> Tensor:
        partners = torch.randperm(len(values), generator=generator)
        return share * values + (1 - share) * values[partners]

    return mix(images), mix(F.one_hot(labels, 10))


def evaluate(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """The mean over batches counts each image of a small last batch more than the others."""
    network.eval()
    accuracies = []
    with torch.no_grad():
        for start in range(0, len(labels), batch_size):
            batch = slice(start, start + batch_size)
            right = network(images[batch]).argmax(dim=1) == labels[batch]
            accuracies.append(right.float().mean())
    return torch.stack(accuracies).mean().item()


def fit(network: nn.Module, batches: Batches, epochs: int, test: Callable[[nn.Module], object]) -> list[float]:
    """`train()` stands before the loop, so from the first test on the network trains in evaluation mode."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    losses = []
    network.train()
    for _ in range(epochs):
        total = 0.0
        for images, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(batches))
        test(network)
    return losses


def fit_best(network: nn.Module, batches: Batches, epochs: int, score: Callable[[nn.Module], float]) -> float:
    """`state_dict()` hands out the network's own tensors, so what was kept goes on training."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    best = -1.0
    for _ in range(epochs):
        network.train()
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        now = score(network)
        if now > best:
            best, weights = now, network.state_dict()
    network.load_state_dict(weights)
    return best
