"""Fixtures that several test files share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Quicker than two where other processes keep the cores busy, and the same sums every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def subnormal_floats() -> None:
    """Training flushes them to 0 in the whole process, after which hypothesis refuses to draw any floats."""
    torch.set_flush_denormal(False)
