"""Make the recorded runs of `resnet_lib.plan`: train, measure along the way, and keep the result in `data/`.

A training works in `runs/NAME/`, which git ignores: checkpoint, history, sessions and notes, brought up to date after
every epoch, so that it may be killed at any time. What an earlier session left in `data/runs/unfinished/NAME/` it takes
over. Only when it is done does it write results to `data/`, its CSV last: a run is recorded when that is there. (The
gradient grid and the loss surfaces are no trainings; they take less than half an hour and keep nothing before their
end.)
"""

import datetime
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from resnet_lib.ablation import HALF_AS_WIDE, WITHOUT, train_variant
from resnet_lib.data import DATA_DIR, Cifar10, load_cifar10
from resnet_lib.fast import FastRecipe, create_network, training_flops
from resnet_lib.files import write_csv, write_json
from resnet_lib.gradient_grid import GRID_FILE, record_gradient_grid, save_gradient_grid
from resnet_lib.loss_surface import surface_of_trained
from resnet_lib.notes import Notes, first_losses, first_of_each_class
from resnet_lib.plan import Ablation, GradientFlow, Item, LossSurface, PeakSweep, TrainingRun
from resnet_lib.provenance import RunFolder, describe_session, read_sessions
from resnet_lib.runs import choose_peaks, load_trained, save_trained
from resnet_lib.training import Recipe, TrainingDiverged, evaluate, fit, pick_device

WORK_DIR = DATA_DIR.parent / "runs"

# Called after each epoch with the run's name, its history so far and its number of epochs.
Report = Callable[[str, pd.DataFrame, int], None]


class Recorder:
    """Makes runs of the plan, one after the other.

    report: see `Report`. work: the folder of what is under way. data: the folder of results, `data/` by default.
    """

    def __init__(self, report: Report, work: Path = WORK_DIR, data: Path = DATA_DIR) -> None:
        self.report = report
        self.work = work
        self.data = data
        # Once: a `git pull` while the process runs does not change the code that runs.
        self.session = describe_session(pick_device())

    def record(self, item: Item) -> None:
        """Make this run, or go on with it where it was stopped, and write its result.

        Raises what `fit` raises, and FileNotFoundError if the sweep or the weights it rests on are not recorded.
        """
        self.session |= {
            "command": f"python -m resnet_lib record {item.name}",
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        self._take_over(item.name)
        if isinstance(item, GradientFlow):
            save_gradient_grid(record_gradient_grid(self.session, progress=sys.stderr.isatty()), self.output(item))
        elif isinstance(item, LossSurface):
            self._record_surface(item)
        elif isinstance(item, PeakSweep):
            self._record_sweep(item)
        elif isinstance(item, Ablation):
            self._record_ablation(item)
        else:
            self._record_run(item)

    def output(self, item: Item) -> Path:
        """The file that is there when the item is recorded, and not before."""
        if isinstance(item, GradientFlow):
            return self.data / GRID_FILE.name
        if isinstance(item, LossSurface):
            return self.data / f"{item.name}.csv"
        return self.data / "runs" / f"{item.name}.csv"

    def state(self, item: Item) -> str:
        """ "recorded", "not begun", or how far it has come."""
        if self.output(item).exists():
            return "recorded"
        folder = self.work / item.name if (self.work / item.name).exists() else self._left(item.name)
        begun = [len(pd.read_csv(file)) for file in folder.glob("**/history.csv")]
        if not begun:
            return "not begun"
        if isinstance(item, PeakSweep | Ablation):
            return f"{sum(begun)} epochs in {len(begun)} runs"
        return f"{begun[0]} of {item.recipe.epochs} epochs"

    def _left(self, name: str) -> Path:
        """The folder of what an earlier session left unfinished."""
        return self.data / "runs" / "unfinished" / name

    def _take_over(self, name: str) -> None:
        """Copy what an earlier session left unfinished to the work folder, unless the run is there already."""
        left, folder = self._left(name), self.work / name
        if left.exists() and not folder.exists():
            copy = folder.with_name(f"{name}.partial")  # a copy cut short must not be taken for the run
            shutil.copytree(left, copy, dirs_exist_ok=True)
            copy.replace(folder)

    def _record_run(self, run: TrainingRun) -> None:
        recipe = run.recipe
        if run.peaks is not None:
            recipe = replace(recipe, peak_lr=choose_peaks(run.peaks, self.data / "runs")[recipe.schedule])
        train_data, folder, results = training_images(run), self.work / run.name, self.data / "runs"
        notes = Notes(folder)
        if not notes.first_losses:
            notes.first_losses = first_losses(make_model(run, recipe.seed), train_data, recipe)
            notes.save()
        model, history = self._train(run, recipe, train_data, folder, notes)
        if run.keep_weights:
            save_weights(run, model, history, self.data / "weights")
        if run.probe:
            accuracies = [measured["train_accuracy"] for measured in notes.measured]
            history.insert(4, "train_eval_accuracy", accuracies[1:])
            write_csv(results / "layers" / f"{run.name}.csv", notes.layers(), digits=4)
        provenance = {
            "settings": settings(run, recipe, train_data),
            "seconds": round(history["seconds"].sum()),
            "first_losses": notes.first_losses,
            "sessions": read_sessions(folder),
        }
        if isinstance(recipe, FastRecipe):
            evaluated = load_cifar10(run.evaluate_on, run.size)
            provenance |= {
                "flop": training_flops(model, recipe, len(train_data)),
                "mirrored_accuracy": evaluate(model, evaluated, mirrored=True),
            }
        write_json(results / f"{run.name}.json", provenance)
        write_csv(results / f"{run.name}.csv", history)

    def _train(
        self, run: TrainingRun, recipe: Recipe, train_data: Cifar10, folder: Path, notes: Notes
    ) -> tuple[nn.Module, pd.DataFrame]:
        """`fit` in `folder`, as `python -m resnet_lib train --out` has it: the trained model and its history."""
        run_folder = RunFolder(folder, dict(self.session))
        model = make_model(run, recipe.seed)
        if run.probe:
            notes.catch_up(model)

        def on_epoch(history: pd.DataFrame) -> None:
            run_folder.record(history)
            if run.probe:
                notes.measure(model, len(history))
            self.report(folder.name, history, recipe.epochs)

        history = fit(
            model,
            train_data,
            recipe,
            load_cifar10(run.evaluate_on, run.size),
            checkpoint=folder / "checkpoint.pt",
            on_epoch=on_epoch,
            progress=sys.stderr.isatty(),
        )
        return model, history

    def _record_sweep(self, sweep: PeakSweep) -> None:
        """Run every schedule at every peak; all histories go to one file, a row for each epoch of each."""
        tables, folders, all_settings = [], [], []
        for run in sweep.runs:
            measured: dict[float, float] = {}
            train_data = training_images(run)
            all_settings.append(settings(run, run.recipe, train_data))
            while (peak := next_peak(sweep, measured)) is not None:
                folder = self.work / sweep.name / f"{run.name}_{peak:g}"
                recipe = replace(run.recipe, peak_lr=peak)
                try:
                    _, history = self._train(run, recipe, train_data, folder, Notes(folder))
                except TrainingDiverged:  # a result too: a last epoch without figures
                    nothing = {"validation_accuracy": float("nan"), "seconds": float("nan")}
                    history = pd.DataFrame({"epoch": recipe.epochs - 1} | nothing, index=[0])
                measured[peak] = history["validation_accuracy"].iloc[-1]
                tables.append(history.assign(schedule=run.name, peak_lr=peak).set_index(["schedule", "peak_lr"]))
                folders.append(folder)
        table = pd.concat(tables).reset_index()
        provenance = {
            "settings": all_settings,
            "seconds": round(table["seconds"].sum()),
            "sessions": self._sessions_of(folders),
        }
        write_json(self.data / "runs" / f"{sweep.name}.json", provenance)
        write_csv(self.data / "runs" / f"{sweep.name}.csv", table)

    def _record_ablation(self, item: Ablation) -> None:
        """Train every variant; a row for each."""
        train_data, recipe = first_of_each_class(load_cifar10("train_part", "full"), item.per_class), item.recipe
        rows, losses, folders = [], {}, []
        for name in WITHOUT:
            folders.append(self.work / item.name / re.sub(r"\W+", "_", name))
            result = self._train_variant(item, name, train_data, folders[-1])
            losses[name] = result.pop("first_losses")
            rows.append({"without": name, "seed": recipe.seed} | result)
        table = pd.DataFrame(rows)
        provenance = {
            "settings": {
                "recipe": asdict(recipe),
                "widths": HALF_AS_WIDE,
                "images": len(train_data),
                "size": train_data.size,
                "evaluated_on": "validation",
            },
            "seconds": round(table["seconds"].sum()),
            "first_losses": losses,
            "sessions": self._sessions_of(folders),
        }
        write_json(self.data / "runs" / f"{item.name}.json", provenance)
        write_csv(self.data / "runs" / f"{item.name}.csv", table)

    def _train_variant(self, item: Ablation, name: str, train_data: Cifar10, folder: Path) -> dict[str, Any]:
        """`train_variant` in `folder`; of one that is trained already only the measurements are made again."""
        run_folder, variant = RunFolder(folder, dict(self.session)), WITHOUT[name]

        def on_epoch(history: pd.DataFrame) -> None:
            run_folder.record(history)
            self.report(f"{item.name}, without {name}", history, variant.apply(item.recipe).epochs)

        return train_variant(variant, item.recipe, train_data, folder / "checkpoint.pt", on_epoch)

    def _sessions_of(self, folders: Iterable[Path]) -> list[dict[str, Any]]:
        """The sessions that trained in these folders, each once, without its epochs: it may have trained in several."""
        sessions = {session["started"]: session for folder in folders for session in read_sessions(folder)}
        return [{key: sessions[started][key] for key in self.session} for started in sorted(sessions)]

    def _record_surface(self, item: LossSurface) -> None:
        """Measure every network; a row for each point of each."""
        for name in item.networks:  # a missing one is told now, and not after minutes of work
            load_trained(name, self.data / "weights")
        start, tables = time.perf_counter(), []
        for name in item.networks:
            surface = surface_of_trained(item, name, weights=self.data / "weights")
            surface.insert(0, "network", name)
            tables.append(surface)
        provenance = {
            "settings": asdict(item) | {"batch_norm": "batch", "split": "train", "size": "bundled"},
            "seconds": round(time.perf_counter() - start),
            "sessions": [self.session],
        }
        write_json(self.output(item).with_suffix(".json"), provenance)
        write_csv(self.output(item), pd.concat(tables))


def next_peak(sweep: PeakSweep, measured: dict[float, float]) -> float | None:
    """The next peak to try, given the accuracies (NaN: diverged) of those tried before; None: that is enough."""
    for peak in sweep.peaks:
        if peak not in measured:
            return peak
    accuracies = pd.Series(measured).sort_index().fillna(-1)
    best, lowest, highest = accuracies.idxmax(), accuracies.index[0], accuracies.index[-1]
    if len(accuracies) == sweep.most or best not in (lowest, highest):
        return None
    return float(best / 2 if best == lowest else best * 2)


def make_model(run: TrainingRun, seed: int) -> nn.Module:
    """The network at its start, on the device and in the memory format in which `fit` trains it."""
    torch.set_flush_denormal(True)  # as `fit` does, so that what is measured before it is measured alike
    torch.manual_seed(seed)
    model = create_network(run.model, shortcut=run.shortcut)
    return model.to(pick_device(), memory_format=torch.channels_last)


def training_images(run: TrainingRun) -> Cifar10:
    """What the run is trained on."""
    return first_of_each_class(load_cifar10(run.split, run.size), run.per_class)


def settings(run: TrainingRun, recipe: Recipe, train_data: Cifar10) -> dict[str, Any]:
    """What decided the run, for its provenance."""
    return {
        "model": run.model,
        "shortcut": run.shortcut,
        "recipe": asdict(recipe),
        "data": {"split": run.split, "size": run.size, "images": len(train_data), "evaluated_on": run.evaluate_on},
    }


def save_weights(run: TrainingRun, model: nn.Module, history: pd.DataFrame, folder: Path) -> None:
    """Write the network for `load_trained`: float16, unless that costs more than 0.2 points on the bundled test set."""
    test = load_cifar10("test", "bundled")
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    rounded = create_network(run.model, shortcut=run.shortcut)
    rounded.load_state_dict(half)
    accuracy, exact = evaluate(rounded, test), evaluate(model, test)
    if accuracy < exact - 0.002:
        half, accuracy = tensors, exact
    metadata = {
        "model": run.model,
        "shortcut": run.shortcut,
        "run": run.name,
        "test_accuracy": f"{history['test_accuracy'].iloc[-1]:.4f}",
        "bundled_test_accuracy": f"{accuracy:.4f}",
    }
    save_trained(folder / f"{run.name}.safetensors", half, metadata)
