"""The course's networks with one thing changed: activation, batch norm, initialisation, shortcut.

Each function changes a network that is already built, in place, so the blocks stay those of `resnet_lib.models` and
a trained network can be changed as well as a fresh one. `experiment_net` puts them together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resnet_lib.models import BasicBlock, Bottleneck, cifar_resnet

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
INITIALISATIONS = ("normal_0.01", "xavier", "kaiming")
# Each shortcut's scale λ in y = activation(λ · shortcut(x) + F(x)).
SHORTCUT_SCALES = {"plain": 0.0, "scaled_0.5": 0.5, "scaled_0.9": 0.9, "residual": 1.0, "zero_gamma": 1.0}


class Scale(nn.Module):
    """λ · x, with a fixed λ."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


@dataclass(frozen=True)
class Setting:
    """One network of the gradient-flow experiment.

    depth: 6n + 2 weighted layers, as in `cifar_resnet`.
    activation: "sigmoid", "tanh" or "relu". initialisation: see `draw_weights`. batch_norm: with or without.
    shortcut: "plain" (none), "residual" (identity, padded where the shape changes: option A), "scaled_0.5" or
        "scaled_0.9" (the same, times λ), or "zero_gamma" ("residual", and every block's last batch norm starts at 0).

    Raises ValueError on a setting that cannot be.
    """

    depth: int
    activation: str = "relu"
    initialisation: str = "kaiming"
    batch_norm: bool = True
    shortcut: str = "residual"

    def __post_init__(self) -> None:
        _check("activation", self.activation, ACTIVATIONS)
        _check("initialisation", self.initialisation, INITIALISATIONS)
        _check("shortcut", self.shortcut, SHORTCUT_SCALES)
        if self.shortcut == "zero_gamma" and not self.batch_norm:
            raise ValueError("shortcut='zero_gamma' starts the scale of batch norm at 0, so it needs batch_norm=True.")


def experiment_net(setting: Setting, seed: int = 0) -> nn.Module:
    """He et al.'s network for CIFAR-10 (`cifar_resnet`), changed as `setting` says; its weights are drawn from `seed`.

    The global random state stays as it was. Raises ValueError if the depth is not 6n + 2.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cifar_resnet(setting.depth, "none" if setting.shortcut == "plain" else "A")
        draw_weights(model, setting.initialisation)
    replace_activation(model, setting.activation)
    scale = SHORTCUT_SCALES[setting.shortcut]
    if scale not in (0, 1):
        scale_shortcuts(model, scale)
    if setting.shortcut == "zero_gamma":
        zero_init_residual(model)
    if not setting.batch_norm:
        remove_batch_norm(model)
    return model


def draw_weights(model: nn.Module, initialisation: str) -> None:
    """Draw the weights of every convolution anew, from a normal distribution with mean 0.

    Its variance is 0.01² ("normal_0.01"), 2 / (fan_in + fan_out) ("xavier": Glorot & Bengio 2010) or 2 / fan_in
    ("kaiming": He et al. 2015, arXiv:1502.01852, equation 10, which keeps the forward signal of a ReLU net).
    `resnet_lib.models.initialise` has the paper's other choice, 2 / fan_out; they differ where the number of
    channels changes. The last linear layer keeps PyTorch's own start in both.

    Raises ValueError on an unknown initialisation.
    """
    _check("initialisation", initialisation, INITIALISATIONS)
    for module in model.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if initialisation == "normal_0.01":
            nn.init.normal_(module.weight, std=0.01)
        elif initialisation == "xavier":
            nn.init.xavier_normal_(module.weight)
        else:
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def replace_activation(model: nn.Module, activation: str) -> None:
    """Put "sigmoid", "tanh" or "relu" where the model has a ReLU module. Raises ValueError on another name."""
    _check("activation", activation, ACTIVATIONS)
    _replace(model, nn.ReLU, ACTIVATIONS[activation])


def remove_batch_norm(model: nn.Module) -> None:
    """Take out every batch norm; the names of the other parameters stay."""
    _replace(model, nn.BatchNorm2d, nn.Identity)


def scale_shortcuts(model: nn.Module, factor: float) -> None:
    """Multiply the shortcut of every residual block by `factor`: y = activation(factor · shortcut(x) + F(x)).

    0 leaves the residual branches alone, 1 changes nothing. He et al. 2016, arXiv:1603.05027, §3.1.
    Raises ValueError if the model has no shortcuts.
    """
    for block in residual_blocks(model):
        block.downsample = nn.Sequential(block.downsample, Scale(factor))


def zero_init_residual(model: nn.Module) -> None:
    """Set the scale γ of every residual branch's last batch norm to 0: each block starts as its shortcut alone.

    Goyal et al. 2017, arXiv:1706.02677, §5.1. Raises ValueError if the model has no shortcuts.
    """
    for block in residual_blocks(model):
        nn.init.zeros_(last_norm(block).weight)


def residual_blocks(model: nn.Module) -> list[BasicBlock | Bottleneck]:
    """The model's blocks in forward order. Raises ValueError if there are none, or some have no shortcut."""
    blocks = [module for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    if not blocks or any(block.downsample is None for block in blocks):
        raise ValueError("The model has no shortcuts: expected a residual network of resnet_lib.models.")
    return blocks


def last_norm(block: BasicBlock | Bottleneck) -> nn.Module:
    """The module that the block's residual branch ends with: its last batch norm, or what stands in its place."""
    return block.bn3 if isinstance(block, Bottleneck) else block.bn2


def _replace(model: nn.Module, kind: type[nn.Module], new: type[nn.Module]) -> None:
    """Put a `new()` in the place of every module of this kind."""
    for name, child in model.named_children():
        if isinstance(child, kind):
            setattr(model, name, new())
        else:
            _replace(child, kind, new)


def _check(name: str, value: object, known: object) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, known))}.")
