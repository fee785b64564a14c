"""Settings of the gradient-flow lab that teach something, and what."""

from typing import Any


def _preset(name: str, lesson: str, **setting: Any) -> dict[str, Any]:
    start = {"depth": 56, "activation": "relu", "networks": "both", "scale": 1, "zero_gamma": False}
    return {"name": name, "lesson": lesson, "setting": start | setting}


PRESETS = [
    _preset(
        "the README’s story",
        "ReLU without normalisation. In the plain net every layer starves, the last as much as the first: a weight’s "
        "gradient is the signal coming forward times the signal coming back, and both shrink block by block. With "
        "shortcuts all 56 layers hear the loss.",
        initialisation="xavier",
        batch_norm=False,
    ),
    _preset(
        "the textbook slope",
        "Sigmoids keep the forward signal alive but multiply what comes back by at most 1/4 at every layer: the "
        "further from the loss, the less a layer hears. This is how vanishing gradients were first seen.",
        depth=20,
        activation="sigmoid",
        initialisation="xavier",
        batch_norm=False,
        networks="plain",
    ),
    _preset(
        "too small weights",
        "Weights from N(0, 0.01²): in the plain net the product of 56 small numbers leaves float32 altogether. These "
        "gradients are not small but exactly 0, so no learning rate helps. The shortcuts do not need the weights.",
        initialisation="normal_0.01",
        batch_norm=False,
    ),
    _preset(
        "He’s repair",
        "His variance 2 / fan-in (“Kaiming”) keeps the plain net alive at 56 layers, without any shortcut. With "
        "shortcuts it is too much: every block adds variance, below, and the gradients grow with it.",
        initialisation="kaiming",
        batch_norm=False,
    ),
    _preset(
        "normalisation explodes",
        "Batch norm holds the forward signal, below, yet the plain net’s gradients do not vanish: they explode on "
        "the way back, more than a millionfold. With shortcuts the two ends stay within a factor of ten.",
        depth=110,
        initialisation="kaiming",
        batch_norm=True,
    ),
    _preset(
        "the broken 1",
        "Shortcuts everywhere, and still the first layer hears next to nothing: the sigmoid stands after the "
        "addition, on the identity path, and multiplies the 1 of 1 + F′ by at most 1/4 at every block.",
        activation="sigmoid",
        initialisation="xavier",
        batch_norm=False,
    ),
    _preset(
        "half a shortcut",
        "Every shortcut multiplied by λ = 0.5. There are 27 between the image and the loss, so 0.5²⁷, about 10⁻⁸, is "
        "left of every gradient: part is lost on the way forward to the layer, the rest on the way back. Compare "
        "λ = 0.9 and λ = 1.",
        initialisation="normal_0.01",
        batch_norm=False,
        scale=0.5,
    ),
    _preset(
        "a start without branches",
        "Each block’s last batch norm starts with γ = 0, so that the net begins as its shortcuts alone. The branches’ "
        "weights hear exactly nothing in the first step; only γ does, and opens the branches from the second step on.",
        initialisation="kaiming",
        batch_norm=True,
        zero_gamma=True,
    ),
]
