"""Save a training run after each epoch, and take it up again to the same bits."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from resnet_lib.files import atomic_write


class CheckpointError(RuntimeError):
    """The checkpoint is damaged, or belongs to another run; the message says what differs."""


@dataclass
class RunState:
    """What a run is, and how far it has come.

    identity: what makes the run this one (model, recipe, data), as text by name; a checkpoint fits only the same.
    history: one row per finished epoch.
    """

    model: nn.Module
    optimizer: Optimizer
    identity: dict[str, str]
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(path: Path, state: RunState) -> None:
    """Write weights, optimiser, history and random state; a kill at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "identity": state.identity,
        "history": state.history,
        "random_state": _random_state(),
    }
    with atomic_write(path) as file:
        torch.save(content, file)


def load_checkpoint(path: Path, state: RunState) -> None:
    """Bring `state`, and torch's random numbers, to where the checkpoint left them.

    Raises CheckpointError, with `state` untouched, if the file is damaged or of another model, recipe or data.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        saved_identity = content["identity"]
    except (OSError, RuntimeError, UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is no whole checkpoint ({error}). Delete it to start anew.") from error
    differences = _differences(saved_identity, state.identity)
    if differences:
        raise CheckpointError(
            f"{path} belongs to another run. Give another path, or delete it to start anew. What differs:\n"
            + differences
        )
    state.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.history[:] = content["history"]
    _restore_random_state(content["random_state"])


def _random_state() -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def _differences(saved: dict[str, str], current: dict[str, str]) -> str:
    """The lines that differ, - in the checkpoint and + now; empty where none do."""
    lines = []
    for name in current:
        old, new = saved.get(name, "").splitlines(), current[name].splitlines()
        changed = [line for line in difflib.ndiff(old, new) if line[0] in "-+"]
        if changed:
            more = [f"  … and {len(changed) - 8} more lines"] if len(changed) > 8 else []
            lines += [f"{name} (- in the checkpoint, + now):", *("  " + line for line in changed[:8]), *more]
    return "\n".join(lines)
