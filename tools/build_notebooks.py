"""Make the notebooks from their text twins: `python tools/build_notebooks.py [NAME ...]`.

Each `notebooks/source/NAME.py` (jupytext, py:percent) is executed from a fresh kernel in `notebooks/`, and the result,
outputs and all, is written to `notebooks/NAME.ipynb`. An error in a cell stops the build and changes nothing.
"""

import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def notebook_from_twin(source: Path) -> nbformat.NotebookNode:
    """The notebook that a text twin describes, not yet executed; cell ids count from the top."""
    notebook = jupytext.read(source)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook.nbformat_minor = 5
    for number, cell in enumerate(notebook.cells):
        # Only what says something is kept, so that a rebuilt notebook differs only where it changed.
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        cell["id"] = f"cell-{number:02d}"
    return notebook


def build(source: Path) -> None:
    """Execute one twin and write its notebook."""
    notebook = notebook_from_twin(source)
    start = time.perf_counter()
    # Widget state is not stored: it goes stale, and GitHub refuses to show a notebook that has it.
    client = NotebookClient(
        notebook,
        timeout=600,
        resources={"metadata": {"path": NOTEBOOKS}},
        record_timing=False,
        store_widget_state=False,
    )
    client.execute()
    nbformat.write(notebook, NOTEBOOKS / f"{source.stem}.ipynb")
    print(f"{source.stem}: {time.perf_counter() - start:.0f} s")


def main(names: list[str]) -> None:
    sources = sorted((NOTEBOOKS / "source").glob("*.py"))
    unknown = set(names) - {source.stem for source in sources}
    if unknown:
        sys.exit(f"No such notebook in notebooks/source: {', '.join(sorted(unknown))}")
    for source in sources:
        if not names or source.stem in names:
            build(source)


if __name__ == "__main__":
    main(sys.argv[1:])
