"""Muon, an optimiser for filters: momentum whose every direction counts alike.

K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", https://kellerjordan.github.io/posts/muon.
PyTorch's own `torch.optim.Muon` is for parameters with two dimensions and multiplies in bfloat16, which CPUs without it
do slowly.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The matrix with its singular vectors kept, and its singular values brought near 1.

    (m, n) float → the same shape. A polynomial of odd degree is applied again and again: Newton and Schulz's iteration
    with K. Jordan's coefficients ("Muon", 2024), which rise steeply from 0. In five steps, singular values from a
    hundredth of the matrix's Frobenius norm up end between 0.68 and 1.14; smaller ones grow up to 480 times.
    """
    x = matrix / (matrix.norm() + 1e-7)
    if tall := len(x) > x.shape[1]:  # the shorter side decides the cost of a step
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """SGD with Nesterov momentum; groups with `orthogonal=True` take steps of all singular values about 1.

    In such a group each parameter (out, …) is seen as a matrix with a row for each output, brought to mean square
    1 / (entries a row) before each step, and moved by `lr` along its orthogonalised momentum. K. Jordan 2024, "Muon: An
    optimizer for hidden layers in neural networks". In the others it is `torch.optim.SGD(nesterov=True)`.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 0.1,
        momentum: float = 0.85,
        weight_decay: float = 0.0,
        orthogonal: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "orthogonal": orthogonal}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"]
                buffer.mul_(group["momentum"]).add_(gradient)
                update = gradient.add_(buffer, alpha=group["momentum"])
                if group["orthogonal"]:
                    parameter.mul_(len(parameter) ** 0.5 / parameter.norm().clamp(min=1e-30))  # 0 stays 0
                    update = orthogonalise(update.flatten(1)).view_as(update)
                parameter.add_(update, alpha=-group["lr"])
