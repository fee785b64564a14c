"""What an exercise's check says to a learner, for the tests of every group of checks."""

import contextlib
import io
from collections.abc import Callable
from typing import Any


def said(check: Callable[[Any], None], answer: Any) -> str:
    """The printed verdict of `check` on `answer`; a check returns nothing, so that a notebook shows only that."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert check(answer) is None
    return out.getvalue()
