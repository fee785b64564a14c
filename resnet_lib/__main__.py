"""The command line: `python -m resnet_lib data` and `python -m resnet_lib train`."""

import json
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from resnet_lib.checkpoints import CheckpointError
from resnet_lib.data import DataError, load_cifar10
from resnet_lib.download import get_full_cifar10
from resnet_lib.files import atomic_write
from resnet_lib.models import create_model
from resnet_lib.provenance import describe_session
from resnet_lib.training import RECIPES, TrainingDiverged, TrainingInterrupted, fit, pick_device

app = typer.Typer(
    help="The residual-network course: get the data, train a network.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RecipeName = StrEnum("RecipeName", {name: name for name in RECIPES})
Shortcut = StrEnum("Shortcut", {"A": "A", "B": "B", "C": "C", "none": "none"})
Stem = StrEnum("Stem", {"cifar": "cifar", "readme": "readme", "imagenet": "imagenet"})
Size = StrEnum("Size", {"auto": "auto", "full": "full", "bundled": "bundled"})
EvaluateOn = StrEnum("EvaluateOn", {"test": "test", "validation": "validation"})


@app.command()
def data(
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A folder or archive you have: the official python or binary version."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Where to put it; the course's data folder by default.")] = None,
) -> None:
    """Get the full CIFAR-10 (60,000 images, 185 MB), check it, and write it to one file."""
    get_full_cifar10(source, root)


@app.command()
def train(
    model: Annotated[str, typer.Option(help="resnet18, resnet34, resnet50, or resnet and 6n + 2.")] = "resnet20",
    shortcut: Annotated[
        Shortcut | None, typer.Option(help="He et al.'s option, or none for the plain twin. [default: the model's own]")
    ] = None,
    stem: Annotated[Stem, typer.Option(help="The first layers.")] = Stem.cifar,
    recipe: Annotated[RecipeName, typer.Option(help="Optimiser, schedule, augmentation.")] = RecipeName.readme,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Another length; the milestones move in proportion.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Another batch size; the rate stays.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    size: Annotated[Size, typer.Option(help="Which CIFAR-10; auto: the full set if it is there.")] = Size.auto,
    evaluate_on: Annotated[
        EvaluateOn, typer.Option(help="validation: train on nine tenths and never look at the test set.")
    ] = EvaluateOn.test,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoint, history and provenance. [default: runs/MODEL-RECIPE-SEED]"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
) -> None:
    """Train a network on CIFAR-10; the same command again goes on where a stopped run was."""
    settings = replace(RECIPES[recipe], seed=seed)
    settings = settings.scaled_to(epochs) if epochs is not None else settings
    settings = replace(settings, batch_size=batch_size or settings.batch_size)
    out = out or Path("runs") / f"{model}-{recipe}-{seed}"
    train_data = load_cifar10("train" if evaluate_on == "test" else "train_part", size)
    torch.manual_seed(seed)
    network = create_model(model, stem=stem, shortcut=shortcut)
    out.mkdir(parents=True, exist_ok=True)
    record_session(out / "provenance.json", pick_device(device))

    def record(history: pd.DataFrame) -> None:
        with atomic_write(out / "history.csv") as file:
            history.to_csv(file, index=False, float_format="%.6g")
        if not sys.stderr.isatty():  # a log file gets a line per epoch instead of a moving bar
            print(history.tail(1).to_string(index=False, header=len(history) == 1), flush=True)

    history = fit(
        network,
        train_data,
        settings,
        evaluate_on=load_cifar10(evaluate_on, size),
        device=device,
        checkpoint=out / "checkpoint.pt",
        on_epoch=record,
        progress=sys.stderr.isatty(),
    )
    accuracy = history[f"{evaluate_on}_accuracy"].iloc[-1]
    print(f"{model}, {len(history)} epochs: {evaluate_on} accuracy {accuracy:.2%} after the last. All of it: {out}")


def record_session(path: Path, device: torch.device) -> None:
    """Append this session to the run's provenance: a run that was stopped and resumed has several."""
    sessions = json.loads(path.read_text()) if path.exists() else []
    sessions.append(describe_session(device))
    with atomic_write(path) as file:
        file.write(json.dumps(sessions, indent=2).encode())


def main() -> None:
    """Run the command line; errors that a user can mend are told in a line or two, without a traceback."""
    try:
        app()
    except TrainingInterrupted as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(130)
    except (DataError, CheckpointError, TrainingDiverged, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
