"""Take the pictures out of the notebooks, to look at: `python tools/extract_pictures.py [FOLDER]`.

Writes every stored PNG to FOLDER (a new temporary one by default), and `index.html`, which shows them all as wide as a
notebook does, each above the words that stand for it.
"""

import argparse
import base64
import html
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


class Picture(NamedTuple):
    """A stored picture.

    name: of its notebook, its number there, and its cell; width: on the page, in CSS pixels (None: as the PNG has it);
    alt: the words in its metadata; spoken: the HTML shown before it by the same cell.
    """

    name: str
    png: bytes
    width: int | None
    alt: str
    spoken: str


def pictures(notebook: Path) -> Iterator[Picture]:
    """The PNGs among the outputs of a notebook, from top to bottom."""
    number = 0
    for cell in nbformat.read(notebook, as_version=4).cells:
        spoken = ""
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                number += 1
                shown = output.metadata.get("image/png", {})
                name = f"{notebook.stem}_{number:02d}_{cell.id}"
                png = base64.b64decode(data["image/png"])
                yield Picture(name, png, shown.get("width"), shown.get("alt", ""), spoken)
            spoken = data.get("text/html", "")


def page(found: list[Picture]) -> str:
    """The HTML that shows them."""
    head = '<!doctype html><meta charset="utf-8"><title>Pictures of the course</title>'
    shown = [
        f'<h2>{name}</h2><img src="{name}.png" width="{width or ""}"><p>{html.escape(alt)}'
        for name, _, width, alt, _ in found
    ]
    return "\n".join([head, *shown])


def main(folder: Path) -> None:
    found = [picture for notebook in sorted(NOTEBOOKS.glob("*.ipynb")) for picture in pictures(notebook)]
    folder.mkdir(parents=True, exist_ok=True)
    for picture in found:
        (folder / f"{picture.name}.png").write_bytes(picture.png)
    (folder / "index.html").write_text(page(found), encoding="utf-8")
    print(f"{len(found)} pictures: open {folder / 'index.html'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a new temporary one by default")
    main(parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="pictures-")))
