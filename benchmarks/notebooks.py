"""Seconds and peak memory of notebooks, each from a fresh kernel: `python benchmarks/notebooks.py [NAME ...]`.

For Linux, which counts memory in kilobytes. The goals are those of the course's design: under 60 seconds and under
2 GB on two cores.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
PEAK = "import resource; resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"  # in kilobytes on Linux


def measure(path: Path) -> tuple[float, float]:
    """Seconds from the start of the kernel to the end of the last cell, and the kernel's peak memory in GB."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    start = time.perf_counter()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": NOTEBOOKS}}).execute()
    seconds = time.perf_counter() - start
    return seconds, int(notebook.cells[-1].outputs[0]["data"]["text/plain"]) * 1024 / 1e9


def main(names: list[str]) -> None:
    print("| notebook | seconds | peak memory, GB |\n| --- | --- | --- |")
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or path.stem in names:
            seconds, peak = measure(path)
            print(f"| {path.stem} | {seconds:.0f} | {peak:.1f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
