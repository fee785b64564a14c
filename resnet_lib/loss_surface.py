"""The loss around trained weights, along two random directions that are scaled filter by filter.

Li, Xu, Taylor, Studer & Goldstein 2018, "Visualizing the Loss Landscape of Neural Nets", arXiv:1712.09913, §4.

**Batch norm.** By default the loss is that of batch norm in train mode, with the mean and variance of these very images
("batch"): the loss that training descends, and a function of the weights alone. In evaluation mode ("running", as in Li
et al.'s own code) the statistics are those that the trained weights left behind; for other weights they are wrong, and
the further away, the more of the rise comes from that alone. Measure both to see which conclusions depend on it.

The recorded surfaces, `data/loss_surface.csv`, are made by `python -m resnet_lib record loss_surface`.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resnet_lib.data import DATA_DIR, load_cifar10, normalise
from resnet_lib.plan import LossSurface
from resnet_lib.runs import load_trained

BATCH_NORM_MODES = ("batch", "running")

Direction = Mapping[str, Tensor]


def filter_normalise(direction: Tensor, weight: Tensor) -> Tensor:
    """`direction` with each filter, direction[i], scaled to the Euclidean norm of weight[i].

    Both of one shape with two axes or more, filters along the first: a convolution's (out, in, height, width), or a
    linear layer's (out, in). A filter whose weights are all 0 has a direction of 0. Li et al. 2018, equation 1.

    Raises ValueError if the shapes differ, or there are fewer than two axes.
    """
    if direction.shape != weight.shape or weight.ndim < 2:
        raise ValueError(
            f"A direction of shape {tuple(direction.shape)} for weights of shape {tuple(weight.shape)}: expected the "
            "same, with at least two axes."
        )
    axes = tuple(range(1, weight.ndim))
    wanted, drawn = (torch.linalg.vector_norm(values, dim=axes, keepdim=True) for values in (weight, direction))
    return direction * torch.where(drawn > 0, wanted / drawn, 0)


def random_direction(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random direction in the space of the model's weights, by parameter name, `filter_normalise`d.

    Drawn from a normal distribution; biases and batch norm's γ and β stay where they are (0 in the direction), as in
    Li et al. 2018, §4. The global random state stays as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, parameter in model.named_parameters():
        weight = parameter.detach().cpu()
        if weight.ndim < 2:
            direction[name] = torch.zeros_like(parameter)
            continue
        drawn = torch.randn(weight.shape, generator=generator)
        direction[name] = filter_normalise(drawn, weight).to(parameter)
    return direction


def loss_surface(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    directions: tuple[Direction, Direction],
    steps: Sequence[float],
    batch_norm: str = "batch",
) -> pd.DataFrame:
    """Mean cross-entropy and error at w + a · directions[0] + b · directions[1], for all a and b of `steps`.

    images: (N, 3, H, W) float, normalised, in one batch; labels: (N,) int64. steps: in units of the weights' own
    norm, such as `numpy.linspace(-1, 1, 21)`. batch_norm: "batch" or "running", see the top of this module. The model
    is left as it was.

    Returns a row a point: a, b, loss (NaN or infinite where it is), error from 0 to 1.
    Raises ValueError on another batch_norm, on no steps, or on directions that do not fit the model.
    """
    if batch_norm not in BATCH_NORM_MODES:
        raise ValueError(f"batch_norm={batch_norm!r}: expected one of {', '.join(map(repr, BATCH_NORM_MODES))}.")
    if len(steps) == 0:
        raise ValueError("steps is empty: expected the places along each direction, such as [-1, 0, 1].")
    centre = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for direction in directions:
        _check_direction(direction, centre)
    moving = copy.deepcopy(model).train(batch_norm == "batch")
    parameter = next(moving.parameters())
    images, labels = images.to(parameter.device), labels.to(parameter.device)
    rows = []
    with torch.no_grad():
        for a in steps:
            for b in steps:
                for name, weight in moving.named_parameters():
                    weight.copy_(centre[name] + a * directions[0][name] + b * directions[1][name])
                logits = moving(images)
                error = (logits.argmax(1) != labels).double().mean().item()
                rows.append((float(a), float(b), F.cross_entropy(logits, labels).item(), error))
    return pd.DataFrame(rows, columns=["a", "b", "loss", "error"])


def surface_grid(table: pd.DataFrame, column: str = "loss") -> tuple[np.ndarray, np.ndarray]:
    """A table of `loss_surface` as figures want it: the steps (n,), and the column as (n, n), a row for each b.

    Raises ValueError if a point of the grid is missing or there twice.
    """
    try:
        grid = table.pivot(index="b", columns="a", values=column)
    except ValueError as error:
        raise ValueError("Some points are in the table twice: expected one network's surface.") from error
    if len(grid) * len(grid.columns) != len(table) or list(grid.index) != list(grid.columns):
        raise ValueError(f"{len(table)} points: expected every pair of the same steps along both directions.")
    return grid.index.to_numpy(), grid.to_numpy()


# --- Recorded surfaces


def surface_of_trained(
    item: LossSurface, network: str, steps: Sequence[float] | None = None, weights: Path | None = None
) -> pd.DataFrame:
    """`loss_surface` around a trained network as the plan has it, batch norm in mode "batch".

    network: a name in `weights`, the folder `data/weights/` by default. steps: only these, such as a few that are in
    the recorded grid too; by default the grid's own.
    """
    model, data = load_trained(network, weights), load_cifar10("train", "bundled")[: item.images]
    first, second = (random_direction(model, seed) for seed in item.seeds)
    if steps is None:
        steps = np.linspace(-1, 1, item.points)
    return loss_surface(model, normalise(data.images), data.labels, (first, second), steps)


def load_loss_surfaces(root: str | Path | None = None) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The recorded surfaces, by the network's name, and how they were made: settings, seconds, sessions.

    root: the folder with `loss_surface.csv` and `.json`, the course's `data/` by default.
    Raises FileNotFoundError if they are not there.
    """
    path = (Path(root) if root is not None else DATA_DIR) / "loss_surface.csv"
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}. `git checkout data` brings it back.")
    table = pd.read_csv(path)
    surfaces = {
        name: rows.drop(columns="network").reset_index(drop=True) for name, rows in table.groupby("network", sort=False)
    }
    return surfaces, json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def _check_direction(direction: Direction, centre: Direction) -> None:
    shapes = {name: tuple(part.shape) for name, part in direction.items()}
    if shapes != {name: tuple(weight.shape) for name, weight in centre.items()}:
        raise ValueError("The direction does not fit the model: expected a tensor for each of its parameters, by name.")
