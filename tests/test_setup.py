"""The set-up files agree with one another."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"torch": "pytorch", "playwright": "playwright-python"}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def requirements(project) -> list[str]:
    extras = project["optional-dependencies"]
    return project["dependencies"] + extras["lab"] + extras["dev"]


def split_requirement(requirement: str) -> tuple[str, str]:
    return re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()


def test_conda_environment_has_the_packages_and_ranges_of_pyproject(project, requirements):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = {item for item in environment["dependencies"] if isinstance(item, str)} - {"pip"}
    expected = {CONDA_NAMES.get(name, name) + limits for name, limits in map(split_requirement, requirements)}
    expected.add("python" + project["requires-python"])
    assert environment["name"] == "resnet-course"
    assert conda == expected
    assert {"pip": ["-e ."]} in environment["dependencies"]


def test_ranges_are_open_and_constraints_are_exact(requirements):
    lines = [
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    pinned = dict(line.lower().split("==") for line in lines)
    for name, limits in map(split_requirement, requirements):
        assert re.fullmatch(r">=[\d.]+", limits), f"{name}{limits} is no open range"
        lowest = [int(part) for part in limits.removeprefix(">=").split(".")]
        exact = [int(part) for part in re.findall(r"\d+", pinned[name])]
        assert exact >= lowest, f"{name} is pinned to {pinned[name]}, below {limits}"


@pytest.mark.parametrize("readme", ["README.md", "README.zh-TW.md"])
def test_the_smaller_download_is_of_the_constrained_versions(readme):
    (command,) = re.findall(r"pip install (torch==.*) --index-url", (ROOT / readme).read_text(encoding="utf-8"))
    assert set(command.split()) <= set((ROOT / "constraints.txt").read_text(encoding="utf-8").split())


def test_no_file_names_a_path_of_a_developers_machine():
    suspicious = re.compile(r"(/work/|/root/|/home/\w|/tmp/|[A-Z]:\\Users)")
    texts = [
        path for path in ROOT.rglob("*") if path.suffix in {".md", ".toml", ".yml", ".txt", ".json", ".csv", ".ipynb"}
    ]
    ignored = {".venv", "runs", ".git", ".pytest_cache", ".hypothesis", ".ruff_cache"}
    for path in texts:
        if not ignored & set(path.relative_to(ROOT).parts[:1]):
            assert not suspicious.search(path.read_text(encoding="utf-8")), path
