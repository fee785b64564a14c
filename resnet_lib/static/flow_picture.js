// The picture of the gradient-flow lab: gradient norm of every layer, and beneath it the variance of the signal, on one
// x axis. Everything is drawn at the width it is shown in, so that text keeps its size on a phone.
import { element } from "./svg.js";
import { FOOT, RIGHT, frame, leftMargin, logPanel, mark } from "./axes.js";

// Decades that the axes cover when they are the same for every setting; what lies outside is drawn as an arrow.
const PANELS = {
  gradient: { top: 46, height: 240, low: -20, high: 10, step: 5 },
  variance: { top: 396, height: 108, low: -18, high: 18, step: 6 },
};
const TITLES = { gradient: "Gradient norm of each weight layer", variance: "Signal variance after each block" };
export const HEIGHT = PANELS.variance.top + PANELS.variance.height + FOOT + 6;

// How layers lie on the x axis: layer 1 is next to the image.
export function columns(width, depth) {
  const left = leftMargin(width);
  const slot = (width - left - RIGHT) / depth;
  return { left, right: width - RIGHT, slot, x: (layer) => left + slot * (layer - 0.5) };
}

// view: { grid, depth, fitted, series: [{ role, gradient, variance, measured }] }, where gradient and variance are
// profiles of codes and measured, if there is one, holds codes under the same two names. Draws into `svg`.
export function draw(svg, view, width) {
  const axis = columns(width, view.depth);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", HEIGHT);
  const nodes = stages(axis, view.grid.payload.layers[view.depth]);
  for (const quantity of Object.keys(PANELS)) {
    const series = view.series.map((one) => decades(one, quantity, view.grid));
    const panel = logPanel({ ...PANELS[quantity], ...(view.fitted ? fittedRange(series) : {}) });
    const kinds = new Set(
      series.flatMap((one) => [...one.median, ...one.measured]).map((value) => panel.place(value).kind),
    );
    const group = element("g", { class: `panel ${quantity}` });
    group.append(
      element("text", { class: "title", x: 0, y: quantity === "gradient" ? 14 : panel.top - 14 }, TITLES[quantity]),
      ...frame(panel, axis.left, axis.right, kinds),
      ...series.flatMap((one) => marks(one, quantity, panel, axis, series.length > 1)),
    );
    nodes.push(group);
  }
  nodes.push(...layerNumbers(axis, view.depth));
  svg.replaceChildren(...nodes);
}

// A network's profile in decades instead of codes.
function decades({ role, measured, ...profiles }, quantity, grid) {
  const convert = (codes) => codes.map((code) => Math.log10(grid.value(code)));
  const { minimum, median, maximum } = profiles[quantity];
  return {
    role,
    minimum: convert(minimum),
    median: convert(median),
    maximum: convert(maximum),
    measured: convert(measured?.[quantity] ?? []),
  };
}

function fittedRange(series) {
  const values = series.flatMap((one) => [...one.minimum, ...one.maximum, ...one.measured]).filter(Number.isFinite);
  if (!values.length) return {};
  const low = Math.floor(Math.min(...values));
  const high = Math.max(Math.ceil(Math.max(...values)), low + 2);
  return { low, high, step: [1, 2, 5, 10].find((step) => (high - low) / step <= 6) ?? 20 };
}

// Where the stages begin, and their names.
function stages({ left, slot, x }, layers) {
  const names = layers.map((name) => name.split(".")[0]);
  return [...new Set(names)]
    .filter((name) => name.startsWith("layer"))
    .flatMap((name) => {
      const first = names.indexOf(name),
        last = names.lastIndexOf(name);
      const start = left + slot * first,
        end = left + slot * (last + 1);
      const { gradient, variance } = PANELS;
      const area = { class: "stage", x: start, width: end - start, opacity: name === "layer2" ? 0 : 1 };
      return [
        element("rect", { ...area, y: gradient.top - 22, height: gradient.height + 22 }),
        element("rect", { ...area, y: variance.top, height: variance.height }),
        element(
          "text",
          { class: "tick", x: (x(first + 1) + x(last + 1)) / 2, y: gradient.top - 8, "text-anchor": "middle" },
          name.replace("layer", "stage "),
        ),
      ];
    });
}

function layerNumbers({ left, right, slot, x }, depth) {
  const step = [1, 5, 10, 20, 50].find((count) => count * slot >= 26);
  const numbers = [1, depth];
  for (let layer = step; layer < depth; layer += step) {
    if (slot * Math.min(layer - 1, depth - layer) >= 26) numbers.push(layer);
  }
  const y = PANELS.gradient.top + PANELS.gradient.height + FOOT + 16;
  return [
    ...numbers.map((layer) => element("text", { class: "tick", x: x(layer), y, "text-anchor": "middle" }, layer)),
    element("text", { class: "tick", x: left, y: y + 18 }, "← image"),
    element("text", { class: "tick", x: (left + right) / 2, y: y + 18, "text-anchor": "middle" }, "layer"),
    element("text", { class: "tick", x: right, y: y + 18, "text-anchor": "end" }, "loss →"),
  ];
}

// One network in one panel: a bar for every layer, or a point after every block, over the seeds' range.
function marks({ role, minimum, median, maximum, measured }, quantity, panel, axis, both) {
  const gradient = quantity === "gradient";
  const shift = both ? axis.slot * (role === "plain" ? -0.21 : 0.21) : 0;
  const half = Math.min(7, Math.max(0.6, axis.slot * (both ? 0.17 : 0.3)));
  // The signal after block k stands between the block's second layer, 2k + 1, and the next one.
  const x = (i) => (gradient ? axis.x(i + 1) + shift : axis.x(2 * i + 1) + axis.slot / 2);
  const places = median.map(panel.place);
  const path = places.map(({ kind, y }, i) => {
    if (!gradient) return `${i ? "L" : "M"}${x(i)},${y}`;
    return kind === "zero" ? "" : `M${x(i)},${panel.bottom}V${y}`;
  });
  const ranges = minimum.map((low, i) => `M${x(i)},${panel.place(low).y}V${panel.place(maximum[i]).y}`);
  const radius = Math.min(4.5, Math.max(1.5, gradient ? half + 0.4 : axis.slot * 0.4));
  const lines = measured.flatMap((value, i) => {
    const { kind, y } = panel.place(value);
    const reach = Math.max(half + 2, 3);
    const ends = { x1: x(i) - reach, x2: x(i) + reach, y1: y, y2: y };
    const name = `measured ${role} ${quantity} ${kind}`;
    return [
      element("line", { class: "halo", ...ends }),
      element("line", { class: name, "data-index": i + 1, ...ends }),
    ];
  });
  return [
    gradient
      ? element("path", {
          class: `bars ${role}`,
          d: path.join(""),
          "stroke-width": 2 * half,
          opacity: axis.slot < 4 ? 0.5 : 1,
        })
      : element("path", { class: `line ${role}`, d: path.join("") }),
    element("path", { class: `ranges ${role}`, d: ranges.join("") }),
    ...places.map((place, i) => mark(role, place, x(i), radius, quantity, i + 1)),
    ...lines,
  ];
}

// The line that follows the ruler beneath the picture, through both panels.
export function ruler(svg, layer, width, depth) {
  const x = columns(width, depth).x(layer);
  const line = svg.querySelector(".ruler") ?? svg.appendChild(element("path", { class: "ruler" }));
  line.setAttribute(
    "d",
    Object.values(PANELS)
      .map(({ top, height }) => `M${x},${top}v${height + FOOT}`)
      .join(""),
  );
}
