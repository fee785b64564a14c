"""What a recorded run measures besides its history: its first losses, and gradients by layer along the way."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from resnet_lib.checkpoints import CheckpointError
from resnet_lib.data import Cifar10, load_cifar10, normalise
from resnet_lib.files import write_json
from resnet_lib.gradients import gradient_flow
from resnet_lib.probes import modes_kept
from resnet_lib.training import Recipe, evaluate, set_learning_rate, train_step

FIRST_STEPS = 5
PROBE_IMAGES = 128  # of the bundled training images, for the gradients
PROBE_PER_CLASS = 250  # the first of each class, for the error on training images; they are bundled too


class Notes:
    """What a run keeps besides its history, in `folder/notes.json`.

    first_losses: at the run's first steps. measured: at the start and after each epoch: "epochs" trained,
        "train_accuracy" on fixed training images in evaluation mode, "layers": what `probe` returns.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "notes.json"
        self.checkpoint = folder / "checkpoint.pt"
        kept = {}
        if self.file.exists() and self.checkpoint.exists():  # notes without a checkpoint are of a run that is gone
            kept = json.loads(self.file.read_text(encoding="utf-8"))
        self.first_losses: list[float] = kept.get("first_losses", [])
        self.measured: list[dict[str, Any]] = kept.get("measured", [])

    def catch_up(self, model: nn.Module) -> None:
        """Measure what the checkpoint is ahead by: a kill may have come between the two. Without one, the start.

        model: at its start; it may be left with the checkpoint's weights, which `fit` loads anyway.

        Raises CheckpointError if the notes of earlier epochs are lost.
        """
        done = 0
        if self.checkpoint.exists():
            try:
                content = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
                done = len(content["history"])
                model.load_state_dict(content["model"])
            except Exception:  # damaged, or of another run: `fit` is about to say what is wrong with it
                return
        if len(self.measured) < done:
            raise CheckpointError(
                f"{self.file} does not have what was measured in the {done} epochs of {self.checkpoint}. "
                f"Delete {self.checkpoint} to start anew."
            )
        self.measured = self.measured[: done + 1]
        if len(self.measured) == done:
            self.measure(model, done)

    def measure(self, model: nn.Module, epochs: int) -> None:
        """Add what is to be measured after so many epochs. The model, its mode and the random state stay as they are.

        The gradients are of the batch norm that trains (statistics of the batch), the accuracy of the one that tests.
        """
        fixed = first_of_each_class(load_cifar10("train", "bundled"), PROBE_PER_CLASS)
        self.measured.append({"epochs": epochs, "train_accuracy": evaluate(model, fixed), "layers": probe(model)})
        self.save()

    def save(self) -> None:
        """Bring the file up to date."""
        write_json(self.file, {"first_losses": self.first_losses, "measured": self.measured})

    def layers(self) -> pd.DataFrame:
        """The gradients as `resnet_lib.runs.load_layers` returns them."""
        rows = [
            (measured["epochs"], layer, *norms)
            for measured in self.measured
            for layer, norms in measured["layers"].items()
        ]
        return pd.DataFrame(rows, columns=["epochs_trained", "layer", "gradient_norm", "weight_norm"])


def first_losses(model: nn.Module, data: Cifar10, recipe: Recipe, steps: int = FIRST_STEPS) -> list[float]:
    """The loss at each of a run's first steps, as `fit` takes them: what a test compares in seconds.

    model: a copy of the run's network at its start; it is trained. Six significant digits.
    """
    optimizer = recipe.make_optimizer(model.train())
    loader = recipe.make_loader(data)
    losses = []
    for step, (images, labels) in enumerate(islice(loader.epoch(0), steps)):
        set_learning_rate(optimizer, recipe.learning_rate(step / len(loader), 1 / len(loader)))
        losses.append(train_step(model, optimizer, images, labels, recipe.label_smoothing)[0])
    return [float(f"{loss:.6g}") for loss in losses]


def probe(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Norms of gradient and weight of every weight layer by name, in forward order: on `probe_batch`, in train mode."""
    with modes_kept(model):
        flow = gradient_flow(model.train(), *probe_batch())
    return dict(zip(flow["name"], zip(flow["gradient_norm"], flow["weight_norm"], strict=True), strict=True))


def probe_batch() -> tuple[Tensor, Tensor]:
    """The images on which gradients are measured, the first 128 bundled training images: not augmented, normalised."""
    data = load_cifar10("train", "bundled")[:PROBE_IMAGES]
    return normalise(data.images), data.labels


def first_of_each_class(data: Cifar10, count: int | None) -> Cifar10:
    """The first `count` images of each class in the set's order; all of them for None."""
    if count is None:
        return data
    chosen = torch.zeros(len(data), dtype=torch.bool)
    for label in data.labels.unique():
        chosen[(data.labels == label).nonzero()[:count]] = True
    return data[chosen]
