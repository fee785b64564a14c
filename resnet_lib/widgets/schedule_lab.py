"""The lab of learning-rate schedules: a rate for each epoch, drawn as the controls move."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anywidget
import traitlets

from resnet_lib.training import HE_2015, README_RECIPE, SCHEDULES, Recipe
from resnet_lib.widgets.script import STATIC, script

PEAKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
FACTORS = (0.5, 0.2, 0.1, 0.01)
MOST_DROPS = 3
MOST_WARMUP = 20
FEWEST_EPOCHS = MOST_WARMUP


class ScheduleLab(anywidget.AnyWidget):
    """Five schedules with their knobs, on a logarithmic or a linear axis, beside the README's.

    The page computes the rates as `resnet_lib.schedules` does, with one update an epoch, and needs no kernel.

    schedule: "constant", "multi_step", "cosine", "one_cycle" or "linear". peak_lr: one of `PEAKS`.
    milestones: up to three epochs from 1 to `epochs`, where the last means never; those of the README by default.
    factor: what a drop multiplies the rate by, one of `FACTORS`. Both belong to "multi_step".
    warmup_epochs: from 0 to 20. epochs: the length of the run, at least 20.

    `setting` is a dict of the first five, follows the controls, and may be assigned; `recipe` trains by it.
    Raises ValueError on a setting that cannot be.
    """

    _esm = script("schedule_lab.js")
    _css = STATIC / "lab.css"
    epochs = traitlets.Int().tag(sync=True)
    choices = traitlets.Dict().tag(sync=True)
    presets = traitlets.List().tag(sync=True)
    setting = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        schedule: str = "multi_step",
        peak_lr: float = 0.1,
        milestones: Sequence[int] | None = None,
        factor: float = 0.1,
        warmup_epochs: int = 0,
        *,
        epochs: int = README_RECIPE.epochs,
    ) -> None:
        if epochs < FEWEST_EPOCHS:
            raise ValueError(f"epochs={epochs}: expected at least {FEWEST_EPOCHS}.")
        if milestones is None:
            milestones = README_RECIPE.scaled_to(epochs).milestones
        super().__init__(
            epochs=epochs,
            choices={"peak_lr": PEAKS, "factor": FACTORS, "most_warmup": MOST_WARMUP},
            presets=_presets(epochs),
            setting={
                "schedule": schedule,
                "peak_lr": peak_lr,
                "milestones": _padded(milestones, epochs),
                "factor": factor,
                "warmup_epochs": warmup_epochs,
            },
        )

    @property
    def recipe(self) -> Recipe:
        """The README's recipe under the schedule that is set."""
        own = dict(self.setting)
        drops = tuple(sorted(epoch for epoch in own.pop("milestones") if epoch < self.epochs))
        return replace(README_RECIPE, epochs=self.epochs, milestones=drops, **own)

    @traitlets.validate("setting")
    def _check_setting(self, proposal: dict[str, Any]) -> dict[str, Any]:
        setting = proposal["value"]
        allowed = {
            "schedule": SCHEDULES,
            "peak_lr": PEAKS,
            "milestones": None,
            "factor": FACTORS,
            "warmup_epochs": range(MOST_WARMUP + 1),
        }
        if set(setting) != set(allowed):
            raise ValueError(f"setting has {', '.join(setting)}: expected {', '.join(allowed)}.")
        for name, values in allowed.items():
            if values is not None and setting[name] not in values:
                raise ValueError(f"{name}={setting[name]!r}: expected one of {', '.join(map(repr, values))}.")
        drops = setting["milestones"]
        if len(drops) != MOST_DROPS or any(drop not in range(1, self.epochs + 1) for drop in drops):
            raise ValueError(
                f"milestones={drops!r}: expected {MOST_DROPS} whole epochs from 1 to {self.epochs} (never)."
            )
        return {name: setting[name] for name in allowed} | {"milestones": list(drops)}

    def __repr__(self) -> str:
        shown = self.setting | {"milestones": self.recipe.milestones}
        return f"ScheduleLab({', '.join(f'{name}={value!r}' for name, value in shown.items())}, epochs={self.epochs})"


def _padded(milestones: Sequence[int], epochs: int) -> list[int]:
    """As many as there are sliders: those not asked for stand at the end of the run, where no epoch begins."""
    return [*milestones, *[epochs] * (MOST_DROPS - len(milestones))]


def _presets(epochs: int) -> list[dict[str, Any]]:
    """Schedules worth a look, in the lab's number of epochs."""

    def preset(name: str, lesson: str, recipe: Recipe) -> dict[str, Any]:
        recipe = recipe.scaled_to(epochs)
        own = ("schedule", "peak_lr", "factor")
        setting = {key: getattr(recipe, key) for key in own} | {"warmup_epochs": round(recipe.warmup_epochs)}
        return {
            "name": name,
            "lesson": lesson,
            "setting": setting | {"milestones": _padded(recipe.milestones, epochs)},
        }

    smooth = replace(README_RECIPE, milestones=())
    return [
        preset(
            "the README",
            "Three drops, each to a tenth: on the logarithmic axis a staircase with equal steps. Switch to the linear "
            "axis: the second and third drop cannot be seen there.",
            README_RECIPE,
        ),
        preset(
            "He et al. 2015",
            "Two drops, after half and three quarters of the run (32,000 and 48,000 of 64,000 steps in their paper).",
            HE_2015,
        ),
        preset(
            "warm-up, then cosine",
            "The first rate is a tenth of the peak; after the warm-up the rate is half a cosine wave, with no "
            "milestones to choose: half-way through the run it stands at half of the peak.",
            replace(smooth, schedule="cosine", warmup_epochs=5 * README_RECIPE.epochs / epochs),
        ),
        preset(
            "one-cycle",
            "Up from a 25th of the peak for three tenths of the run, then down to 4 millionths of it. Little time is "
            "spent near the peak, which stands at twice the README’s here.",
            replace(smooth, schedule="one_cycle", peak_lr=0.2),
        ),
    ]
