"""The browser's side of the views: what is in `resnet_lib/static`, made into what anywidget takes."""

import re
from pathlib import Path

STATIC = Path(__file__).resolve().parent.parent / "static"
IMPORT = re.compile(r'^import [^;]* from "\./(.*)";\n', re.MULTILINE)


def script(name: str) -> str:
    """A module of `static/` and what it imports from there, as one: a widget's code must be a single text."""
    parts: list[str] = []
    seen: set[str] = set()

    def add(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        code = (STATIC / name).read_text(encoding="utf-8")
        for imported in IMPORT.findall(code):
            add(imported)
        parts.append(IMPORT.sub("", code))

    add(name)
    *modules, entry = parts
    return "\n".join([re.sub(r"^export ", "", module, flags=re.MULTILINE) for module in modules] + [entry])
