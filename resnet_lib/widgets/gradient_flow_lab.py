"""The lab in which gradients die, explode or flow."""

import time
from functools import cache
from typing import Any

import anywidget
import traitlets
from torch import Tensor

from resnet_lib.gradient_grid import GradientGrid, encode, grid_images, load_gradient_grid, measure
from resnet_lib.variants import Setting
from resnet_lib.widgets.presets import PRESETS
from resnet_lib.widgets.script import STATIC, script

# As many real images as "Measure it here" takes: enough to see the same picture within a second.
LIVE_IMAGES = 16
NETWORKS = ("plain", "residual", "both")
SCALES = (0.5, 0.9, 1)


class GradientFlowLab(anywidget.AnyWidget):
    """The recorded gradient-flow experiment to play with, and a button that measures the setting afresh.

    The controls, their words and the picture are in the page with all recorded data, and need no kernel; only
    "Measure it here" does. What it found is laid over the recording.

    depth, activation, initialisation, batch_norm: the networks to begin with, as in `resnet_lib.variants.Setting`;
        depth one of those recorded: 8, 14, 20, 32, 44, 56, 110.
    networks: "plain", "residual" or "both".
    scale: λ of the shortcut, 0.5, 0.9 or 1. zero_gamma: whether each block's last batch norm starts at 0.
    images, labels: what "Measure it here" measures on, (N, 3, 32, 32) float32, normalised, and (N,) int64; the first
        16 images of the recording by default.
    grid: the recording; the course's own by default.

    `setting` is a dict of the first seven, follows the controls, and may be assigned. `PRESETS` has some worth a look.
    Raises ValueError on a setting that was not recorded, DataError if the recording is missing.
    """

    _esm = script("gradient_flow_lab.js")
    _css = STATIC / "lab.css"
    recording = traitlets.Dict().tag(sync=True)
    presets = traitlets.List().tag(sync=True)
    setting = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        depth: int = 56,
        activation: str = "relu",
        initialisation: str = "xavier",
        batch_norm: bool = False,
        networks: str = "both",
        scale: float = 1,
        zero_gamma: bool = False,
        *,
        images: Tensor | None = None,
        labels: Tensor | None = None,
        grid: GradientGrid | None = None,
    ) -> None:
        if (images is None) != (labels is None):
            raise ValueError("Give images and their labels, or neither.")
        recording = recorded_payload() if grid is None else grid.payload()
        setting = {
            "depth": depth,
            "activation": activation,
            "initialisation": initialisation,
            "batch_norm": batch_norm,
            "networks": networks,
            "scale": scale,
            "zero_gamma": zero_gamma,
        }
        self._images, self._labels = images, labels
        super().__init__(recording=recording, presets=PRESETS, setting=setting)
        self.on_msg(self._answer)

    @traitlets.validate("setting")
    def _check_setting(self, proposal: dict[str, Any]) -> dict[str, Any]:
        setting = proposal["value"]
        axes = self.recording["axes"]
        allowed = {
            **{name: axes[name] for name in ("depth", "activation", "initialisation", "batch_norm")},
            "networks": NETWORKS,
            "scale": SCALES,
            "zero_gamma": (False, True),
        }
        if set(setting) != set(allowed):
            raise ValueError(f"setting has {', '.join(setting)}: expected {', '.join(allowed)}.")
        for name, values in allowed.items():
            if setting[name] not in values:
                raise ValueError(f"{name}={setting[name]!r}: expected one of {', '.join(map(repr, values))}.")
        has_gamma = setting["batch_norm"] and setting["scale"] == 1 and setting["networks"] != "plain"
        if setting["zero_gamma"] and not has_gamma:
            raise ValueError("zero_gamma=True needs batch_norm=True, scale=1 and networks='residual' or 'both'.")
        # In one order, for the text form; and 1.0 and True equal 1, but the page tells them apart.
        return {name: values[values.index(setting[name])] for name, values in allowed.items()}

    def _answer(self, _widget: object, message: dict[str, Any], _buffers: object) -> None:
        """Answer the page: "hello" asks whether a kernel is there, "measure" for gradients of some networks."""
        if message["kind"] == "hello":
            self.send({"kind": "ready"})
            return
        try:
            results = [self._measure(network, message["seed"]) for network in message["networks"]]
        except Exception as error:  # whatever it is, the reader waits in the page, and would not see a traceback
            self.send({"kind": "failed", "reason": f"{type(error).__name__}: {error}"})
        else:
            self.send({"kind": "measured", "results": results})

    def _measure(self, network: dict[str, Any], seed: int) -> dict[str, Any]:
        """Measure one network as `resnet_lib.gradient_grid` does; numbers are coded as in the recording."""
        if self._images is None:
            self._images, self._labels = (values[:LIVE_IMAGES] for values in grid_images())
        setting = Setting(**{name: value for name, value in network.items() if name != "role"})
        start = time.perf_counter()
        gradient, variance = measure(setting, seed, self._images, self._labels)
        return {
            "network": network,
            "gradient": encode(gradient).tolist(),
            "variance": encode(variance).tolist(),
            "seed": seed,
            "seconds": time.perf_counter() - start,
            "images": len(self._images),
        }

    def __repr__(self) -> str:
        return f"GradientFlowLab({', '.join(f'{name}={value!r}' for name, value in self.setting.items())})"


@cache
def recorded_payload() -> dict[str, Any]:
    """The course's recording for the page; a notebook may show several labs."""
    return load_gradient_grid().payload()
