"""Training runs that `test_distributed` makes in one process and, by torchrun, in two, to compare them.

`torchrun --nproc-per-node=2 tests/two_processes.py FOLDER` writes what process R found to FOLDER/R.pt.
"""

import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from resnet_lib import distributed
from resnet_lib.data import load_cifar10
from resnet_lib.fast import FastRecipe, FastResNet
from resnet_lib.models import BasicBlock, ResNet
from resnet_lib.sync_batch_norm import batch_norm_over_all
from resnet_lib.training import Recipe, TrainingDiverged, fit

# 25 images in batches of 9: shares of 4 and 5, and of 3 and 4 in the last batch of an epoch.
RECIPE = Recipe(epochs=2, batch_size=9, peak_lr=0.02, schedule="multi_step", milestones=(1,), nesterov=True, seed=3)


FAST = FastRecipe(
    epochs=2, batch_size=9, peak_lr=0.1, schedule="linear", weight_decay=1e-3, cutout=8, low_epochs=1, seed=3
)


class InFloat64(nn.Module):
    """A network whose rounding is so small that everything else would show."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.double())


class Noted(nn.Module):
    """Passes on what comes in, and keeps the last that it was trained on."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.last = x.detach()
        return x


class NotANumber(nn.Module):
    """From the third batch on, process 1 has a loss that is not a number."""

    batches = 0

    def forward(self, logits: Tensor) -> Tensor:
        self.batches += self.training
        return logits * (float("nan") if self.batches > 2 and distributed.rank() == 1 else 1)


class Fault(nn.Module):
    """A fault that only process 1 has, in its second epoch."""

    batches = 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += self.training
        if self.batches > 3 and distributed.rank() == 1:
            raise ZeroDivisionError("only process 1 has this fault")
        return images


def images(split: str, count: int):
    return load_cifar10(split, "bundled")[:: 5000 // count if split == "train" else 1000 // count]


def small_resnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return ResNet(BasicBlock, (1, 1), shortcut="B", widths=(8, 16))


def small_fast_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return FastResNet(widths=(8, 12), blocks_per_stage=(1, 1))


def without_batch_norm(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )


def with_dropout(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), nn.Dropout(0.5), Noted())


def train(model: nn.Module, recipe: Recipe = RECIPE, **settings) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """Weights and history, without the seconds that it took."""
    history = fit(model, images("train", 25), recipe, images("test", 10), progress=False, **settings)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return weights, history.drop(columns=["seconds", "images_per_second"])


RUNS = {
    "float64": lambda **settings: train(InFloat64(small_resnet()), **settings),
    "float32": lambda **settings: train(small_resnet(), **settings),
    "without batch norm": lambda **settings: train(without_batch_norm(), **settings),
    "fast": lambda **settings: train(InFloat64(small_fast_net()), FAST, **settings),
    "local batch norm": lambda **settings: train(InFloat64(small_resnet()), local_batch_norm=True, **settings),
}


def batch_norm_layers() -> dict[str, tuple[nn.Module, Tensor]]:
    """Layers, and what to feed them: shares of 3 and 4, whose means lie far apart and far from 0."""
    torch.manual_seed(5)
    maps = torch.randn(7, 3, 4, 4) * 0.1 + torch.linspace(-30, 30, 7).view(7, 1, 1, 1)
    average_of_all = nn.BatchNorm2d(3, momentum=None)
    frozen = nn.BatchNorm2d(3).eval()
    frozen.running_mean.fill_(2.0)
    scale_kept = nn.BatchNorm2d(3)
    scale_kept.weight.requires_grad_(False)
    return {
        "2d": (nn.BatchNorm2d(3, eps=0.1, momentum=0.3), maps),
        "2d, channels last": (nn.BatchNorm2d(3), maps.to(memory_format=torch.channels_last)),
        "1d": (nn.BatchNorm1d(3), maps[:, :, 0, 0].contiguous()),
        "no scale and shift": (nn.BatchNorm2d(3, affine=False), maps),
        "nothing kept": (nn.BatchNorm2d(3, track_running_stats=False), maps),
        "average of all batches": (average_of_all, maps),
        "evaluation mode": (frozen, maps),
        "scale kept": (scale_kept, maps),
    }


def run_layer(layer: nn.Module, share: Tensor, places: slice) -> dict[str, Tensor]:
    """Two steps' output, gradients of a loss that is not the same for any two values, and buffers."""
    share = share.clone().requires_grad_()
    for _ in range(2):
        output = layer(share)
    weights = torch.randn(7, *share.shape[1:], generator=torch.Generator().manual_seed(6))[places]
    gradients = torch.autograd.grad((output * weights).sum(), [share, *filter(trained, layer.parameters())])
    found = {"output": output.detach(), "input gradient": gradients[0]} | dict(layer.named_buffers())
    return found | {f"gradient {i}": each for i, each in enumerate(gradients[1:])}


def trained(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad


class Stopped(Exception):
    """Raised in every process, as Ctrl-C is."""


def stop_after_an_epoch(history: pd.DataFrame) -> None:
    raise Stopped


def stopped(model: nn.Module, checkpoint: Path) -> None:
    with suppress(Stopped):
        train(model, checkpoint=checkpoint, on_epoch=stop_after_an_epoch)


def diverge(folder: Path) -> str:
    model = nn.Sequential(without_batch_norm(), NotANumber())
    try:
        train(model, checkpoint=folder / "diverged.pt")
    except TrainingDiverged as error:
        return str(error)
    return "It did not."


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    found = {name: run() for name, run in RUNS.items()}
    lengths = []
    found["begun alone"] = train(
        InFloat64(small_resnet(1)), checkpoint=folder / "begun alone.pt", on_epoch=lambda h: lengths.append(len(h))
    )
    found["lengths"] = lengths
    stopped(InFloat64(small_resnet()), folder / "begun by two.pt")
    dropout = with_dropout()
    found["dropout"] = train(dropout)
    found["dropped"] = dropout[-1].last == 0
    stopped(with_dropout(), folder / "dropout.pt")
    found["dropout resumed"] = train(with_dropout(1), checkpoint=folder / "dropout.pt")
    share = slice(0, 3) if distributed.is_main() else slice(3, 7)
    for name, (layer, maps) in batch_norm_layers().items():
        with batch_norm_over_all(layer):
            found[f"layer: {name}"] = run_layer(layer, maps[share], share)
    found["diverged"] = diverge(folder)
    torch.save(found, folder / f"{distributed.rank()}.pt")
    train(nn.Sequential(Fault(), without_batch_norm()), checkpoint=folder / "faulty.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
