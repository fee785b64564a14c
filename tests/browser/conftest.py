"""Chromium and JupyterLab for the tests in this folder."""

import os
from collections.abc import Iterator

import pytest
from lab_server import CHROMIUM_FLAGS, CHROMIUM_NAMES, JupyterLab, chromium_path


def unavailable(reason: str) -> None:
    """Skip, for a person without a browser; fail in CI, where a skip would pass for a success."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} With CI set, browser tests never skip.")
    pytest.skip(f"{reason} The notebooks were not tried in a browser.")


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium, driven by Playwright."""
    path = chromium_path()
    if path is None:
        unavailable(f"None of {', '.join(CHROMIUM_NAMES)} is installed.")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("Playwright is not installed (it comes with the `dev` extra).")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def jupyterlab(browser, tmp_path_factory) -> Iterator[JupyterLab]:
    lab = JupyterLab(tmp_path_factory.mktemp("jupyterlab"), browser)
    try:
        lab.wait()
        yield lab
    finally:
        lab.stop()
