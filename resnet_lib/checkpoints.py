"""Save a training run after each epoch, and take it up again to the same bits.

Of several processes (`resnet_lib.distributed`) the main one reads and writes for all, and its errors are raised in all.
"""

import difflib
import io
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from resnet_lib import distributed
from resnet_lib.files import atomic_write


class CheckpointError(RuntimeError):
    """The checkpoint is damaged, of another run, or cannot be written; the message says which, and what to do."""


@dataclass
class RunState:
    """What a run is, and how far it has come.

    identity: what makes the run this one (model, recipe, data), as text by name; a checkpoint fits only the same.
    history: one row per finished epoch. saved_epochs: how many of them are safe on disk.
    """

    model: nn.Module
    optimizer: Optimizer
    identity: dict[str, str]
    history: list[dict[str, float]] = field(default_factory=list)
    saved_epochs: int = 0


def check_writable(path: Path) -> None:
    """Raise CheckpointError now, and not after an epoch of work, if no file can be written beside `path`."""
    distributed.from_main(lambda: _try_to_write(path))


def _try_to_write(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise CheckpointError(
            f"{path.parent} is no folder that can be written to ({error.strerror}). Choose another one."
        ) from error


def save_checkpoint(path: Path, state: RunState) -> None:
    """Write weights, optimiser, history and random state; a kill at any moment leaves the old file or the new one.

    Raises CheckpointError if it cannot be written, on a full disk for example; then the old file is still there.
    """
    distributed.from_main(lambda: _write(path, state))
    state.saved_epochs = len(state.history)


def _write(path: Path, state: RunState) -> None:
    content = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "identity": state.identity,
        "history": state.history,
        "random_state": _random_state(),
    }
    # By way of memory: on a full disk torch's own writer hides the system's error behind one that says nothing.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with atomic_write(path) as file:
            file.write(buffer.getbuffer())
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror}). Epochs saved before: {state.saved_epochs}. "
            "Make room, and run the same again to go on from there."
        ) from error


def load_checkpoint(path: Path, state: RunState) -> None:
    """Bring `state`, and torch's random numbers, to where the checkpoint left them.

    Raises CheckpointError, with `state` untouched, if the file is damaged or of another model, recipe or data.
    """
    content = _read(path)
    # Models of the same text can still differ in parameters that the text does not show.
    saved_weights, weights = _shapes(content["model"]), _shapes(state.model.state_dict())
    differences = _differences(content["identity"], state.identity)
    differences = differences or _differences({"weights": saved_weights}, {"weights": weights})
    if differences:
        raise _of_another_run(path, f"What differs:\n{differences}")
    try:  # first, since it refuses before it changes anything, and the weights are known to fit
        state.optimizer.load_state_dict(content["optimizer"])
    except ValueError as error:
        raise _of_another_run(path, f"Its optimiser does not fit: {error}.") from error
    state.model.load_state_dict(content["model"])
    state.history[:] = content["history"]
    state.saved_epochs = len(state.history)
    _restore_random_state(content["random_state"])


def _of_another_run(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} belongs to another run. Choose another path, or delete it to start anew. {why}")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = distributed.from_main(path.read_bytes)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}). It may be whole all the same.") from error
    try:
        # weights_only: a checkpoint from somebody else cannot run code here.
        content = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return {name: content[name] for name in ("model", "optimizer", "identity", "history", "random_state")}
    except MemoryError:
        raise
    except Exception as error:  # the zip reader and the unpickler fail on damage with errors of a dozen kinds
        if isinstance(error, UnpicklingError):  # torch's text advises to switch the protection off
            reason = "it is not made of tensors and plain values alone"
        else:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise CheckpointError(
            f"{path} is no whole checkpoint ({reason}). Choose another path, or delete it to start anew."
        ) from error


def _random_state() -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_initialized():
        # The checkpoint may come from a machine with more GPUs, or with none.
        torch.cuda.set_rng_state_all(state.get("cuda", [])[: torch.cuda.device_count()])


def _shapes(weights: dict[str, Tensor]) -> str:
    return "\n".join(f"{name}: {tuple(tensor.shape)}" for name, tensor in weights.items())


def _differences(saved: dict[str, str], current: dict[str, str]) -> str:
    """The lines that differ, - in the checkpoint and + now; empty where none do."""
    lines = []
    for name in saved | current:
        old, new = saved.get(name, "").splitlines(), current.get(name, "").splitlines()
        # Without context (n=0), and without the two lines of file names and the @@ lines of positions.
        diff = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]
        changed = [line for line in diff if line[0] in "-+"]
        if changed:
            more = [f"  … and {len(changed) - 8} more lines"] if len(changed) > 8 else []
            lines += [f"{name} (- in the checkpoint, + now):", *("  " + line for line in changed[:8]), *more]
    return "\n".join(lines)
