"""How a recorded result was made: command, commit, versions, hardware, time."""

import datetime
import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from resnet_lib.distributed import launcher, world_size
from resnet_lib.files import write_csv, write_json


class RunFolder:
    """A run's history.csv, and its provenance.json: a list of the sessions that trained it.

    session: what `describe_session` says of the one now; the epochs that it trains are added to it.
    """

    def __init__(self, folder: Path, session: dict[str, Any]) -> None:
        self.history_file = folder / "history.csv"
        self.provenance_file = folder / "provenance.json"
        self.session = session
        self.earlier = read_sessions(folder)

    def record(self, history: pd.DataFrame) -> None:
        """Bring both files up to date after an epoch. A session that finishes no epoch leaves no trace."""
        self.write_history(history)
        epoch = len(history) - 1
        self.session.setdefault("first_epoch", epoch)
        self.session["last_epoch"] = epoch
        if self.session["first_epoch"] == 0:
            self.earlier = []  # they trained a run that was here before, of which nothing is left
        write_json(self.provenance_file, [*self.earlier, self.session])

    def write_history(self, history: pd.DataFrame) -> None:
        """A row per epoch; numbers with six significant digits."""
        write_csv(self.history_file, history)


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """The sessions that trained the run in this folder. Raises ValueError if its file of them is damaged."""
    file = folder / "provenance.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    except ValueError as error:
        raise ValueError(
            f"{file} is damaged ({error}). Delete it to go on without the record of earlier sessions."
        ) from error


def describe_session(device: torch.device) -> dict[str, Any]:
    """What a reader needs to make this session's result again; nothing in it names this machine or its folders.

    The command is as typed, except that a path to somewhere else on the machine (absolute, or up by "..") is cut to
    its last part.
    """
    return {
        "command": shlex.join([*launcher(), "-m", "resnet_lib", *map(_without_folders, sys.argv[1:])]),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("torch", "torchvision", "numpy")},
        "hardware": {
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "vector_instructions": torch.backends.cpu.get_cpu_capability(),
            **({"processes": world_size()} if world_size() > 1 else {}),
        },
    }


def _without_folders(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    path = Path(value)
    return option + equals + path.name if path.is_absolute() or ".." in path.parts else argument


def git_commit() -> str:
    """The commit of the course that runs, "-modified" behind it if tracked files differ; "unknown" outside git."""
    folder = Path(__file__).resolve().parent
    try:
        # An installed copy may lie inside somebody else's repository; that one does not track this file.
        _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("-modified" if _git(folder, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's name; of another device its kind alone, such as "mps"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name() if device.type == "cpu" else device.type


def cpu_name() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
