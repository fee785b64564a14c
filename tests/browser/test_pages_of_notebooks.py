"""Each notebook with a live view, as JupyterLab shows it: the views run from a fresh kernel, the rest is as stored.

Strict nbval runs every cell. Here the page matters, so only the cells that make views run, and those that they rest on.
"""

import ast

import pytest
from lab_server import NOTEBOOKS

from resnet_lib import widgets

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb") if "resnet_lib.widgets" in path.read_text("utf-8"))
VIEWS = ", ".join(f".{kind} svg" for kind in ("gradient-flow-lab", "live-curve", "schedule-lab", "shortcut-lab"))


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell binds, and those that it reads."""
    bound, read = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            read.add(node.target.id)
    return bound, read


def cells_of_views(sources: list[str]) -> list[int]:
    """The numbers of the cells that make a view, and of those that bind what they read, and so on."""
    chosen, missing = [], set()
    for number, (bound, read) in reversed(list(enumerate(map(names, sources)))):
        if read & set(widgets.__all__) or bound & missing:
            chosen.insert(0, number)
            missing = missing - bound | read
    return chosen


def test_the_cells_that_a_view_rests_on_are_found():
    sources = ["import numpy as np", "a = np.ones(3)", "b = a", "a += 1", "from resnet_lib.widgets import ShortcutLab"]
    assert cells_of_views([*sources, "lab = ShortcutLab(a)", "c = lab"]) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_in_the_browser_what_it_makes(jupyterlab, name):
    page = jupyterlab.run(jupyterlab.copy(name, cells_of_views))
    try:
        errors = page.evaluate(
            "jupyterapp.shell.currentWidget.content.widgets.filter(({ model }) => model.type === 'code').flatMap("
            "  ({ model }) => model.outputs.toJSON().filter((output) => output.output_type === 'error')"
            "    .map((output) => `${output.ename}: ${output.evalue}`))"
        )
        assert errors == []
        page.wait_for_selector(VIEWS, state="attached")  # a moment after its cell is done
        text = page.evaluate("document.body.innerText")
        for failure in ("Error displaying widget", "model not found", "Javascript Error", "Failed to load model class"):
            assert failure not in text
        pictures = page.locator(".jp-OutputArea img")
        assert pictures.count() >= 1
        assert all(pictures.nth(i).evaluate("node => node.naturalWidth > 0") for i in range(pictures.count()))
    finally:
        page.close()
