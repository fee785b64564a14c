"""The command line: `python -m resnet_lib data`, `train` and `record`."""

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer

from resnet_lib import distributed
from resnet_lib.checkpoints import CheckpointError
from resnet_lib.data import DataError, load_cifar10
from resnet_lib.fast import FAST_CPU, FAST_WIDE, create_network
from resnet_lib.provenance import RunFolder, describe_session
from resnet_lib.training import RECIPES, Recipe, TrainingDiverged, TrainingInterrupted, evaluate, fit, pick_device

app = typer.Typer(
    help="The residual-network course: get the data, train a network, make the recorded runs.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ALL_RECIPES = RECIPES | {"fast_cpu": FAST_CPU, "fast_wide": FAST_WIDE}
RecipeName = StrEnum("RecipeName", {name: name for name in ALL_RECIPES})
Shortcut = StrEnum("Shortcut", {"A": "A", "B": "B", "C": "C", "none": "none"})
Stem = StrEnum("Stem", {"cifar": "cifar", "readme": "readme", "imagenet": "imagenet"})
Size = StrEnum("Size", {"auto": "auto", "full": "full", "bundled": "bundled"})
EvaluateOn = StrEnum("EvaluateOn", {"test": "test", "validation": "validation"})


@app.command()
def data(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="A folder or archive you have: the official Python or binary version. [default: download it]",
        ),
    ] = None,
) -> None:
    """Get the full CIFAR-10.

    60,000 images, 185 MB, checked by the official MD5s and written to one file.
    """
    from resnet_lib.download import get_full_cifar10  # here, since torchvision takes as long to import as torch

    get_full_cifar10(source)


@app.command()
def train(
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="resnet18, resnet34, resnet50, fast_resnet, fast_resnet_wide, or a depth 6n + 2 such as resnet110.",
        ),
    ] = "resnet20",
    shortcut: Annotated[
        Shortcut | None,
        typer.Option(
            help="Option A, B or C of He et al. 2015, or none for the plain twin. "
            "fast_resnet and fast_resnet_wide have the identity, or none. "
            "[default: A for the 6n + 2 nets, B for the ResNets of 18 layers and more]"
        ),
    ] = None,
    stem: Annotated[
        Stem, typer.Option(help="The first layers; the 6n + 2 nets have the cifar stem only.")
    ] = Stem.cifar,
    recipe: Annotated[
        RecipeName,
        typer.Option(
            help="Optimiser, schedule and augmentation: of the README (150 epochs, batches of 32), "
            "of He et al. 2015 (164 epochs, batches of 128), or made for fast_resnet (fast_cpu) and fast_resnet_wide "
            "(fast_wide): 18 epochs, batches of 500."
        ),
    ] = RecipeName.readme,
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Another length; the drops move in proportion. [default: the recipe's]"),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Images a step; the learning rate stays. [default: the recipe's]"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of first weights, order and augmentation.")] = 0,
    size: Annotated[
        Size, typer.Option(help="All of CIFAR-10, or the bundled tenth of it; auto: all if it is there.")
    ] = Size.auto,
    evaluate_on: Annotated[
        EvaluateOn,
        typer.Option(help="What to measure after each epoch; validation is a tenth of the training images, left out."),
    ] = EvaluateOn.test,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For checkpoint.pt, history.csv and provenance.json. [default: runs/MODEL-RECIPE-SEED]",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto (a GPU if there is one), cpu, cuda, cuda:1 …")
    ] = "auto",
    local_batch_norm: Annotated[
        bool,
        typer.Option("--local-batch-norm", help="Of several processes, each normalises by its own images alone."),
    ] = False,
    two_views: Annotated[
        bool,
        typer.Option(
            "--two-views",
            help="In the end, also measure the mean of each image's and its mirror image's answers: "
            "test-time augmentation.",
        ),
    ] = False,
) -> None:
    """Train a network on CIFAR-10.

    The same command again goes on where a stopped run was: Ctrl-C loses the epoch in progress, no more.
    With `torchrun --nproc-per-node=2 -m resnet_lib train` two processes share every batch, to the same result.
    """
    settings = choose_recipe(recipe, epochs, batch_size, seed)
    out = out or Path("runs") / f"{model}-{recipe}-{seed}"
    chosen_device = pick_device(device)
    run = RunFolder(out, describe_session(chosen_device))
    torch.manual_seed(seed)
    network = create_network(model, stem=stem.value, shortcut=shortcut.value if shortcut else None)
    train_data = load_cifar10("train" if evaluate_on == "test" else "train_part", size)
    evaluation_data = load_cifar10(evaluate_on, size)
    main_process = distributed.is_main()  # it alone writes
    if main_process:
        print(f"{model}, {settings.epochs} epochs on {train_data}, device {chosen_device}, to {out}", flush=True)

    def record(history: pd.DataFrame) -> None:
        if not main_process:
            return
        run.record(history)
        if not sys.stderr.isatty():
            print(progress_line(history, settings.epochs), flush=True)

    try:
        history = fit(
            network,
            train_data,
            settings,
            evaluate_on=evaluation_data,
            device=device,
            checkpoint=out / "checkpoint.pt",
            on_epoch=record,
            progress=sys.stderr.isatty(),
            local_batch_norm=local_batch_norm,
        )
    except TrainingInterrupted as error:  # here, since typer ends without a word on any KeyboardInterrupt
        if main_process:
            print(f"\n{error}", file=sys.stderr)
        raise typer.Exit(130) from None
    if main_process:
        run.write_history(history)
        accuracy = history[f"{evaluate_on}_accuracy"].iloc[-1]
        print(f"{evaluate_on} accuracy after the last epoch: {accuracy:.2%}")
        if two_views:
            print(f"with two views: {evaluate(network, evaluation_data, mirrored=True):.2%}")


@app.command()
def record(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Runs or groups of runs; --list has their names.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--list", help="List the plan: names, hours on one core, how far each is.")
    ] = False,
) -> None:
    """Make the recorded runs that the notebooks show.

    The same command again goes on where a stopped one was. The result goes to the course's data folder when a run is
    done; what is recorded already is left alone.
    """
    # Here, since what it measures with takes a while to import.
    from resnet_lib.plan import GROUPS, find
    from resnet_lib.record import Recorder

    def report(name: str, history: pd.DataFrame, epochs: int) -> None:
        if not sys.stderr.isatty():
            print(f"{name}: {progress_line(history, epochs)}", flush=True)

    recorder = Recorder(report)
    if show or not names:
        for item in find(names or ["all"]):
            print(f"{item.name:24}{item.core_hours:6.2f} core hours  {recorder.state(item)}")
        print(f"Groups: {', '.join(GROUPS)}")
        return
    for item in find(names):
        output = recorder.output(item)
        if output.exists():
            folder = recorder.work / item.name
            print(f"{item.name} is recorded already. To make it anew, delete {output} and {folder}.", flush=True)
            continue
        try:
            recorder.record(item)
        except TrainingInterrupted as error:  # as in `train`
            print(f"\n{error}", file=sys.stderr)
            raise typer.Exit(130) from None
        print(f"{item.name} is recorded: {output}", flush=True)


def choose_recipe(name: str, epochs: int | None, batch_size: int | None, seed: int) -> Recipe:
    """The recipe of that name, with what the user changes of it."""
    recipe = replace(ALL_RECIPES[name], seed=seed)
    if epochs is not None:
        recipe = recipe.scaled_to(epochs)
    return recipe if batch_size is None else replace(recipe, batch_size=batch_size)


def progress_line(history: pd.DataFrame, epochs: int) -> str:
    """What a log file gets for the last epoch of `history`, where a terminal has its moving bar."""
    last = history.iloc[-1]
    accuracies = [f"{name.replace('_', ' ')} {last[name]:.1%}" for name in history if name.endswith("_accuracy")]
    measured = ", ".join([f"train loss {last['train_loss']:.3f}", *accuracies, f"{last['seconds']:.0f} s"])
    return f"{len(history)} of {epochs} epochs: learning rate {last['lr']:g}, {measured}"


def main() -> None:
    """Run the command line; errors that a user can mend are told in a line or two, without a traceback."""
    try:
        app()
    except (DataError, CheckpointError, TrainingDiverged, ValueError, OSError) as error:
        print(f"Error{distributed.who()}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
