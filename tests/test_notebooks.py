"""What every notebook keeps to, beyond giving its stored outputs again (that is strict nbval's task)."""

import re
import statistics
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SKIPPING_TAGS = {"nbval-ignore-output", "nbval-skip"}

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def prose(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_is_valid_and_stores_no_widget_state(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata


def test_every_code_cell_was_run_in_order_without_an_error(path):
    cells = code_cells(path)
    # nbval compares nothing in a cell that was never run.
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def test_equals_its_text_twin(path):
    def content(notebook):
        return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]

    twin = jupytext.read(path.parent / "source" / f"{path.stem}.py")
    assert content(nbformat.read(path, as_version=4)) == content(twin), "Run `make notebooks` after a change."


def test_every_picture_has_words_that_stand_for_it(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert len(alt.split()) >= 8, f"no alt text worth its name in:\n{cell.source}"


def test_fewer_than_a_tenth_of_the_cells_are_not_compared(path):
    cells = code_cells(path)
    ignored = [cell for cell in cells if SKIPPING_TAGS & set(cell.metadata.get("tags", []))]
    assert 10 * len(ignored) < len(cells)
    # nbval also takes its orders from comments.
    assert not [cell for cell in cells if re.search(r"#\s*NBVAL_(IGNORE|SKIP)", cell.source)]


def test_opens_with_question_goals_needs_and_minutes(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# .+\?", first.source)
    for row in ("**Question**", "**Afterwards you can**", "**You need**"):
        assert row in first.source
    assert re.search(r"\*\*Time\*\* \| \d+ minutes", first.source)


def test_predicts_before_it_measures_and_closes_with_summary_exercises_references(path):
    text = prose(path)
    assert text.count("**Predict.**") >= 3
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings[-3:] == ["Summary", "Exercises", "References"]


def test_has_three_to_five_exercises_with_folded_solutions(path):
    exercises = prose(path).split("\n## Exercises\n")[1].split("\n## References\n")[0]
    numbers = re.findall(r"^\*\*(\d)\.\*\*", exercises, flags=re.MULTILINE)
    assert numbers == [str(i) for i in range(1, len(numbers) + 1)]
    assert 3 <= len(numbers) <= 5
    assert exercises.count("<details>") == exercises.count("</details>") == len(numbers)


def test_cells_are_short(path):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(path)]
    assert statistics.median(lengths) <= 8
    assert max(lengths) <= 30


def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not target.startswith("https://"):
            assert (path.parent / target.partition("#")[0]).exists(), f"dead link: {target}"


def test_needs_no_network(path):
    # Loading is from the bundled files; anything that fetches would fail in a classroom without a network.
    for cell in code_cells(path):
        assert not re.search(r"https?://|urllib|requests|download|!\s*(pip|npm|wget|curl)|%pip", cell.source)


def test_stored_outputs_hold_on_every_machine(path):
    for cell in code_cells(path):
        if SKIPPING_TAGS & set(cell.metadata.get("tags", [])):
            continue
        for output in cell.outputs:
            assert output.get("name") != "stderr", f"a warning or progress bar is stored after:\n{cell.source}"
            text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            assert not re.search(r"0x[0-9a-f]{6,}|/(home|tmp|root|Users)/", text), f"an address or a path: {text}"
            assert not re.search(r"\d\.\d{6,}", text), f"more digits than other machines will give: {text}"
