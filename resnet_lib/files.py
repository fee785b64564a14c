"""Files that are written whole or not at all."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pandas as pd


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes `path`'s place when the block ends without an error, and leaves no trace otherwise.

    A process killed in between leaves `path` as it was, and perhaps a `*.partial` file beside it.
    """
    # A name of its own for each writer: two at once must not write into the file that one of them puts in place.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    file = partial.open("xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_csv(path: Path, table: pd.DataFrame, digits: int = 6) -> None:
    """Write a table whole or not at all, its numbers to so many significant digits; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        table.to_csv(file, index=False, float_format=f"%.{digits}g")


def write_json(path: Path, content: object) -> None:
    """Write it whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
