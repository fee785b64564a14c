"""Read a drawing in the page back into numbers, from where its marks lie among the lines and labels of the axis."""

import re

import numpy as np

SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
# Of every mark of one series: its place in the page, and the fill and class that show what it is.
GEOMETRY = """([panel, marks]) => {
  const box = (node) => { const r = node.getBoundingClientRect(); return { x: r.x + r.width / 2, y: r.y + r.height / 2, top: r.top, bottom: r.bottom }; };
  const all = (selector) => [...document.querySelector(panel).querySelectorAll(selector)];
  return {
    lines: all("line.grid").map((node) => box(node).y),
    labels: all("text.tick").map((node) => ({ text: node.textContent, y: box(node).y })),
    zeroRow: box(all(".zero-band")[0]),
    marks: all(marks).map((node) => ({ ...box(node), kind: node.getAttribute("class") })),
  };
}"""  # noqa: E501


def exponent(label: str) -> int | None:
    """10⁻⁵ → -5, 1 → 0; None for a label that is no power of ten."""
    if label == "1":
        return 0
    match = re.fullmatch("10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", label)
    return int(match[1].translate(SUPERSCRIPTS)) if match else None


def drawn_decades(page, panel: str, marks: str) -> np.ndarray:
    """log10 of the values that marks stand for: -inf in the row for exact zeros, NaN for an arrow at the axis' end."""
    geometry = page.evaluate(GEOMETRY, [panel, marks])
    labels = sorted(
        (label["y"], exponent(label["text"])) for label in geometry["labels"] if exponent(label["text"]) is not None
    )
    lines = sorted(geometry["lines"])
    assert len(labels) == len(lines) >= 2, "every line has its label"
    assert all(abs(label[0] - line) < 5 for label, line in zip(labels, lines, strict=True)), "each at its line"
    decades = [label[1] for label in labels]
    slope, at_zero = np.polyfit(lines, decades, 1)
    assert np.allclose(np.polyval([slope, at_zero], lines), decades, atol=1e-6), "the axis is logarithmic"

    def decode(mark: dict) -> float:
        if geometry["zeroRow"]["top"] < mark["y"] < geometry["zeroRow"]["bottom"]:
            return -np.inf
        return np.nan if "above" in mark["kind"] or "below" in mark["kind"] else slope * mark["y"] + at_zero

    return np.array([decode(mark) for mark in geometry["marks"]])


def expected_decades(values: np.ndarray, low: float = -20, high: float = 10) -> np.ndarray:
    """What `drawn_decades` must find for these values on an axis with these ends."""
    with np.errstate(divide="ignore"):
        decades = np.log10(np.asarray(values, dtype=float))
    return np.where(np.isfinite(decades) & ((decades < low) | (decades > high)), np.nan, decades)
