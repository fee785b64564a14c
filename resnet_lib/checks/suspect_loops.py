"""Sound and faulty evaluations and training loops, for the tests of notebook 09 to judge.

Each list goes from what any test sees to what only a careful one does.
"""

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from resnet_lib.checks.judging import Subject
from resnet_lib.faults import Batches, evaluate, fit, fit_best

# --- 8: evaluations, from a network, images, labels and a batch size


def counts(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> tuple[list[int], list[int]]:
    """How many are right in each batch, and how many there are."""
    network.eval()
    with torch.no_grad():
        rights = [network(part).argmax(dim=1) == label for part, label in split(images, labels, batch_size)]
    return [int(right.sum()) for right in rights], [len(right) for right in rights]


def split(images: Tensor, labels: Tensor, batch_size: int) -> Iterable[tuple[Tensor, Tensor]]:
    return zip(images.split(batch_size), labels.split(batch_size), strict=True)


def by_counting(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    return sum(counts(network, images, labels, batch_size)[0]) / len(labels)


def by_weights(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    rights, sizes = map(torch.tensor, counts(network, images, labels, batch_size))
    return (rights / sizes * (sizes / len(labels))).sum()


def by_full_batches(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    rights, _ = counts(network, images, labels, batch_size)
    return sum(rights) / (len(rights) * batch_size)


def without_the_rest(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    whole = len(labels) // batch_size * batch_size
    return by_counting(network, images[:whole], labels[:whole], batch_size) if whole else 0.0


EVALUATIONS = (
    Subject(
        lambda: by_counting,
        True,
        "an evaluation that counts right images",
        "It is right for every batch size. Compare with `math.isclose`, and check your expected accuracy by hand.",
    ),
    Subject(
        lambda: evaluate,
        False,
        "the evaluation above",
        "With batches of equal size its mean of means is right. Choose sizes that leave a smaller batch at the end, "
        "one whose accuracy differs from the others'.",
    ),
    Subject(
        lambda: by_weights,
        True,
        "an evaluation that weights each batch by its size",
        "It returns a tensor, and rounds in the last digits. Compare with `math.isclose(..., rel_tol=1e-4)`.",
    ),
    Subject(
        lambda: without_the_rest,
        False,
        "an evaluation that leaves the smaller last batch out",
        "It is off where images are left over and their accuracy differs. Try several batch sizes.",
    ),
    Subject(
        lambda: by_full_batches,
        False,
        "an evaluation that counts every batch as a full one",
        "It is off where images are left over. Try several batch sizes.",
    ),
)

# --- 9 and 10: training loops


def epoch_of(network: nn.Module, batches: Batches, optimizer: Optimizer) -> float:
    total = 0.0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


def nothing(_network: nn.Module) -> None:
    pass


def loop(before: Callable[[nn.Module], object], after: Callable[[nn.Module], object] = nothing) -> Callable:
    """A function like `fit` that does this to the network before each epoch, and that after each test."""

    def fit(network: nn.Module, batches: Batches, epochs: int, test: Callable[[nn.Module], object]) -> list[float]:
        optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9)
        losses = []
        for _ in range(epochs):
            before(network)
            losses.append(epoch_of(network, batches, optimizer))
            test(network)
            after(network)
        return losses

    return fit


def tests_a_copy(network: nn.Module, batches: Batches, epochs: int, test: Callable[[nn.Module], object]) -> list[float]:
    network.train()
    return loop(nothing)(network, batches, epochs, lambda trained: test(copy.deepcopy(trained)))


def outermost_only(network: nn.Module) -> None:
    network.training = True


LOOPS = (
    Subject(
        lambda: loop(nn.Module.train),
        True,
        "a loop with `network.train()` before each epoch",
        "Here every step of training is in training mode. Your `test` may switch to evaluation, and what runs inside "
        "it does not count.",
    ),
    Subject(
        lambda: fit,
        False,
        "the loop above",
        "Its first epoch is right. Train for two, with a `test` that calls `network.eval()`, and record the mode of "
        "each step.",
    ),
    Subject(
        lambda: tests_a_copy,
        True,
        "a loop that tests a copy",
        "It calls `train()` once, and nothing ever changes its network's mode. Record modes, not calls.",
    ),
    Subject(
        lambda: loop(nothing, after=nn.Module.train),
        False,
        "a loop that calls `train()` after each test, and not before the first epoch",
        "It relies on a network in training mode. Hand it one that was just evaluated: call `network.eval()` first.",
    ),
    Subject(
        lambda: loop(outermost_only),
        False,
        "a loop that sets `network.training = True`",
        "That is the flag of the outermost module; batch norm, inside, has a flag of its own. Watch an inner layer.",
    ),
)


def keeper(keep: Callable[[nn.Module], Mapping[str, Tensor]]) -> Callable:
    """A function like `fit_best` that keeps the best weights in this way."""

    def fit_best(network: nn.Module, batches: Batches, epochs: int, score: Callable[[nn.Module], float]) -> float:
        optimizer = SGD(network.parameters(), lr=0.1)
        best = float("-inf")
        for _ in range(epochs):
            network.train()
            epoch_of(network, batches, optimizer)
            now = score(network)
            if now > best:
                best, weights = now, keep(network)
        network.load_state_dict(weights, strict=False)
        return best

    return fit_best


def cloned(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def parameters_only(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


KEEPERS = (
    Subject(
        lambda: keeper(lambda network: copy.deepcopy(network.state_dict())),
        True,
        "a loop that keeps a deep copy",
        "It ends with the weights of the best epoch. Which of your scores is the highest, and are the weights that you "
        "compare with from that call of `score`?",
    ),
    Subject(
        lambda: fit_best,
        False,
        "the loop above",
        "It reports the best score, and ends with the last weights. Let an epoch before the last one be the best. And "
        "keep copies (`copy.deepcopy`): otherwise your own record has the fault that it looks for.",
    ),
    Subject(
        lambda: keeper(cloned),
        True,
        "a loop that clones every tensor",
        "It ends with the weights of the best epoch, exactly.",
    ),
    Subject(
        lambda: keeper(lambda network: dict(network.state_dict())),
        False,
        "a loop that copies the dictionary",
        "Its dictionary is a new one, and the tensors in it are the network's. Compare their values after training on.",
    ),
    Subject(
        lambda: keeper(parameters_only),
        False,
        "a loop that keeps the parameters and not the buffers",
        "It ends with the best epoch's weights and the last one's batch-norm statistics. Take a network with batch "
        "norm, and compare all of `state_dict()`.",
    ),
)
