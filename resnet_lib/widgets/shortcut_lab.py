"""The lab of one shortcut: what becomes of the derivative along a chain of blocks."""

from numbers import Real

import anywidget
import traitlets

from resnet_lib.widgets.script import STATIC, script

PATHS = ("nothing", "relu", "tanh", "sigmoid")
# What the sliders reach, and their step.
RANGES = {"scale": (0, 1.2), "branch": (-0.5, 0.5), "blocks": (1, 54)}
STEP = 0.05


class ShortcutLab(anywidget.AnyWidget):
    """The product of derivatives through residual blocks of one number, x ← act(λ · x + F′ · x), to play with.

    The page draws ∂x_ℓ/∂x₀ block by block together with its closed form, and computes both itself: no kernel needed.

    scale: λ, from 0 to 1.2. branch: F′, the derivative of the residual branch, from −0.5 to 0.5; both in steps of 0.05.
    path: "nothing", "relu", "tanh" or "sigmoid": what stands on the identity path, after the addition.
    blocks: how many, from 1 to 54 (ResNet-110).

    `setting` is a dict of these, follows the controls, and may be assigned. Raises ValueError on one that cannot be.
    """

    _esm = script("shortcut_lab.js")
    _css = STATIC / "lab.css"
    setting = traitlets.Dict().tag(sync=True)

    def __init__(self, scale: float = 1, branch: float = 0.1, path: str = "nothing", blocks: int = 27) -> None:
        super().__init__(setting={"scale": scale, "branch": branch, "path": path, "blocks": blocks})

    @traitlets.validate("setting")
    def _check_setting(self, proposal: dict) -> dict:
        setting = proposal["value"]
        if set(setting) != {*RANGES, "path"}:
            raise ValueError(f"setting has {', '.join(setting)}: expected {', '.join(RANGES)}, path.")
        for name, (low, high) in RANGES.items():
            step = 1 if name == "blocks" else STEP
            value = setting[name]
            is_number = isinstance(value, Real) and low <= value <= high
            if not is_number or abs(value / step - round(value / step)) > 1e-9:
                raise ValueError(f"{name}={value!r}: expected {low} to {high} in steps of {step}.")
        if setting["path"] not in PATHS:
            raise ValueError(f"path={setting['path']!r}: expected one of {', '.join(map(repr, PATHS))}.")
        return setting

    def __repr__(self) -> str:
        return f"ShortcutLab({', '.join(f'{name}={value!r}' for name, value in self.setting.items())})"
