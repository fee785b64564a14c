"""Exercises on vanishing and exploding gradients."""

import torch
from torch import Tensor

from resnet_lib.checks.verdicts import check_function, check_number


def largest_sigmoid_factor(answer: object) -> None:
    """The most that ten sigmoid layers of weight 1 can let through: (1/4)^10."""
    check_number(
        answer,
        0.25**10,
        "Each layer multiplies by σ' ≤ 1/4, so ten let through at most one part in a million.",
        "a factor",
        "the largest value of σ'(z) = σ(z)(1 − σ(z)), and how ten factors combine",
        {
            0.5**10: "1/2 is σ at 0. The chain rule multiplies derivatives, and σ' at 0 is 1/4.",
            2.5: "The layers stand one behind the other: their factors multiply, they do not add up.",
            0.025: "That divides once by ten. Ten layers multiply ten times.",
            0.25: "That is one layer. There are ten.",
            1.0: "That would be a chain of layers with slope 1, such as ReLU where it is open.",
        },
        rel_tol=0.06,  # "one in a million" is right too
    )


def xavier_relu_variance(answer: object) -> None:
    """By what factor 20 ReLU layers with Xavier's weights change the signal's mean square: (1/2)^20."""
    check_number(
        answer,
        0.5**20,
        "Xavier's weights keep the mean square, and each ReLU then throws away half of it: 2⁻²⁰, a millionth.",
        "a factor",
        "what ReLU does to a signal that is as often negative as positive",
        {
            0.5**10: "That is the factor of the signal's size, the square root. The question is about its mean square.",
            2.0**-19: "Every one of the 20 layers halves it.",
            1.0: "Xavier's weights alone would keep it; but ReLU sets the negative half to 0.",
            2.0**20: "It shrinks: after each layer half of the mean square is gone.",
            0.25**20: "1/4 is the sigmoid's bound on a derivative. ReLU keeps half of the mean square.",
            10.0: "Factors multiply.",
        },
        rel_tol=0.06,
    )


def weights_that_moved(answer: object) -> None:
    """How many weights of 0.1 move in 100,000 steps of 10⁻¹² each, in float32: none."""
    check_number(
        answer,
        0,
        "Next to 0.1, float32 has steps of 7·10⁻⁹. Each sum rounds back to where it was, a hundred thousand times.",
        "a count of weights, out of 100",
        "the last paragraph of section 3: what does float32 do with 0.1 + 10⁻¹²?",
        {
            100: "With exact numbers all would move, by 10⁻⁷. But each sum is rounded before the next step is added.",
            50: "Rounding is not a coin toss: 10⁻¹² is far less than half of float32's step, so it always rounds back.",
            100_000: "That is the number of steps.",
        },
    )


def chain_derivative(function: object) -> None:
    """The reader's chain_derivative(x, weights): the slope of x → σ(wₙ ⋯ σ(w₂ σ(w₁ x)))."""

    def slope(x: Tensor, weights: Tensor, factor: str = "right") -> Tensor:
        value, product = x.double(), torch.ones((), dtype=torch.float64)
        for weight in weights.double():
            value = torch.sigmoid(weight * value)
            local = value if factor == "value" else value * (1 - value)
            product = product * (local if factor == "no weight" else weight * local)
        return product

    def at_the_start(x: Tensor, weights: Tensor) -> Tensor:
        first = torch.sigmoid(weights[0] * x)
        return (weights * first * (1 - first)).double().prod()

    def added_up(x: Tensor, weights: Tensor) -> Tensor:
        value, total = x.double(), torch.zeros((), dtype=torch.float64)
        for weight in weights.double():
            value = torch.sigmoid(weight * value)
            total = total + weight * value * (1 - value)
        return total

    def last_factor(x: Tensor, weights: Tensor) -> Tensor:
        value = value_of_chain(x, weights)
        return weights[-1].double() * value * (1 - value)

    def twice(x: Tensor, weights: Tensor) -> Tensor:
        """σ of the value that already went through σ."""
        product = torch.ones((), dtype=torch.float64)
        for weight in weights.double():
            x = torch.sigmoid(weight * x)
            product = product * weight * torch.sigmoid(x) * (1 - torch.sigmoid(x))
        return product

    def one_late(x: Tensor, weights: Tensor) -> Tensor:
        """Each factor taken from the value that goes into the layer."""
        product = torch.ones((), dtype=torch.float64)
        for weight in weights.double():
            product = product * weight * x * (1 - x)
            x = torch.sigmoid(weight * x)
        return product

    def value_of_chain(x: Tensor, weights: Tensor) -> Tensor:
        value = x.double()
        for weight in weights.double():
            value = torch.sigmoid(weight * value)
        return value

    check_function(
        function,
        slope,
        [
            (torch.tensor(0.5), torch.tensor([1.0, 2.0, -1.5])),
            (torch.tensor(-1.0), torch.tensor([3.0, 0.5])),
        ],
        "the loop of section 1: which number does each σ' get?",
        "One factor w · σ'(z) a layer, each at its own layer's z, all multiplied.",
        [
            (lambda x, w: slope(x, w, "no weight"), "The weights are missing: the slope of σ(w·x) is w · σ'(w·x)."),
            (lambda x, w: slope(x, w, "value"), "That multiplies by σ where σ' = σ · (1 − σ) belongs."),
            (at_the_start, "Every layer's σ' is taken at the first layer's input; each has an input of its own."),
            (added_up, "The factors of a chain multiply; here they are added up."),
            (value_of_chain, "That is the chain's value, not its slope."),
            (last_factor, "That is the last layer's factor alone; the chain has one for every layer."),
            (twice, "σ is applied twice: `x` went through it already, so its slope is x · (1 − x)."),
            (one_late, "x · (1 − x) is the slope when x has come *out* of the layer; here it is still on its way in."),
        ],
    )
