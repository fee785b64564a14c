"""Tests that the reader wrote, tested: they have to pass what is sound and find what is faulty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet_lib.checks.verdicts import say_not_yet, say_right, say_wrong

SURVIVE = "A test has to survive what it finds: catch the error, and return False."


@dataclass(frozen=True)
class Subject:
    """Something to be judged: how to make it, whether it is sound, what it is, and what to tell who misjudges it."""

    make: Callable[[], object]
    sound: bool
    name: str
    hint: str


def check_test(function: object, subjects: Sequence[Subject], arguments: tuple, what: str, look: str) -> None:
    """Judge a reader's test: function(subject, *arguments) must be True for what is sound, False for what is faulty.

    Every subject is made afresh for the test, which may change it. The first one misjudged decides what is told.
    """
    if function is ...:
        say_not_yet()
        return
    verdicts = []
    for subject in subjects:
        try:
            verdict = function(subject.make(), *arguments)
        except Exception as error:  # whatever the reader's code raised is shown, not passed on
            why = "Here nothing is wrong, so the error is your test's own." if subject.sound else SURVIVE
            say_wrong(f"{subject.sound} for {subject.name}", f"{type(error).__name__}: {error}", why, look)
            return
        if verdict is ...:
            say_not_yet()
            return
        if not is_truth_value(verdict):
            given = f"{repr(verdict)[:60]}, of type {type(verdict).__name__}"
            why = "Is a `return` missing?" if verdict is None else "A test answers with one truth value."
            say_wrong("True or False", given, why, look)
            return
        verdicts.append(bool(verdict))
    _say_how_it_judged(subjects, verdicts, what, look)


def is_truth_value(verdict: object) -> bool:
    """Whether it is a single True or False, as Python, NumPy or torch has it."""
    is_tensor = isinstance(verdict, Tensor) and verdict.numel() == 1 and verdict.dtype == torch.bool
    return is_tensor or isinstance(verdict, bool | np.bool_)


def _say_how_it_judged(subjects: Sequence[Subject], verdicts: list[bool], what: str, look: str) -> None:
    wrong = [subject for subject, verdict in zip(subjects, verdicts, strict=True) if verdict != subject.sound]
    if not wrong:
        say_right(what)
        return
    first = wrong[0]
    why = first.hint
    if all(verdicts):
        why = f"It passes everything, and a test that cannot fail tests nothing. {why}"
    elif not any(verdicts):
        why = f"It passes nothing, not even what is sound. {why}"
    say_wrong(f"{first.sound} for {first.name}", str(not first.sound), why, look)
