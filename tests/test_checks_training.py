"""The checks on training: what learners really answer gets a diagnosis of its own, and right answers pass."""

import pytest
import torch
from check_output import said

from resnet_lib.checks import training as check


def sgd(w, v, g, lr, mu, wd):
    """Section 1's step, with the decay in the velocity."""
    v = mu * v + g + wd * w
    return w - lr * v, v


def decoupled(w, v, g, lr, mu, wd):
    w = w * (1 - lr * wd)
    v = mu * v + g
    return w - lr * v, v


def in_place(weight, velocity, gradient, lr, momentum, weight_decay):
    velocity.mul_(momentum).add_(gradient)
    return weight.mul_(1 - lr * weight_decay).sub_(velocity, alpha=lr), velocity


def by_torch(weight, velocity, gradient, lr, momentum, weight_decay):
    """An independent witness: torch's SGD without decay, on a weight that was shrunk as torch's AdamW does it."""
    parameter = torch.nn.Parameter(weight.mul(1 - lr * weight_decay))
    parameter.grad = gradient
    optimizer = torch.optim.SGD([parameter], lr=lr, momentum=momentum)
    optimizer.state[parameter]["momentum_buffer"] = velocity
    optimizer.step()
    return parameter.detach(), velocity


@pytest.mark.parametrize("function", [decoupled, in_place, by_torch, lambda *a: list(decoupled(*a))])
def test_right_steps_pass_in_any_usual_form(function):
    assert said(check.decoupled_step, function).startswith("✓")


WRONG_STEPS = [
    (sgd, "That is section 1's step"),
    (lambda w, v, g, lr, mu, wd: (w * (1 - lr * wd) - lr * (mu * v + g + wd * w), mu * v + g + wd * w), "acts twice"),
    (lambda w, v, g, lr, mu, wd: sgd(w, v, g, lr, mu, 0), "Weight decay is missing"),
    (lambda w, v, g, lr, mu, wd: (w * (1 - wd) - lr * (mu * v + g), mu * v + g), "whatever the rate"),
    (
        lambda w, v, g, lr, mu, wd: ((1 - lr * wd) * sgd(w, v, g, lr, mu, 0)[0], sgd(w, v, g, lr, mu, 0)[1]),
        "moved first and shrunk then",
    ),
    (lambda w, v, g, lr, mu, wd: decoupled(w, v, g, lr, mu, -wd), "grows by its share"),
    (lambda w, v, g, lr, mu, wd: (w * (1 - lr * wd) + lr * (mu * v + g), mu * v + g), "against the velocity"),
    (lambda w, v, g, lr, mu, wd: decoupled(w, 0 * v, g, lr, mu, wd), "Momentum is missing"),
    (lambda w, v, g, lr, mu, wd: decoupled(w, v, lr * g, 1, mu, lr * wd), "The rate went into"),
    (lambda w, v, g, lr, mu, wd: decoupled(w, v, (1 - mu) * g, lr, mu, wd), "as in Adam"),
    (lambda w, v, g, lr, mu, wd: decoupled(w, v, g, 1, mu, lr * wd), "learning rate is missing"),
    (lambda w, v, g, lr, mu, wd: (w * (1 - lr * wd) - lr * v, mu * v + g), "old velocity"),
    (lambda *a: decoupled(*a)[0], "Return both"),
    (lambda *a: decoupled(*a)[::-1], "other order"),
    (lambda w, v, g, lr, mu, wd: (w, v), "None of the usual slips"),
    (lambda w, v, g, lr, mu, wd: None, "is a `return` missing"),
    (lambda w, v, g, lr, mu, wd: w.nonsense, "raised an error"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_STEPS)
def test_wrong_steps_get_their_own_diagnosis(function, diagnosis):
    text = said(check.decoupled_step, function)
    assert text.startswith("✗")
    assert diagnosis in text


def test_what_the_rest_of_the_run_reads_is_a_right_checkpoint():
    needed = ["velocity", "epoch number", "weights", "batch-norm statistics"]
    assert said(check.needed_to_resume, needed).startswith("✓ Right. What the rest of the run reads")


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        ({"weights", "batch-norm statistics", "epoch number"}, "lacks “velocity”"),
        ({"weights", "velocity", "epoch number"}, "no parameters"),
        (set(check.STATE_CHOICES), "Each step computes its own gradients"),
        ({"weights", "velocity", "batch-norm statistics"}, "The rate and the batches follow from it"),
        ("weights", "Put it in braces"),
        ({"weights", "optimizer"}, "not among these"),
        (7, "Put it in braces"),
        ([["weights"]], "not among these"),
    ],
)
def test_wrong_checkpoints_get_their_own_diagnosis(answer, diagnosis):
    text = said(check.needed_to_resume, answer)
    assert text.startswith("✗")
    assert diagnosis in text
