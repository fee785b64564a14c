"""Sound and faulty ways to load weights and to take steps, for the exercises of notebook 09.

Each list goes from what any test sees to what only a careful one does.
"""

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from resnet_lib.checks.judging import Subject
from resnet_lib.faults import Batches

# --- Exercise 1: load(network, weights), whose names all begin with "module."


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("module."): value for name, value in weights.items()}


def load_loosely(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    network.load_state_dict(weights, strict=False)


def load_renamed(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    network.load_state_dict(renamed(weights))


def load_strictly(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    network.load_state_dict(weights)


def load_in_order(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for own, value in zip(network.state_dict().values(), weights.values(), strict=True):
        own.copy_(value)


def load_parameters(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    values = renamed(weights)
    for name, parameter in network.named_parameters():
        parameter.data.copy_(values[name])


LOADERS = (
    Subject(
        lambda: load_renamed,
        True,
        "a function that takes `module.` off the names",
        "It loads everything. Do you compare names without `module.` on both sides?",
    ),
    Subject(
        lambda: load_loosely,
        False,
        "a function that loads with strict=False",
        "Where no name fits, it loads nothing and says nothing. Do your names begin with `module.`? Is what you load "
        "different from what the new network has? And do you compare values?",
    ),
    Subject(
        lambda: load_strictly,
        False,
        "a function that refuses with an error",
        "It cannot load these weights, and says so. Catch the RuntimeError, and return False.",
    ),
    Subject(
        lambda: load_in_order,
        True,
        "a function that goes by the order, not by the names",
        "Every value arrives. How it got there is not your test's business.",
    ),
    Subject(
        lambda: load_parameters,
        False,
        "a function that loads the parameters and not the buffers",
        "The statistics of batch norm stay behind. In a new network they are all 0 and 1: run yours once in training "
        "mode before you save it, and compare all of `state_dict()`.",
    ),
)

# --- Exercise 2: train_epoch(network, batches, optimizer)


def forget_by_hand(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def nothing(_optimizer: Optimizer) -> None:
    pass


def steps(
    first: Callable[[Optimizer], object] = nothing,
    between: Callable[[Optimizer], object] = nothing,
    last: Callable[[Optimizer], object] = nothing,
    once: Callable[[Optimizer], object] = nothing,
) -> Callable:
    """A training epoch that does these to the optimizer: before, between and after backward and step, or once."""

    def train_epoch(network: nn.Module, batches: Batches, optimizer: Optimizer) -> None:
        once(optimizer)
        for images, labels in batches:
            first(optimizer)
            F.cross_entropy(network(images), labels).backward()
            between(optimizer)
            optimizer.step()
            last(optimizer)

    return train_epoch


EPOCHS = (
    Subject(
        lambda: steps(first=Optimizer.zero_grad),
        True,
        "an epoch with zero_grad before backward",
        "Each step uses its own batch's gradient. Do both networks start alike (`copy.deepcopy`), see the same batches "
        "in the same order, and step at the same rate? And compare with `torch.allclose`.",
    ),
    Subject(
        steps,
        False,
        "an epoch without zero_grad",
        "Its first step is right; the second adds the first batch's gradient. Give it two batches at least.",
    ),
    Subject(
        lambda: steps(last=Optimizer.zero_grad),
        True,
        "an epoch with zero_grad after the step",
        "At the next backward the gradients are gone, which is all that counts.",
    ),
    Subject(
        lambda: steps(between=Optimizer.zero_grad),
        False,
        "an epoch with zero_grad between backward and step",
        "It steps with no gradient at all: the weights stay where they were. Compare with weights that moved.",
    ),
    Subject(
        lambda: steps(once=Optimizer.zero_grad),
        False,
        "an epoch that clears the gradients once",
        "Its first step is right; the second adds the first batch's gradient. Give it two batches at least.",
    ),
    Subject(
        lambda: steps(first=forget_by_hand),
        True,
        "an epoch that sets every gradient to None by hand",
        "It calls no `zero_grad`, and does the same. Compare weights, not calls.",
    ),
)
