"""The recorded gradient-flow experiment: every setting, three seeds, one file.

`python -m resnet_lib record gradient-flow` makes `data/gradient_flow.safetensors`. What is in the file, and how the
numbers are packed: `GradientGrid`, `encode`.
"""

import base64
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from tqdm.auto import tqdm

from resnet_lib.data import DATA_DIR, DataError, load_cifar10, normalise
from resnet_lib.files import atomic_write
from resnet_lib.gradients import gradient_flow
from resnet_lib.probes import position, watch_blocks
from resnet_lib.variants import ACTIVATIONS, INITIALISATIONS, SHORTCUT_SCALES, Setting, experiment_net

GRID_FILE = DATA_DIR / "gradient_flow.safetensors"
IMAGES = 64
AXES = {
    "depth": (8, 14, 20, 32, 44, 56, 110),
    "activation": tuple(ACTIVATIONS),
    "initialisation": INITIALISATIONS,
    "batch_norm": (False, True),
    "shortcut": tuple(SHORTCUT_SCALES),
    "seed": (0, 1, 2),
}
QUANTITIES = ("gradient_norm", "forward_variance")
# A step of the stored logarithm: rounding to it moves a number by at most 0.5 %.
STEP = 0.004
ZERO, NOT_FINITE, NOT_RECORDED = -32768, 32767, 32766


def grid_images() -> tuple[Tensor, Tensor]:
    """The images of the experiment, the first 64 bundled training images: (64, 3, 32, 32) float32; (64,) int64."""
    data = load_cifar10("train", "bundled")[:IMAGES]
    return normalise(data.images), data.labels


def measure(setting: Setting, seed: int, images: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """One network of the experiment at its start, one forward and one backward pass, batch norm in train mode.

    Returns the gradient norm of every weight layer, (depth,) float64, and the variance of the signal in front of the
    first block and after each block, (depth / 2,) float64.
    """
    model = experiment_net(setting, seed).train()
    with watch_blocks(model) as points:
        flow = gradient_flow(model, images, labels)
    return flow["gradient_norm"].to_numpy(), np.array([point.moments.variance for point in points])


def encode(values: np.ndarray) -> np.ndarray:
    """Positive numbers as int16: round(log10(value) / STEP). Exact zeros, inf or NaN, have codes of their own."""
    finite = np.isfinite(values)
    logs = np.log10(values, where=finite & (values > 0), out=np.zeros(values.shape))
    codes = np.round(logs / STEP)
    codes[values == 0] = ZERO
    codes[~finite] = NOT_FINITE
    return codes.astype(np.int16)


def decode(codes: np.ndarray) -> np.ndarray:
    """`encode` undone, as float64: 0.0 for an exact zero, inf for what was not finite, NaN for what is not recorded."""
    values = 10.0 ** (STEP * codes.astype(np.float64))
    values[codes == ZERO] = 0.0
    values[codes == NOT_FINITE] = np.inf
    values[codes == NOT_RECORDED] = np.nan
    return values


@dataclass(frozen=True)
class GradientGrid:
    """The recorded experiment.

    axes: the values of every axis by name, as in `AXES`; `Setting` says what they mean.
    codes: int16 arrays by name and depth, such as "gradient_norm.56", see `encode`. Their axes are activation,
        initialisation, batch_norm, shortcut, seed, and for "gradient_norm" the weight layer (`layers`), for
        "forward_variance" the point between blocks (`points`).
    provenance: how the grid was made.
    """

    axes: Mapping[str, tuple[Any, ...]]
    codes: Mapping[str, np.ndarray]
    provenance: Mapping[str, Any]

    @property
    def gradient_norm(self) -> dict[int, np.ndarray]:
        """By depth: Euclidean norm of the loss's gradient by each weight; 0 is exact, inf: not finite, NaN: no such."""
        return {depth: decode(self.codes[f"gradient_norm.{depth}"]) for depth in self.axes["depth"]}

    @property
    def forward_variance(self) -> dict[int, np.ndarray]:
        """By depth: variance of the signal over images, channels and pixels; 0, inf and NaN as in `gradient_norm`."""
        return {depth: decode(self.codes[f"forward_variance.{depth}"]) for depth in self.axes["depth"]}

    def setting(self, depth: int, **changes: Any) -> pd.DataFrame:
        """The gradient norms of one network: a row per weight layer, in forward order.

        depth, changes: as in `Setting`, such as `grid.setting(56, activation="tanh", batch_norm=False)`.
        Columns: name, stage, block, kind, as in `gradient_flow`; median, minimum, maximum of the norm over the seeds.

        Raises ValueError if the setting cannot be or was not recorded.
        """
        table = self._summary("gradient_norm", self.layers(depth), Setting(depth, **changes))
        table.insert(3, "kind", ["conv"] * (depth - 1) + ["linear"])
        return table

    def variance(self, depth: int, **changes: Any) -> pd.DataFrame:
        """The same for the variance of the forward signal: a row per point between blocks, without `kind`."""
        return self._summary("forward_variance", self.points(depth), Setting(depth, **changes))

    def _summary(self, quantity: str, names: tuple[str, ...], setting: Setting) -> pd.DataFrame:
        choice = {name: getattr(setting, name) for name in self.axes if name != "seed"}
        for name, value in choice.items():
            if value not in self.axes[name]:
                recorded = ", ".join(map(repr, self.axes[name]))
                raise ValueError(f"{name}={value!r} is not in the grid, which has {recorded}.")
        index = tuple(self.axes[name].index(value) for name, value in choice.items() if name != "depth")
        values = decode(self.codes[f"{quantity}.{setting.depth}"][index])
        rows = [(name, *position(name)) for name in names]
        table = pd.DataFrame(rows, columns=["name", "stage", "block"]).astype({"block": "Int64"})
        return table.assign(median=np.median(values, axis=0), minimum=values.min(axis=0), maximum=values.max(axis=0))

    @staticmethod
    def points(depth: int) -> tuple[str, ...]:
        """Names of the depth / 2 points between blocks: "stem", "layer1.0", …"""
        return ("stem", *(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range((depth - 2) // 6)))

    @staticmethod
    def layers(depth: int) -> tuple[str, ...]:
        """Names of the weight layers in forward order: "conv1", "layer1.0.conv1", …, "fc"."""
        convolutions = (f"{block}.conv{i}" for block in GradientGrid.points(depth)[1:] for i in (1, 2))
        return ("conv1", *convolutions, "fc")

    def payload(self) -> dict[str, Any]:
        """The grid for a page: `json.dumps` takes it. Codes are base64 of little-endian int16 in C order, by depth."""
        depths = self.axes["depth"]
        return {
            "axes": self.axes,
            "step": STEP,
            "zero": ZERO,
            "not_finite": NOT_FINITE,
            "not_recorded": NOT_RECORDED,
            "shortcut_scales": SHORTCUT_SCALES,
            "layers": {str(depth): self.layers(depth) for depth in depths},
            "points": {str(depth): self.points(depth) for depth in depths},
        } | {
            quantity: {str(depth): _base64(self.codes[f"{quantity}.{depth}"]) for depth in depths}
            for quantity in QUANTITIES
        }


def _base64(codes: np.ndarray) -> str:
    return base64.b64encode(codes.astype("<i2").tobytes()).decode("ascii")


def record_gradient_grid(
    session: Mapping[str, Any], axes: Mapping[str, Sequence[Any]] = AXES, progress: bool = True
) -> GradientGrid:
    """Measure every setting of these axes, on `grid_images`; session: of `describe_session`."""
    images, labels = grid_images()
    start = time.perf_counter()
    depths, *inner = axes.values()
    shape = tuple(map(len, inner))
    codes = {}
    with tqdm(total=len(depths) * math.prod(shape), unit="network", disable=not progress) as bar:
        for depth in depths:
            norms = np.full((*shape, depth), NOT_RECORDED, np.int16)
            variances = np.full((*shape, depth // 2), NOT_RECORDED, np.int16)
            for index in np.ndindex(shape):
                *choice, seed = (values[i] for values, i in zip(inner, index, strict=True))
                bar.update()
                if choice[2:] == [False, "zero_gamma"]:
                    continue
                measured = measure(Setting(depth, *choice), seed, images, labels)
                norms[index], variances[index] = map(encode, measured)
            codes |= {f"gradient_norm.{depth}": norms, f"forward_variance.{depth}": variances}
    provenance = dict(session) | {
        "seconds": round(time.perf_counter() - start),
        "images": f"the first {IMAGES} bundled training images",
    }
    return GradientGrid(dict(axes), codes, provenance)


def save_gradient_grid(grid: GradientGrid, path: str | Path = GRID_FILE) -> None:
    """Write the grid: its codes as tensors; axes, provenance and the code in words as metadata."""
    meaning = (
        f"value = 10 ** ({STEP} * code); {ZERO}: exactly 0; {NOT_FINITE}: not finite; {NOT_RECORDED}: not recorded"
    )
    metadata = {"axes": json.dumps(grid.axes), "provenance": json.dumps(grid.provenance), "encoding": meaning}
    with atomic_write(Path(path)) as file:
        file.write(save(dict(grid.codes), metadata))


def load_gradient_grid(path: str | Path = GRID_FILE) -> GradientGrid:
    """Read the recorded grid. Raises DataError if the file is missing or damaged."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata()
            codes = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            axes = {name: tuple(values) for name, values in json.loads(metadata["axes"]).items()}
            return GradientGrid(axes, codes, json.loads(metadata["provenance"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"The recorded gradients could not be read from {path} ({error}). `git checkout data` brings the file "
            "back; `python -m resnet_lib record gradient-flow` measures it again."
        ) from error
