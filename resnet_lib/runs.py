"""Recorded training runs: `data/runs/NAME.csv` (the history) and `NAME.json` (how it was made)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from resnet_lib.data import DATA_DIR


@dataclass(frozen=True)
class Run:
    """A recorded run.

    history: a row per epoch, as `resnet_lib.training.fit` returns it.
    sessions: for each session the run was trained in: command, commit, versions, hardware, start.
    """

    name: str
    history: pd.DataFrame
    sessions: list[dict[str, Any]]


def load_run(name: str, root: str | Path | None = None) -> Run:
    """Load a recorded run from `root`, the course's `data/runs/` by default.

    Raises FileNotFoundError that lists the runs there are.
    """
    root = Path(root) if root is not None else DATA_DIR / "runs"
    path = root / f"{name}.csv"
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in root.glob("*.csv"))) or "none"
        raise FileNotFoundError(f"There is no recorded run {name!r} in {root}. There are: {there}.")
    sessions = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Run(name, pd.read_csv(path), sessions)
