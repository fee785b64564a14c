"""Each notebook with a live view runs from a fresh kernel in JupyterLab, top to bottom, and shows what it made.

Strict nbval runs all of them; here the page matters, so those without a view need not be run a second time.
"""

import pytest
from lab_server import NOTEBOOKS

NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb") if "resnet_lib.widgets" in path.read_text("utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_in_the_browser(jupyterlab, name):
    page = jupyterlab.run(jupyterlab.copy(name))
    try:
        errors = page.evaluate(
            "jupyterapp.shell.currentWidget.content.widgets.filter(({ model }) => model.type === 'code').flatMap("
            "  ({ model }) => model.outputs.toJSON().filter((output) => output.output_type === 'error')"
            "    .map((output) => `${output.ename}: ${output.evalue}`))"
        )
        assert errors == []
        # A widget's view arrives a moment after its cell is done.
        page.wait_for_function(
            "[...document.querySelectorAll('.jupyter-widgets-view')].every((node) => node.firstChild)"
        )
        text = page.evaluate("document.body.innerText")
        for failure in ("Error displaying widget", "model not found", "Javascript Error", "Failed to load model class"):
            assert failure not in text
        pictures = page.locator(".jp-OutputArea img")
        assert all(pictures.nth(i).evaluate("node => node.naturalWidth > 0") for i in range(pictures.count()))
    finally:
        page.close()
