"""Recorded training runs: `data/runs/NAME.csv` (the history), `NAME.json` (how it was made), `data/weights/`.

`resnet_lib.record` makes them; `data/runs/README.md` says what there is.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from resnet_lib.data import DATA_DIR
from resnet_lib.fast import create_network
from resnet_lib.files import atomic_write


@dataclass(frozen=True)
class Run:
    """A recorded run.

    history: a row per epoch, as `resnet_lib.training.fit` returns it, with `train_eval_accuracy` where it was measured.
    settings: model, shortcut, recipe, data. seconds: training and evaluation, all sessions.
    sessions: for each session the run was trained in: command, commit, versions, hardware, start.
    first_losses: the loss at each of the run's first steps.
    Of a run by a `FastRecipe` also flop, floating-point operations of the training (`training_flops`), and
    mirrored_accuracy, after the last epoch (`evaluate`).
    """

    name: str
    history: pd.DataFrame
    settings: dict[str, Any]
    seconds: int
    sessions: list[dict[str, Any]]
    first_losses: list[float] = field(default_factory=list)
    flop: int | None = None
    mirrored_accuracy: float | None = None


def load_run(name: str, root: str | Path | None = None) -> Run:
    """Load a recorded run from `root`, the course's `data/runs/` by default.

    Raises FileNotFoundError that lists the runs there are.
    """
    path = _existing(name, "run", ".csv", _root(root))
    provenance = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Run(name, pd.read_csv(path), **provenance)


def load_runs(names: Iterable[str], root: str | Path | None = None) -> pd.DataFrame:
    """The histories of several runs one below the other, such as of `resnet_lib.plan.GROUPS["twins"]`.

    Columns in front of the history's own: run, model, shortcut, schedule, peak_lr, seed. A run that is not recorded yet
    is left out, and so is what a group holds besides runs of one training each (sweeps and ablations).

    Raises FileNotFoundError if none of them is.
    """
    names, root = list(names), _root(root)
    recorded = [name for name in names if (root / f"{name}.csv").exists() and _is_run(name, root)]
    if not recorded:
        raise FileNotFoundError(f"None of these runs is recorded in {root}: {', '.join(names) or '(no name given)'}.")
    tables = []
    for name in recorded:
        run = load_run(name, root)
        columns = {key: run.settings[key] for key in ("model", "shortcut")}
        columns |= {key: run.settings["recipe"][key] for key in ("schedule", "peak_lr", "seed")}
        front = pd.DataFrame({"run": name} | columns, index=run.history.index)
        tables.append(pd.concat([front, run.history], axis=1))
    return pd.concat(tables, ignore_index=True)


def _is_run(name: str, root: Path) -> bool:
    settings = json.loads((root / f"{name}.json").read_text(encoding="utf-8"))["settings"]
    return isinstance(settings, dict) and "model" in settings


def load_readme_accuracy(root: str | Path | None = None) -> pd.DataFrame:
    """Test accuracy (0 to 1) by epoch of the README's 150 epochs, read off its figure: columns epoch, test_accuracy.

    root: the folder with `readme_accuracy.csv`; the course's `data/` by default. How exact it is: `data/README.md`.
    Raises FileNotFoundError if the file is not there.
    """
    path = (Path(root) if root is not None else DATA_DIR) / "readme_accuracy.csv"
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}. `git checkout data` brings it back.")
    return pd.read_csv(path)


def load_layers(name: str, root: str | Path | None = None) -> pd.DataFrame:
    """Gradients along the way of a run: a row for each weight layer at the start and after each epoch.

    Columns: epochs_trained (0 is the start); layer, in forward order; gradient_norm, of the loss on the first 128
    bundled training images by the layer's weight, batch norm in train mode; weight_norm.

    Raises FileNotFoundError that lists the runs for which there are such.
    """
    return pd.read_csv(_existing(name, "run with gradients by layer", ".csv", _root(root) / "layers"))


def load_trials(name: str, root: str | Path | None = None) -> pd.DataFrame:
    """What a notebook measures once, from many starts: a row each, with its `seed` (`tools/record_trials.py`).

    root: the folder of the tables, the course's `data/trials/` by default.
    Raises FileNotFoundError that lists the trials there are.
    """
    return pd.read_csv(_existing(name, "trial", ".csv", Path(root) if root is not None else DATA_DIR / "trials"))


def choose_peaks(sweep: str, root: str | Path | None = None) -> dict[str, float]:
    """The peak learning rate for each schedule: the best of a recorded sweep on the validation split, last epoch.

    Of equals the lower. Raises FileNotFoundError if the sweep is not recorded, ValueError if every peak of a schedule
    diverged.
    """
    table = pd.read_csv(_existing(sweep, "sweep", ".csv", _root(root)))
    last = table[table["epoch"] == table["epoch"].max()].sort_values("peak_lr")
    for schedule, accuracies in last.groupby("schedule")["validation_accuracy"]:
        if accuracies.isna().all():
            raise ValueError(f"sweep {sweep!r}: every peak of {schedule!r} diverged. Sweep lower ones.")
    best = last.loc[last.groupby("schedule")["validation_accuracy"].idxmax()]
    return dict(zip(best["schedule"], best["peak_lr"], strict=True))


# --- Trained networks


def load_trained(name: str, root: str | Path | None = None) -> nn.Module:
    """A trained network of `data/weights/` (or of `root`), in evaluation mode, its weights float32.

    Raises FileNotFoundError that lists the networks there are.
    """
    model_settings, tensors = _read_weights(name, root)
    model = create_network(model_settings["model"], shortcut=model_settings["shortcut"])
    model.load_state_dict(tensors)  # copies into float32, whatever the file has
    return model.eval()


def trained_metadata(name: str, root: str | Path | None = None) -> dict[str, str]:
    """What the file says of a trained network: model, shortcut, run, and its accuracies from 0 to 1.

    test_accuracy: as recorded, on the whole test set, before the weights were rounded; bundled_test_accuracy: of the
    weights in the file on the bundled test images.
    """
    return _read_weights(name, root)[0]


def _read_weights(name: str, root: str | Path | None) -> tuple[dict[str, str], dict[str, Tensor]]:
    folder = Path(root) if root is not None else DATA_DIR / "weights"
    with safe_open(_existing(name, "trained network", ".safetensors", folder), framework="pt") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def save_trained(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a network's `state_dict` as `load_trained` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.contiguous(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    with atomic_write(path) as file:
        file.write(save(contiguous, dict(metadata)))


def _root(root: str | Path | None) -> Path:
    return Path(root) if root is not None else DATA_DIR / "runs"


def _existing(name: str, kind: str, suffix: str, folder: Path) -> Path:
    path = folder / f"{name}{suffix}"
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in folder.glob(f"*{suffix}"))) or "none"
        raise FileNotFoundError(f"There is no recorded {kind} {name!r} in {folder}. There are: {there}.")
    return path
