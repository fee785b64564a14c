"""Every stored picture can be seen: whole, on a page, with something drawn, and with words that stand for it.

Whether it is a good picture, a person has to judge: `python tools/extract_pictures.py` takes them out to look at.
"""

import base64
import html
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools" / "extract_pictures.py"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
pictures = runpy.run_path(str(TOOL))["pictures"]
PICTURES = [picture for notebook in NOTEBOOKS for picture in pictures(notebook)]

# In CSS pixels. JupyterLab leaves about 1,000 for an output in a window of 1,300; a screen is about 900 high.
WIDTHS, HEIGHTS = (300, 900), (120, 900)
MARGIN = 8  # pixels of the PNG
COLOURED = 0.003  # of all pixels: a single thin line has twice as much
NOTEBOOK_BYTES = 1_500_000

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
every_picture = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)


def faults(png: bytes, width: int | None) -> list[str]:
    """What keeps a PNG, shown `width` CSS pixels wide, from being seen; [] if nothing does."""
    image = Image.open(io.BytesIO(png), formats=["PNG"])
    pixels = np.asarray(image.convert("RGBA")).astype(int)
    height, own_width = pixels.shape[:2]
    width = width or own_width
    found = []
    if not WIDTHS[0] <= width <= WIDTHS[1] or not HEIGHTS[0] <= height * width / own_width <= HEIGHTS[1]:
        found.append("size")
    if own_width < 2 * width - 1:  # blurred on today's screens
        found.append("blurred")
    if pixels[..., 3].min() < 255:  # its black text would stand on a dark page
        found.append("transparent")
    colours = pixels[..., :3]
    # What is measured has a colour everywhere in the course; frames, grids and letters have none.
    if (colours.max(2) - colours.min(2) > 40).mean() < COLOURED:
        found.append("empty")
    margin = (colours != colours[0, 0]).any(2)
    margin[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    if margin.any():
        found.append("cut")
    return found


def saved(figure, **options) -> bytes:
    """As `plots.show` saves it."""
    out = io.BytesIO()
    figure.savefig(out, **{"format": "png", "dpi": 144, "bbox_inches": "tight"} | options)
    return out.getvalue()


def example(size=(5, 3), draw=lambda axes: axes.plot([1, 3, 2])) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.grid(visible=True)
    axes.set(title="An example", xlabel="epoch", ylabel="accuracy")
    draw(axes)
    return figure


def beyond(axes) -> None:
    axes.plot([1, 3, 2])
    axes.text(1, 3.4, "so far to the right that the paper ends", clip_on=False)


@pytest.mark.parametrize(
    ("png", "width", "expected"),
    [
        (saved(example()), 360, []),
        (saved(example(), facecolor="lightgrey"), 360, []),
        (saved(example(draw=lambda axes: None)), 360, ["empty"]),
        (saved(example(draw=lambda axes: axes.plot([1, 3, 2], color="white"))), 360, ["empty"]),
        (saved(example(draw=beyond), bbox_inches=None), 360, ["cut"]),
        (saved(example(), pad_inches=0), 340, ["cut"]),
        (saved(example((3, 2))), 216, ["size"]),
        (saved(example((14, 3))), 1008, ["size"]),
        (saved(example((5, 14))), 360, ["size"]),
        (saved(example()), None, ["blurred"]),
        (saved(example(), transparent=True), 360, ["transparent"]),
    ],
)
def test_faults_are_found(png, width, expected):
    assert faults(png, width) == expected


@every_picture
def test_a_picture_is_whole_and_fits_a_page(picture):
    assert faults(picture.png, picture.width) == []


@every_picture
def test_a_picture_has_its_words_twice(picture):
    # In the metadata, and for JupyterLab, which drops those, in text that only screen readers show.
    assert len(picture.alt.split()) >= 8
    assert f"Figure: {picture.alt}" in html.unescape(re.sub(r"<[^>]+>", "", picture.spoken))


@every_notebook
def test_each_cell_that_plots_has_a_picture(path):
    plotting = 0
    for cell in nbformat.read(path, as_version=4).cells:
        kinds = [kind for output in cell.get("outputs", []) for kind in output.get("data", {}) if "image/" in kind]
        assert set(kinds) <= {"image/png"}
        if cell.cell_type == "code" and re.search(r"^(plots|plt)\.show\(", cell.source, flags=re.MULTILINE):
            plotting += 1
            assert kinds, f"no picture is stored after:\n{cell.source}"
    assert plotting > 0


@every_notebook
def test_the_pictures_of_a_notebook_are_quick_to_load(path):
    assert sum(len(picture.png) for picture in pictures(path)) < NOTEBOOK_BYTES


def test_the_tool_writes_what_is_stored(tmp_path):
    said = subprocess.run([sys.executable, TOOL, tmp_path / "new"], check=True, capture_output=True, text=True).stdout
    stored = [
        base64.b64decode(output.data["image/png"])
        for path in NOTEBOOKS
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    files = sorted((tmp_path / "new").glob("*.png"))
    assert [file.read_bytes() for file in files] == stored
    page = (tmp_path / "new" / "index.html").read_text("utf-8")
    assert re.findall(r'src="([^"]+)"', page) == [file.name for file in files]
    assert said.startswith(f"{len(stored)} pictures")
