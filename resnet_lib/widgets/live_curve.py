"""A curve that grows while a network trains."""

import anywidget
import pandas as pd
import traitlets

from resnet_lib.widgets.script import STATIC, script


class LiveCurve(anywidget.AnyWidget):
    """Accuracy by epoch, drawn while a network trains: `fit(..., on_epoch=curve.update)`.

    epochs: the length of the run, which fixes the axis.
    """

    _esm = script("live_curve.js")
    _css = STATIC / "live_curve.css"
    epochs = traitlets.Int().tag(sync=True)
    # One list per curve: its name, then its accuracy after each epoch, from 0 to 1.
    curves = traitlets.List().tag(sync=True)

    def __init__(self, epochs: int) -> None:
        super().__init__(epochs=epochs)

    def update(self, history: pd.DataFrame) -> None:
        """Draw a history of `resnet_lib.training.fit` as far as it goes."""
        columns = [name for name in history if name.endswith("_accuracy")]
        self.curves = [[name.removesuffix("_accuracy"), *history[name].tolist()] for name in columns]

    def __repr__(self) -> str:
        return f"LiveCurve(epochs={self.epochs})"
