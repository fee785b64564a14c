// A panel with a logarithmic axis and a row of its own beneath for exact zeros, and the marks in it.
import { element, power } from "./svg.js";

export const RIGHT = 12;
const GAP = 8; // between the axis and the row for exact zeros, which lie on no logarithmic axis
const BAND = 20;
export const FOOT = GAP + BAND;
export const leftMargin = (width) => (width < 480 ? 52 : 64);

// top, height: in pixels; low, high: decades at the ends of the axis; step: decades between two lines.
// `place(decades)` says where log10 of a value is drawn and as what; -Infinity is an exact zero, Infinity not finite.
export function logPanel({ top, height, low, high, step }) {
  const bottom = top + height;
  const place = (decades) => {
    if (decades === -Infinity) return { kind: "zero", y: bottom + GAP + BAND / 2 };
    if (decades === Infinity) return { kind: "not-finite", y: top + 5 };
    if (decades > high) return { kind: "above", y: top + 5 };
    if (decades < low) return { kind: "below", y: bottom - 5 };
    return { kind: "value", y: bottom - (height * (decades - low)) / (high - low) };
  };
  return { top, bottom, low, high, step, place };
}

// Lines and labels of the panel; what its arrows mean, if marks of these kinds are in it.
export function frame({ top, bottom, low, high, step, place }, left, right, kinds) {
  const nodes = [];
  const label = (y, text, exponent) =>
    nodes.push(element("text", { class: "tick", x: left - 8, y: y + 4, "text-anchor": "end", ...exponent }, text));
  for (let exponent = Math.ceil(low / step) * step; exponent <= high; exponent += step) {
    const { y } = place(exponent);
    nodes.push(element("line", { class: exponent ? "grid" : "grid one", x1: left, x2: right, y1: y, y2: y }));
    label(y, exponent ? power(exponent) : "1", { "data-exponent": exponent });
  }
  nodes.push(element("rect", { class: "zero-band", x: left, y: bottom + GAP, width: right - left, height: BAND }));
  label(place(-Infinity).y, left > 60 ? "exactly 0" : "= 0");
  const note = (kind, y, text) => {
    if (kinds.has(kind)) nodes.push(element("text", { class: "note", x: right - 4, y, "text-anchor": "end" }, text));
  };
  note("above", top + 24, `▲ above ${power(high)}`);
  note("not-finite", top + 40, "× not finite");
  note("below", bottom - 18, `▼ below ${power(low)}`);
  return nodes;
}

// Squares for the plain net, circles for the residual one; arrows where the axis ends, hollow for exact zero.
export function mark(role, { kind, y }, x, r, quantity, index) {
  const shared = { class: `mark ${role} ${quantity} ${kind}`, "data-index": index };
  if (kind === "below" || kind === "above") {
    const tip = kind === "below" ? 4 : -4;
    return element("path", { ...shared, d: `M${x - r - 0.8},${y - tip / 2}h${2 * r + 1.6}L${x},${y + tip}Z` });
  }
  if (kind === "not-finite") {
    return element("path", { ...shared, d: `M${x - r},${y - r}l${2 * r},${2 * r}m0,${-2 * r}l${-2 * r},${2 * r}` });
  }
  if (role === "plain") return element("rect", { ...shared, x: x - r, y: y - r, width: 2 * r, height: 2 * r });
  return element("circle", { ...shared, cx: x, cy: y, r });
}

// The sign of a series for the words beside the picture.
export function sign(node) {
  const svg = element("svg", { class: "sign", viewBox: "0 0 18 12", width: 18, height: 12, "aria-hidden": "true" });
  svg.append(node);
  return svg;
}

export const markSign = (role) => sign(mark(role, { kind: "value", y: 6 }, 9, 4.7, "sign", 0));
