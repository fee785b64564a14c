"""Exercises on speed: what a training costs, flips in turn, whitening, half precision, the ring."""

from collections.abc import Callable

import torch
from torch import Tensor

from resnet_lib.checks.verdicts import check_function, check_number


def cost_of_training(answer: object) -> None:
    """PFLOP of ResNet-20 for the README's 150 epochs of 50,000 images, at 242.4 MFLOP an image."""
    right = 150 * 50_000 * 242.4e6 / 1e15
    check_number(
        answer,
        right,
        "1.8 PFLOP: a fourteenth of the README's network, and still four times the fast recipe.",
        "a number of PFLOP",
        "section 1: operations an image, times images an epoch, times epochs; a PFLOP is 10¹⁵ of them",
        {
            right * 1e15: "That is in operations; the question is in PFLOP, 10¹⁵ operations.",
            right * 1e6: "That is in GFLOP, 10⁹ operations.",
            right * 1e3: "That is in TFLOP, 10¹² operations.",
            right / 150: "That is one epoch; the README trains for 150.",
            right * 3: "242.4 MFLOP is forward and backward already: no factor of three is missing.",
            right / 50_000: "That is 150 images: each epoch has 50,000.",
        },
        rel_tol=0.02,
    )


def flips_in_turn(function: object) -> None:
    """The reader's flips(first, epoch): which images are mirrored in this epoch, (N,) bool."""
    first = torch.tensor([True, False, False, True, True])

    def over_epochs(flips: Callable) -> Callable:
        """All of four epochs in one table, so that a slip shows whole."""

        def table(first: Tensor) -> object:
            rows = [flips(first.clone(), epoch) for epoch in range(4)]
            return torch.stack(rows) if all(isinstance(row, Tensor) for row in rows) else rows[0]

        return table

    slips = [
        (lambda first, epoch: first, "That is the same in every epoch: each image is seen one way round only."),
        (lambda first, epoch: first ^ (epoch % 2 == 0), "The wrong way round: epoch 0 is as `first` says."),
        (
            lambda first, epoch: first & (epoch % 2 == 1),
            "An image whose `first` is False is never mirrored: it must be in the odd epochs.",
        ),
        (
            lambda first, epoch: first | (epoch % 2 == 1),
            "An image whose `first` is True is mirrored in every epoch: it must not be in the odd ones.",
        ),
        (lambda first, epoch: ~first if epoch else first, "It turns once and stays so: epoch 2 is as epoch 0 again."),
        (lambda first, epoch: first ^ epoch, "Only whether the epoch is odd counts: `epoch % 2`."),
        (lambda first, epoch: torch.full_like(first, epoch % 2 == 1), "All images turn at once: `first` is not used."),
    ]
    check_function(
        function if function is ... else over_epochs(function),
        over_epochs(lambda first, epoch: first ^ (epoch % 2 == 1)),
        [(first,)],
        "section 5: in the first epoch as `first` says, in the next each the other way round",
        "Any two epochs in a row show every image both ways round.",
        [(over_epochs(slip), text) for slip, text in slips],
    )


def whitening(function: object) -> None:
    """The reader's whitening(patches): filters (d, d), a row each; their outputs have second moments I."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    patches = torch.randn(200, 5, generator=generator, dtype=torch.float64) @ mixed

    def moments_behind(filters_of: Callable) -> Callable:
        """Second moments of the outputs: what any right answer has in common. No matrix at all is shown as it is."""

        def moments(patches: Tensor) -> object:
            filters = filters_of(patches.clone())
            if not isinstance(filters, Tensor) or filters.shape != (5, 5):
                return filters
            outputs = patches @ filters.T
            return outputs.T @ outputs / len(outputs)

        return moments

    def parts(patches: Tensor) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(patches.T @ patches / len(patches))

    def scaled(power: float) -> Callable:
        return lambda patches: (parts(patches)[1] * parts(patches)[0] ** power).T

    slips = [
        (lambda patches: parts(patches)[1].T, "Uncorrelated, but each output is still as large as its direction."),
        (scaled(-1), "Divide by the root of the eigenvalue: it is a mean *square*."),
        (scaled(0.5), "The large directions became larger: divide by the root, do not multiply."),
        (
            lambda patches: scaled(-0.5)(patches).T,
            "Transpose it: `eigh` returns eigenvectors as columns, filters are rows.",
        ),
        (lambda patches: parts(patches)[1], "Those are columns, and they are not yet scaled."),
        (
            lambda patches: torch.linalg.cholesky(patches.T @ patches / len(patches)),
            "L makes C out of white numbers: L Lᵀ = C. The filters go the other way.",
        ),
        (
            lambda patches: torch.linalg.inv(torch.linalg.cholesky(patches.T @ patches / len(patches))).T,
            "Its transpose is asked for: the filters stand on the left, F C Fᵀ.",
        ),
        (
            lambda patches: torch.diag(patches.square().mean(0) ** -0.5),
            "Each input has mean square 1 now, but inputs that go together still do.",
        ),
        (
            lambda patches: scaled(-0.5)(patches) / len(patches) ** 0.5,
            "The mean over patches was taken twice, or a sum was taken for a mean.",
        ),
        (
            lambda patches: torch.linalg.inv(patches.T @ patches / len(patches)),
            "That is the inverse of the second moments. Two factors act, one on each side: its *root* is wanted.",
        ),
    ]
    check_function(
        function if function is ... else moments_behind(function),
        lambda patches: torch.eye(5, dtype=torch.float64),
        [(patches,)],
        "the outputs' second moments, `outputs.T @ outputs / len(outputs)`, are to be the identity (section 3)",
        "White: the outputs are uncorrelated and all of one size.",
        [(moments_behind(slip), text) for slip, text in slips],
    )


def loss_scale(answer: object) -> None:
    """The smallest power of two by which a gradient of 1e-8 must be multiplied so that float16 does not make it 0."""
    check_number(
        answer,
        4,
        "float16's smallest number is 2⁻²⁴ ≈ 6e-8, and 4e-8 is rounded to it; 2e-8, less than half of it, is not.",
        "a power of two",
        "what `(torch.tensor(1e-8) * scale).half()` gives for scale = 1, 2, 4 …",
        {
            1: "Unscaled it is 0: try `torch.tensor(1e-8).half()`.",
            2: "2e-8 is below half of float16's smallest number, and is rounded to 0.",
            3: "That would do, but it is not a power of two: only those change no other digit of a gradient.",
            8: "That works, and so does the power of two before it: what is above half of the smallest is rounded up.",
            2**13: "That makes it a *normal* float16, with its full precision. The question is when it is not 0.",
        },
    )


def ring_seconds(function: object) -> None:
    """The reader's ring(workers, message, latency, bandwidth): seconds of an all-reduce around a ring."""

    def ring(workers: int, message: float, latency: float, bandwidth: float) -> float:
        return 2 * (workers - 1) / workers * message / bandwidth + 2 * (workers - 1) * latency

    check_function(
        function,
        ring,
        [(2, 1e6, 1e-3, 1e9), (8, 4e6, 1e-5, 1e9), (1, 1e6, 1e-3, 1e9)],
        "section 10: 2 (P - 1) messages one after the other, each of a P-th of the bytes",
        "The bytes' part hardly grows with P, the latency's part grows with every worker.",
        [
            (
                lambda p, m, t, b: (p - 1) / p * m / b + (p - 1) * t,
                "That is one round; the ring goes round twice: once to add up, once to hand out the sums.",
            ),
            (
                lambda p, m, t, b: 2 * (p - 1) * m / b + 2 * (p - 1) * t,
                "Each message is a P-th of the bytes, not all of them.",
            ),
            (
                lambda p, m, t, b: 2 * (p - 1) / p * m * b + 2 * (p - 1) * t,
                "Bandwidth is bytes a second: divide by it.",
            ),
            (lambda p, m, t, b: 2 * (p - 1) / p * m / b, "Latency is missing: each of the messages waits for it."),
            (
                lambda p, m, t, b: 2 * (p - 1) / p * m / b + t,
                "Latency counts once for each of the 2 (P - 1) messages, since they go one after the other.",
            ),
            (
                lambda p, m, t, b: 2 * m / b + 2 * p * t,
                "With P workers there are P - 1 messages a round: alone there is nothing to send.",
            ),
        ],
    )
