"""What each trick of the fast recipe is worth: trained without it, all else equal, at a budget that can be paid."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from resnet_lib.data import Cifar10, load_cifar10, normalise
from resnet_lib.fast import FAST_CPU, FastRecipe, fast_resnet, training_flops
from resnet_lib.notes import first_losses
from resnet_lib.training import TrainingDiverged, evaluate, fit, pick_device

# So few steps need longer ones: tried once, this rate was ahead of FAST_CPU's by 3 points. The last layer's rate goes
# by the square of its channels (see FAST_CPU), of which there are half as many.
SMALL = replace(FAST_CPU.scaled_to(4), peak_lr=0.24, head_lr=4 * FAST_CPU.head_lr)
HALF_AS_WIDE = (32, 128, 128)


@dataclass(frozen=True)
class Variant:
    """The fast recipe with something changed.

    recipe: fields of the `FastRecipe`; network: options of `fast_resnet`.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, recipe: FastRecipe) -> FastRecipe:
        """The recipe, changed."""
        return replace(recipe, **self.recipe)


# By what it goes without. What stands in a trick's place may need another rate than the trick: then several are tried,
# and the best of them is what counts.
WITHOUT: dict[str, Variant] = {
    "nothing": Variant(),
    **{
        f"Muon, SGD at {lr}": Variant({"muon": False, "peak_lr": float(lr), "filter_momentum": 0.85})
        for lr in (1, 3, 8)
    },
    **{
        f"the falling rate, constant at {lr}": Variant({"schedule": "constant", "peak_lr": lr})
        for lr in (0.03, 0.06, 0.12, 0.24)
    },
    # A third fewer operations an image: three epochs of large images cost as much as two of each.
    "small images first": Variant({"low_epochs": 0, "epochs": 3}),
    "label smoothing": Variant({"label_smoothing": 0.0}),
    "moved images": Variant({"padding": 0}),
    "flips in turn": Variant({"alternating_flip": False}),
    "shortcuts": Variant(network={"shortcut": False}),
    "whitening": Variant(network={"whitening": None}),
    "GELU, ReLU instead": Variant(network={"activation": nn.ReLU}),
    "the identity at the start": Variant(network={"identity_init": False}),
    **{
        f"a last layer near zero, its rate {lr}": Variant({"head_lr": lr}, {"small_head": False})
        for lr in (0.005, 0.02, 0.08, 0.32)
    },
    **{f"high rates for biases, at {lr}": Variant({"vector_lr": lr}) for lr in (0.05, 0.5)},
    # Biases and scales have one rate.
    **{
        f"fixed batch-norm scales, both trained at {lr}": Variant({"vector_lr": lr}, {"frozen_scale": False})
        for lr in (0.5, 3.0, 26.5)
    },
}


def make_variant(variant: Variant, seed: int) -> nn.Module:
    """The variant's network, `HALF_AS_WIDE` as FAST_CPU's, at its start, as `fit` trains it."""
    torch.manual_seed(seed)
    return fast_resnet(widths=HALF_AS_WIDE, **variant.network).to(pick_device(), memory_format=torch.channels_last)


def renew_statistics(model: nn.Module, data: Cifar10) -> None:
    """Measure batch norm's running statistics anew: of these images as they are, with the weights as they are."""
    with torch.no_grad():
        update_bn((normalise(images) for images in data.images.split(500)), model, next(model.parameters()).device)


def train_variant(
    variant: Variant,
    recipe: FastRecipe,
    train_data: Cifar10,
    checkpoint: Path | None = None,
    on_epoch: Callable[[pd.DataFrame], None] | None = None,
) -> dict[str, Any]:
    """Train a variant of the recipe, and measure it on the validation split after the last epoch.

    checkpoint, on_epoch: as `fit` takes them.

    Returns validation_accuracy, mirrored_accuracy (of two views), fresh_accuracy (one view, after `renew_statistics`),
    train_accuracy, seconds (NaN if it diverged), flop, and first_losses, of the first two steps.
    """
    torch.set_flush_denormal(True)  # as `fit` does
    recipe, model = variant.apply(recipe), make_variant(variant, recipe.seed)
    result: dict[str, Any] = dict.fromkeys(
        ("validation_accuracy", "mirrored_accuracy", "fresh_accuracy", "train_accuracy", "seconds"), math.nan
    )
    result["flop"] = training_flops(model, recipe, len(train_data))
    result["first_losses"] = first_losses(make_variant(variant, recipe.seed), train_data, recipe, steps=2)
    with suppress(TrainingDiverged):
        history = fit(model, train_data, recipe, checkpoint=checkpoint, on_epoch=on_epoch, progress=False)
        validation = load_cifar10("validation", train_data.size)
        result["validation_accuracy"] = evaluate(model, validation)
        result["mirrored_accuracy"] = evaluate(model, validation, mirrored=True)
        renew_statistics(model, train_data)
        result["fresh_accuracy"] = evaluate(model, validation)
        result["train_accuracy"] = float(history["train_accuracy"].iloc[-1])
        result["seconds"] = float(history["seconds"].sum())
    return result
