"""Exercises on shortcuts: products of derivatives, what stands on the identity path, Jacobians."""

import torch
from torch import Tensor

from resnet_lib.checks.verdicts import check_choices, check_function, check_number


def product_of_blocks(answer: object) -> None:
    """The derivative of a chain of 27 blocks x + F(x) of one number, where every F' is 0.1."""
    check_number(
        answer,
        1.1**27,
        "27 factors of 1.1 make about 13: the 1 is kept in each factor, not in the product.",
        "the product of 27 derivatives",
        "the chain rule: one factor for each block, and what is each factor?",
        {
            1: "The 1 stands in every factor, but next to F', so each factor is 1.1. "
            "Added once, at the end of the chain, it would leave 1.",
            0.1**27: "That is the chain without shortcuts: its factors are F' alone.",
            1.1: "That is one block. The chain rule multiplies one such factor for each of 27 blocks.",
            1 + 27 * 0.1: "That adds up the branches. It is the product's beginning, where a path goes through one "
            "branch at most; the paths through several are missing.",
            27 * 0.1: "That adds up the branches and leaves out the 1 of every shortcut. The chain rule multiplies.",
            27 * 1.1: "The chain rule multiplies derivatives; it does not add them up.",
            1.1**26: "That is 26 blocks. There are 27, so 27 factors.",
            9.5125: "That is section 1's chain of a · sin x, where F' falls as x grows. Here it is 0.1 in every block.",
            0.9**27: "That is for F' = −0.1. Here each block adds 0.1 to the 1.",
            1.1**54: "There is one factor a block, not one a layer: 27.",
        },
        rel_tol=1e-2,
    )


def smallest_scale(answer: object) -> None:
    """The scale λ on each of 54 shortcuts that leaves half of the gradient."""
    diagnoses = {
        0.5: "Then half is left after one block. The factor applies 54 times.",
        0.5**54: "That is what λ = 0.5 leaves after 54 blocks. Here what is left is given, and λ is asked.",
        1 - 0.5 / 54: "That shares the loss out by adding: 54 times 0.93%. The factors are multiplied.",
        0.5 / 54: "Dividing by the blocks treats a product as a sum.",
        0.5 ** (1 / 110): "110 is the number of layers. A shortcut goes around two of them: 54 blocks.",
        0.5 ** (1 / 108): "There is one shortcut a block, not one a convolution: 54.",
        0.5 ** (1 / 27): "That is for 27 blocks, ResNet-56. ResNet-110 has 54.",
        0.9: "0.9 to the power of 54 is 0.003: next to nothing is left.",
    }
    if isinstance(answer, float) and 0 < answer < 1:
        diagnoses.setdefault(answer, f"{answer:.4f} to the power of 54 is {answer**54:.3g}. It should be 0.5.")
    check_number(
        answer,
        0.5 ** (1 / 54),
        "Even 1.3% off at each block costs half of the gradient over 54 blocks.",
        "a scale λ between 0 and 1",
        "λ to the power of the number of blocks: what is it to be?",
        diagnoses,
        rel_tol=2e-4,
    )


def relu_block_jacobian(function: object) -> None:
    """The reader's relu_block_jacobian(J_F, z): the Jacobian of ReLU(x + F(x)), where z = x + F(x)."""

    def reference(branch: Tensor, z: Tensor) -> Tensor:
        return (z > 0)[:, None] * (torch.eye(len(z)) + branch)

    generator = torch.Generator().manual_seed(0)
    branch = torch.randn(5, 5, generator=generator)
    z = torch.tensor([0.7, -1.2, 0.4, -0.3, 2.0])
    check_function(
        function,
        reference,
        [(branch, z), (branch[:3, :3], -z[:3])],
        "the third table in section 2: what has the ReLU done to it?",
        "A closed ReLU takes the whole row of its output, the 1 on the diagonal included.",
        [
            (
                lambda j, z: torch.eye(len(z)) + j,
                "That is the Jacobian in front of the ReLU. Where the ReLU is closed, the output does not move.",
            ),
            (
                lambda j, z: torch.eye(len(z)) + (z > 0)[:, None] * j,
                "You put the ReLU on the branch alone. It stands after the addition, so it cuts the shortcut's 1 too.",
            ),
            (
                lambda j, z: (z > 0) * (torch.eye(len(z)) + j),
                "That erases columns, which belong to inputs. A ReLU closes an output, which is a row: `[:, None]`.",
            ),
            (
                lambda j, z: (z > 0)[:, None] * (1 + j),
                "That adds 1 to every entry. The shortcut adds the identity matrix: ones on the diagonal only.",
            ),
            (
                lambda j, z: (z > 0)[:, None] * j,
                "That is a plain block: the shortcut's identity matrix is missing.",
            ),
            (
                lambda j, z: z.relu()[:, None] * (torch.eye(len(z)) + j),
                "That multiplies by the ReLU's value. The chain rule takes its slope, which is 1 where z > 0.",
            ),
            (
                lambda j, z: (torch.eye(len(z)) + j).relu(),
                "That puts the Jacobian itself through the ReLU. Whether a ReLU is open depends on z.",
            ),
            (
                lambda j, z: torch.eye(len(z)) + j.relu(),
                "That puts the branch's Jacobian through the ReLU. Whether a ReLU is open depends on z.",
            ),
        ],
    )


PATH_CHOICES = {
    "ReLU in the branch": "What is in the branch changes J_F; the shortcut goes around it.",
    "batch norm in the branch": "What is in the branch changes J_F; the shortcut goes around it.",
    "γ = 0 in the branch": "It makes J_F zero, and the identity is all that is left.",
    "ReLU after the addition": "It multiplies the sum's Jacobian by 0 where it is closed: there the 1 is gone.",
    "batch norm after the addition": "It divides the sum by a deviation in every block: the 1 is multiplied.",
    "projection on the shortcut": "A 1×1 convolution with weights W puts W in the place of I.",
    "dropout on the shortcut": "It multiplies every element of the shortcut by 0 or by 2: the 1 is not left as it was.",
}


def clear_path(answer: object) -> None:
    """Which of PATH_CHOICES leave the identity path's part of the Jacobian exactly I."""
    check_choices(
        answer,
        PATH_CHOICES,
        [name for name in PATH_CHOICES if name.endswith("in the branch")],
        "what leaves the identity path alone, all of it",
        "where each one stands: in the branch, or where the shortcut's signal must pass too?",
        "What is in the branch changes J_F only; what stands on the path multiplies the 1.",
    )
