// One number through a chain of residual blocks: the product of derivatives along depth, computed block by block and
// in closed form. Everything is computed in the page (`chain.js`).
import { element, html, keepKeys, power, radioGroup, slider, tell } from "./svg.js";
import { FOOT, RIGHT, frame, leftMargin, logPanel, mark, markSign, sign } from "./axes.js";
import { closedForm, derivatives, isExact } from "./chain.js";

const BLOCKS = 54; // as many as ResNet-110 has
// The axis is the same for every setting, that of the gradient-flow lab.
const PANEL = logPanel({ top: 34, height: 240, low: -20, high: 10, step: 5 });
const HEIGHT = PANEL.bottom + FOOT + 42;
const PATHS = [
  ["nothing", "nothing"],
  ["relu", "ReLU"],
  ["tanh", "tanh"],
  ["sigmoid", "sigmoid"],
];
const SLOPES = { nothing: "", relu: "ReLU′(z) · ", tanh: "tanh′(z) · ", sigmoid: "σ′(z) · " };

const signed = (number) => String(Number(number.toFixed(2))).replace("-", "−");
const inFull = (number) => (number < 0 ? "−" : "") + tell(Math.abs(number));
const exponent = (number) => power(number).slice(2); // "10²⁷" without its 10

function draw(svg, setting, width) {
  const left = leftMargin(width),
    right = width - RIGHT;
  const x = (block) => left + 6 + ((right - left - 12) * block) / BLOCKS;
  const places = (values) => values.map((value) => PANEL.place(Math.log10(Math.abs(value))));
  const radius = Math.min(4, Math.max(1.8, (right - left) / BLOCKS / 3));
  const series = { plain: places(derivatives({ ...setting, scale: 0 })), residual: places(derivatives(setting)) };
  const kinds = new Set(
    Object.values(series)
      .flat()
      .map(({ kind }) => kind),
  );
  const text = (at, y, words) => element("text", { class: "tick", x: at, y, "text-anchor": "middle" }, words);
  const numbers = [];
  for (let block = 0; block <= BLOCKS; block += right - left > 500 ? 3 : 9) {
    numbers.push(text(x(block), PANEL.bottom + FOOT + 16, block));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", HEIGHT);
  svg.replaceChildren(
    element("text", { class: "title", x: 0, y: 14 }, "Derivative |∂xₗ/∂x₀| after each block"),
    ...frame(PANEL, left, right, kinds),
    ...numbers,
    text((left + right) / 2, PANEL.bottom + FOOT + 34, "block"),
    element("path", {
      class: "closed-form",
      d:
        "M" +
        places(closedForm(setting))
          .map(({ y }, i) => `${x(i)},${y}`)
          .join("L"),
    }),
    ...Object.entries(series).flatMap(([role, all]) =>
      all.map((place, block) => mark(role, place, x(block), radius, "derivative", block)),
    ),
  );
}

// Formula and numbers of the last block, for the chain with the shortcut, its closed form, and the chain without.
function words(setting) {
  const { blocks, scale, branch, path } = setting;
  const last = derivatives(setting).at(-1),
    closed = closedForm(setting).at(-1),
    plain = derivatives({ ...setting, scale: 0 }).at(-1);
  const factor = `${SLOPES[path]}(λ + F′)`;
  const n = exponent(blocks);
  const sum = `(${signed(scale)} ${branch < 0 ? "−" : "+"} ${signed(Math.abs(branch))})`;
  const bound = path === "sigmoid" ? `(${sum} / 4)${n}` : `${sum}${n}`;
  const row = (node, name, text) => html("p", {}, node, html("span", {}, html("b", {}, name), `: ${text}`));
  const product = path === "nothing" ? `${factor}${n}` : `the product over the blocks of ${factor}`;
  const shut = path === "relu" && last === 0;
  const closedText = shut
    ? "exactly 0, for the signal is not positive and the ReLU shuts"
    : isExact(path)
      ? `${bound} = ${inFull(closed)}`
      : `at most |${bound}| = ${tell(Math.abs(closed))}`;
  return [
    row(markSign("residual"), "With the shortcut", `${product} is ${inFull(last)} after ${blocks} blocks`),
    row(sign(element("path", { class: "closed-form", d: "M0,6H18" })), "Closed form", closedText),
    row(markSign("plain"), "Without it (λ = 0)", inFull(plain)),
  ];
}

function render({ model, el }) {
  const choose = (changes) => {
    model.set("setting", { ...model.get("setting"), ...changes });
    model.save_changes();
  };
  // Sliders count in whole steps: twentieths, so that 0.1 + 0.2 stays 0.3.
  const twentieths = (name) => (steps) => choose({ [name]: steps / 20 });
  const scale = slider(
    "shortcut’s scale λ",
    { max: 24, ticks: ["0", "0.2", "0.4", "0.6", "0.8", "1", "1.2"] },
    twentieths("scale"),
  );
  const branch = slider(
    "residual branch’s derivative F′",
    { min: -10, max: 10, ticks: ["−0.5", "−0.25", "0", "0.25", "0.5"] },
    twentieths("branch"),
  );
  const blocks = slider("blocks", { min: 1, max: BLOCKS }, (count) => choose({ blocks: count }));
  const path = radioGroup("act, after the addition", PATHS, (name) => choose({ path: name }));
  const svg = element("svg", { class: "picture", role: "img" });
  const said = html("div", { class: "said", "aria-live": "polite" });
  const frameBox = html("div", {}, svg);
  const box = html(
    "div",
    { class: "resnet-lab shortcut-lab" },
    html("p", { class: "formula" }, "xₗ = act(λ · xₗ₋₁ + F(xₗ₋₁)), with F(x) = F′ · x and x₀ = 1"),
    html("div", { class: "controls" }, scale, branch, blocks, path),
    said,
    frameBox,
  );
  keepKeys(box);
  el.append(box);
  let width = 0;

  function redraw() {
    const setting = model.get("setting");
    scale.show(Math.round(setting.scale * 20), signed(setting.scale));
    branch.show(Math.round(setting.branch * 20), signed(setting.branch));
    // Three stages with equally many blocks, as in He et al.'s networks for CIFAR-10.
    const twin = setting.blocks % 3 ? "" : `, as in ResNet-${2 * setting.blocks + 2}`;
    blocks.show(setting.blocks, `${setting.blocks}${twin}`);
    path.show(setting.path);
    said.replaceChildren(...words(setting));
    svg.setAttribute("aria-label", `Product of derivatives by block on a logarithmic axis. ${said.textContent}`);
    if (width) draw(svg, setting, width);
  }

  const observer = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now === width || now === 0) return;
    width = now;
    redraw();
  });
  observer.observe(frameBox);
  svg.style.minHeight = `${HEIGHT}px`;
  model.on("change:setting", redraw);
  redraw();
  return () => {
    observer.disconnect();
    model.off("change:setting", redraw);
  };
}

export default { render };
