"""The verdicts that all checks share: right, not quite (with the likely reason), not yet."""

import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Diagnoses = Mapping[Any, str]


def say_not_yet() -> None:
    print("◦ Not yet: put your answer in place of the three dots, and run the cell again.")


def say_right(what: str) -> None:
    print(f"✓ Right. {what}")


def say_wrong(expected: str, given: str, why: str, look: str) -> None:
    end = "" if look.endswith("?") else "."
    print(f"✗ Not quite. Expected: {expected}. Yours: {given}.\n  {why}\n  Look again at: {look}{end}")


def check_number(
    answer: object, right: float, what: str, expected: str, look: str, diagnoses: Diagnoses, rel_tol: float = 1e-6
) -> None:
    """Compare a number; `diagnoses` goes from wrong answers that people give to what lies behind them.

    `expected` says what kind of number it is, and does not give it away.
    """
    if answer is ...:
        say_not_yet()
        return
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    if isinstance(answer, bool) or not isinstance(answer, numbers.Real):
        say_wrong(expected, f"{answer!r}, of type {type(answer).__name__}", "That is not a number.", look)
        return
    if math.isclose(answer, right, rel_tol=rel_tol):
        say_right(what)
        return
    known = [text for wrong, text in diagnoses.items() if math.isclose(answer, wrong, rel_tol=rel_tol)]
    if math.isnan(answer):
        known = ["NaN is what 0 / 0 or ∞ - ∞ gives: find the step where it arises."]
    size = "too large" if answer > right else "too small"
    say_wrong(expected, f"{answer:g}", known[0] if known else f"It is {size}.", look)


def check_choices(
    answer: object, reasons: Diagnoses, right: Collection[str], expected: str, look: str, what: str
) -> None:
    """Compare a set of choices with `right`; `reasons` has all there are, and why each belongs to it or does not."""
    if answer is ...:
        say_not_yet()
        return
    choices = f"a set of some of: {', '.join(reasons)}"
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        say_wrong(choices, repr(answer), f'Put it in braces: {{"{next(iter(reasons))}", …}}.', look)
        return
    answer = list(answer)
    if any(name not in list(reasons) for name in answer):  # a list, since what has no hash may stand in it
        say_wrong(choices, repr(answer), "At least one of yours is not among these.", look)
        return
    for name, reason in reasons.items():
        if (name in answer) != (name in right):
            say_wrong(expected, f"{'has' if name in answer else 'lacks'} “{name}”", reason, look)
            return
    say_right(what)


def check_function(
    function: object,
    reference: Callable,
    cases: Iterable[tuple],
    look: str,
    what: str,
    wrong: Sequence[tuple[Callable, str]],
) -> None:
    """Compare a function with `reference` on `cases`; `wrong` pairs a function that has a misconception with its name.

    Cases hold tensors and numbers, and functions return a tensor or a number. They get copies, so a function that
    changes what it was given is told by its result alone.
    """
    if function is ...:
        say_not_yet()
        return
    for case in cases:
        expected = call_on_copies(reference, case)
        try:
            given = call_on_copies(function, case)
        except Exception as error:  # whatever the reader's code raised is shown, not passed on
            say_wrong("a result", f"{type(error).__name__}: {error}", "Your function raised an error.", look)
            return
        if given is ...:
            say_not_yet()
            return
        if given is None:
            say_wrong("a result", "None", "Your function gives nothing back: is a `return` missing?", look)
            return
        if _same(given, expected):
            continue
        known = [why for mistaken, why in wrong if _same(given, call_on_copies(mistaken, case))]
        why = known[0] if known else "None of the usual slips gives this; go through it with the smallest example."
        say_wrong(_short(expected), _short(given), why, look)
        return
    say_right(what)


def call_on_copies(function: Callable, case: tuple) -> object:
    """Whatever the function does to its arguments, the case stays as it is."""
    return function(*(value.clone() if isinstance(value, Tensor) else value for value in case))


def _same(given: object, expected: object) -> bool:
    try:
        given, expected = torch.as_tensor(given).double(), torch.as_tensor(expected).double()
    except (TypeError, ValueError, RuntimeError):
        return False
    return given.shape == expected.shape and torch.allclose(given, expected, rtol=1e-5, atol=1e-7)


def _short(value: object) -> str:
    try:
        numbers = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return repr(value)[:80]
    if numbers.numel() == 1 and numbers.dim() == 0:
        return f"{numbers.item():.4g}"
    first = ", ".join(f"{number:.4g}" for number in numbers.flatten()[:4].tolist())
    dots = ", …" if numbers.numel() > 4 else ""
    return f"a tensor of shape {tuple(numbers.shape)} with {first}{dots}"
