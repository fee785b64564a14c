"""JupyterLab in a folder of its own, and its notebooks in Chromium, for the tests and `benchmarks/lab_latency.py`."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parent.parent.parent / "notebooks"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Every cell in the page, also what is scrolled out of sight: a test looks at all of it.
LAB_SETTINGS = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": '{"windowingMode": "none"}',
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": (
        '{"fetchNews": "false", "checkForUpdates": false}'
    ),
}


def chromium_path() -> str | None:
    """Where Chromium or Chrome is, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


class JupyterLab:
    """A server in a folder of its own, and its notebooks in the browser."""

    def __init__(self, folder: Path, browser) -> None:
        self.browser = browser
        self.folder = folder / "notebooks"
        self.folder.mkdir()
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for name, text in LAB_SETTINGS.items():
            file = folder / "settings" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        own = {name: str(folder / name) for name in ("config", "data", "runtime", "settings", "workspaces", "ipython")}
        environment = os.environ | {
            "JUPYTER_CONFIG_DIR": own["config"],
            "JUPYTER_DATA_DIR": own["data"],
            "JUPYTER_RUNTIME_DIR": own["runtime"],
            "JUPYTERLAB_SETTINGS_DIR": own["settings"],
            "JUPYTERLAB_WORKSPACES_DIR": own["workspaces"],
            "IPYTHONDIR": own["ipython"],
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1"]
        command += [
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={self.folder}",
        ]
        command += [f"--IdentityProvider.token={self.token}", "--LabApp.expose_app_in_browser=True"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        self.log = folder / "jupyterlab.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def wait(self, seconds: float = 60) -> None:
        """Return when the server answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/status?token={self.token}", timeout=5).close()
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.2)
            else:
                return
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def write(self, name: str, *cells: str) -> str:
        """A notebook of these code cells; returns its name."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, self.folder / name)
        return name

    def copy(self, name: str, choose: Callable[[list[str]], list[int]]) -> str:
        """A notebook of the course; `choose` says which of its code cells, given all their sources, are to run again.

        Those are without their outputs, so that what the page shows of them was made now; the rest is as stored.
        """
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for number in choose([cell.source for cell in code]):
            code[number].outputs, code[number].execution_count = [], None
        nbformat.write(notebook, self.folder / name)
        return name

    def open(self, name: str, width: int = 1280):
        """The notebook in a page of its own, its kernel idle."""
        page = self.browser.new_page(viewport={"width": width, "height": 1000})
        page.goto(f"http://127.0.0.1:{self.port}/doc/tree/{name}?token={self.token}")
        page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60_000
        )
        return page

    def run(self, name: str, width: int = 1280):
        """The same, after all cells without an execution count have run, or the first of them that fails."""
        page = self.open(name, width)
        page.evaluate(
            """() => {
              const { content } = jupyterapp.shell.currentWidget;
              const isNew = ({ model }) => model.type === "code" && !model.executionCount;
              content.activeCellIndex = content.widgets.findIndex(isNew);
              content.deselectAll();
              content.widgets.filter(isNew).forEach((cell) => content.select(cell));
              jupyterapp.commands.execute("notebook:run-cell");
            }"""
        )
        page.wait_for_function(
            """() => {
              const { content, sessionContext } = jupyterapp.shell.currentWidget;
              if (sessionContext.session.kernel.status !== "idle") return false;
              const cells = content.widgets.map(({ model }) => model);
              const codes = cells.filter((cell) => cell.type === "code" && cell.sharedModel.source.trim());
              const failed = (cell) => cell.outputs.toJSON().some((output) => output.output_type === "error");
              return codes.every((cell) => cell.executionCount) || codes.some(failed);
            }""",
            timeout=300_000,
        )
        return page
