"""Repeat what notebooks measure once with other starts: `python tools/record_trials.py [NAME ...]`.

A trial runs cells of a notebook's text twin, those that define the names it needs, with another number for `SEED`, and
writes a row of measurements to `data/trials/NAME.csv`; `NAME.json` says how it was made. So the ranges that a notebook
states for many starts come from the very code that a reader sees for one.
"""

import ast
import contextlib
import datetime
import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from resnet_lib import plots
from resnet_lib.data import DATA_DIR
from resnet_lib.files import write_csv, write_json
from resnet_lib.provenance import describe_session

SOURCE = Path(__file__).resolve().parent.parent / "notebooks" / "source"
Namespace = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """What is repeated.

    notebook: the twin.
    names: the cells that define one of these run, in the notebook's order; of all others only the imports do.
    measure: takes what the cells defined, and gives the rows of one start.
    """

    notebook: str
    names: tuple[str, ...]
    measure: Callable[[Namespace], Iterable[dict[str, Any]]]
    seeds: tuple[int, ...] = tuple(range(10))


def run_cells(trial: Trial, seed: int) -> Namespace:
    """Run the trial's cells with this seed, on one thread, without pictures and printed lines.

    Raises ValueError if the notebook does not define `SEED`, in a cell of its own, and all of the names.
    """
    torch.set_num_threads(1)  # the same numbers, however many cores there are
    plots.show = lambda figure, alt: plt.close(figure)
    missing, namespace = {*trial.names, "SEED"}, {"SEED": seed}
    for cell in jupytext.read(SOURCE / f"{trial.notebook}.py").cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        defined = _defined(tree)
        missing -= defined
        if not defined & set(trial.names):
            tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(tree, trial.notebook, "exec"), namespace)
    if missing or namespace["SEED"] != seed:
        raise ValueError(f"{trial.notebook}: no cell defines {', '.join(sorted(missing)) or 'SEED alone'}.")
    return namespace


def _defined(tree: ast.Module) -> set[str]:
    """The names that a cell defines at its top level."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def measure_plain_residual(cells: Namespace) -> Iterable[dict[str, Any]]:
    """Notebook 05, section 6 and exercise 5: three networks under a rate that rises first and under a constant one."""
    recipe, few = cells["recipe"], cells["train"][:2000]
    histories = {"one_cycle": cells["histories"], "constant": {}}
    constant = cells["replace"](recipe, schedule="constant")
    fresh = {
        "residual": cells["narrow_32"]("A"),
        "plain": cells["narrow_32"]("none"),
        "residual, fc / 5": cells["evened"](cells["narrow_32"]("A")),
    }
    for name, network in fresh.items():
        histories["constant"][name] = cells["fit"](network, few, constant, progress=False)
    for schedule, found in histories.items():
        for name, history in found.items():
            loss = history["train_loss"]
            yield {"schedule": schedule, "network": name, "first_loss": loss.iloc[0], "last_loss": loss.iloc[-1]}


def measure_muon(cells: Namespace) -> Iterable[dict[str, Any]]:
    """Notebook 08, section 4: a small network with Muon, and with SGD at three rates."""
    for name, accuracy in cells["reached"].items():
        yield {"filters": name if name == "Muon" else f"SGD at {name}", "accuracy": accuracy}


def measure_drops(cells: Namespace) -> Iterable[dict[str, Any]]:
    """Notebook 06, section 7: noise at a checkpoint, and what a drop gains from it, early, late and back."""
    go_on, mean = cells["go_on"], cells["np"].mean
    stays, drops = cells["stays_2"], cells["drops_2"]
    leads = {}
    for number, epoch in ((3, 6), (4, 7)):
        stays, stay = go_on(stays, 0.1, epoch)
        drops, drop = go_on(drops, 0.01, epoch)
        leads[f"lead_{number}"] = mean(stay[2:]) - mean(drop[2:])
    high, low, early = cells["noise_high"], cells["noise_low"], cells["stay_1"] - cells["drop_1"]
    yield {
        "noise_over_gradient": cells["noise"].ratio,
        "noise_low_over_high": low.noise / high.noise,
        "gradient_low_over_high": low.signal / high.signal,
        "lead_1": early,
        "lead_2": cells["stay_2"] - cells["drop_2"],
        **leads,
        "back_behind": cells["back_2"] - cells["stay_2"],
        "late_over_early": (cells["stay_2"] - cells["late_2"]) / early,
    }


def measure_live(cells: Namespace) -> Iterable[dict[str, Any]]:
    """Notebook 07, sections 1 to 3: the small networks' first 60 steps, and the promises of their gradients."""
    runs, equal, kept, slopes = (cells[name] for name in ("runs", "equal", "kept", "slopes"))
    for name in cells["NAMES"]:
        run = runs[name]
        yield {
            "network": name,
            "loss": run["loss"].tail(20).mean(),
            "conv1_gradient_first": run["conv1_gradient"].iloc[0],
            "conv1_gradient_late": run["conv1_gradient"].iloc[30:].median(),
            "conv1_weight_first": run["conv1_weight"].iloc[0],
            "conv1_weight_late": run["conv1_weight"].iloc[30:].median(),
            "equal_steps_loss": equal[name]["loss"].tail(20).mean() if name in equal else np.nan,
            "kept_of_0.1": kept[name][0.1],
            "best_step": (kept[name] * kept[name].index).max(),
            "slope": slopes[name],
        }


def measure_equal_steps(cells: Namespace) -> Iterable[dict[str, Any]]:
    """Notebook 07, section 3: steps of equal relative size at other rates, and more of them."""
    tried = [(rate, 60) for rate in (3e-6, 3e-5, 3e-4, 1e-3, 3e-3, 1e-2)] + [(1e-3, 400)]
    for name in cells["NAMES"]:
        if "44" in name:
            for rate, steps in tried:
                run = cells["descend"](cells["small_net"](name), rate, equal_steps=True, steps=steps)
                yield {"network": name, "rate": rate, "steps": steps, "loss": run["loss"].tail(20).mean()}


NOTEBOOK_07 = "07_degradation_and_anatomy"
LIVE = ("small", "small_net", "angle", "descend", "NAMES")
PARTS_OF_05 = ("train", "network", "train_by_hand", "few", "same_bits")
TRIALS = {
    "plain_residual": Trial(
        "05_training",
        (*PARTS_OF_05, "narrow_32", "recipe", "loss", "at_the_start", "evened", "histories"),
        measure_plain_residual,
    ),
    "muon": Trial("08_fast_and_far", ("train", "small", "part", "tiny", "sgd", "reached"), measure_muon),
    "drops": Trial(
        "06_learning_rate_schedules",
        ("train", "network", "noise", "some", "go_on", "stays", "noise_high", "branches"),
        measure_drops,
    ),
    "live_descents": Trial(NOTEBOOK_07, (*LIVE, "train", "runs", "deep", "equal", "kept_share", "tried"), measure_live),
    "equal_steps": Trial(NOTEBOOK_07, (*LIVE, "train"), measure_equal_steps, seeds=(0, 1, 2)),
}


def rows(trial: Trial, seed: int) -> list[dict[str, Any]]:
    """The measurements of one start."""
    return [{"seed": seed} | row for row in trial.measure(run_cells(trial, seed))]


def record(name: str) -> None:
    """Run a trial from all of its seeds, and write its table and how that was made."""
    trial, measured = TRIALS[name], []
    session = describe_session(torch.device("cpu")) | {"command": f"python tools/record_trials.py {name}"}
    start = datetime.datetime.now()
    for seed in trial.seeds:
        measured += rows(trial, seed)
        print(f"{name}: seed {seed}", file=sys.stderr)
    seconds = round((datetime.datetime.now() - start).total_seconds())
    path = DATA_DIR / "trials" / f"{name}.csv"
    write_json(path.with_suffix(".json"), {"notebook": trial.notebook, "seconds": seconds, "sessions": [session]})
    write_csv(path, pd.DataFrame(measured), digits=4)


def main(names: list[str]) -> None:
    unknown = set(names) - set(TRIALS)
    if unknown:
        sys.exit(f"No such trial: {', '.join(sorted(unknown))}. There are: {', '.join(TRIALS)}.")
    for name in names or TRIALS:
        record(name)


if __name__ == "__main__":
    main(sys.argv[1:])
