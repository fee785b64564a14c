// The gradient-flow lab: controls, words and picture. All recorded data is in the page, so a control needs no kernel;
// only "Measure it here" sends a message and waits for its answer.
import { element, html, keepKeys, radioGroup, slider, tell } from "./svg.js";
import { Grid, firstAgainstLast, remark } from "./grid.js";
import { markSign } from "./axes.js";
import { OFFER, comparison, measuring } from "./measuring.js";
import { HEIGHT, columns, draw, ruler } from "./flow_picture.js";

const NAMES = {
  activation: [
    ["sigmoid", "sigmoid"],
    ["tanh", "tanh"],
    ["relu", "ReLU"],
  ],
  initialisation: [
    ["normal_0.01", "N(0, 0.01²)"],
    ["xavier", "Xavier"],
    ["kaiming", "Kaiming"],
  ],
};

// Starting each block's last γ at 0 needs a γ, and was recorded with the full shortcut only.
const gammaAllowed = (setting) => setting.batch_norm && setting.scale === 1 && setting.networks !== "plain";

// The networks that a setting shows, each as a key of the recorded experiment.
function networksOf(grid, setting) {
  const { depth, activation, initialisation, batch_norm } = setting;
  const network = (role, shortcut) => ({ role, depth, activation, initialisation, batch_norm, shortcut });
  const residual = network("residual", grid.shortcutName(setting.scale, setting.zero_gamma));
  const all = { plain: [network("plain", "plain")], residual: [residual] };
  return setting.networks === "both" ? [...all.plain, ...all.residual] : all[setting.networks];
}

function residualName({ scale, zero_gamma }) {
  return "Residual" + (zero_gamma ? ", γ = 0 at the start" : scale === 1 ? "" : `, λ = ${scale}`);
}

function inWords(setting) {
  const name = (field) => NAMES[field].find(([value]) => value === setting[field])[1];
  const norm = setting.batch_norm ? "with" : "without";
  return `${setting.depth} layers, ${name("activation")}, weights from ${name("initialisation")}, ${norm} batch norm`;
}

function controls(grid, presets, choose) {
  const presetButtons = presets.map(({ name, setting }) => {
    const button = html("button", { type: "button" }, name);
    button.addEventListener("click", () => choose(setting));
    return button;
  });
  const depths = grid.axes.depth;
  const depth = slider("depth", { max: depths.length - 1, ticks: depths.map(String) }, (i) =>
    choose({ depth: depths[i] }),
  );
  const groups = {
    activation: radioGroup("activation", NAMES.activation, (activation) => choose({ activation })),
    initialisation: radioGroup("initialisation", NAMES.initialisation, (initialisation) => choose({ initialisation })),
    batch_norm: radioGroup(
      "batch norm",
      [
        [false, "without"],
        [true, "with"],
      ],
      (batch_norm) => choose({ batch_norm }),
    ),
    networks: radioGroup(
      "networks",
      [
        ["plain", "plain"],
        ["residual", "residual"],
        ["both", "both"],
      ],
      (networks) => choose({ networks }),
    ),
    scale: radioGroup(
      "shortcut’s scale λ",
      [
        [0.5, "0.5"],
        [0.9, "0.9"],
        [1, "1"],
      ],
      (scale) => choose({ scale }),
    ),
  };
  const gamma = html("input", { type: "checkbox" });
  gamma.addEventListener("change", () => choose({ zero_gamma: gamma.checked }));
  const gammaHint = html("small", {}, "needs batch norm, shortcuts, λ = 1");
  const gammaLabel = html("label", { class: "check" }, gamma, html("span", {}, "γ = 0 at the start", gammaHint));
  const lesson = html("p", { class: "lesson" });
  const node = html(
    "div",
    {},
    html("div", { class: "presets", role: "group", "aria-label": "Presets" }, ...presetButtons),
    lesson,
    html("div", { class: "controls" }, depth, ...Object.values(groups), gammaLabel),
  );
  node.show = (setting) => {
    depth.show(depths.indexOf(setting.depth), `${setting.depth} layers`);
    for (const [name, group] of Object.entries(groups)) group.show(setting[name]);
    groups.scale.disabled = setting.networks === "plain";
    gamma.disabled = !gammaAllowed(setting);
    gammaHint.hidden = !gamma.disabled;
    gamma.checked = setting.zero_gamma;
    const active = presets.findIndex((preset) =>
      Object.entries(preset.setting).every(([key, value]) => setting[key] === value),
    );
    presetButtons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === active)));
    lesson.textContent = active < 0 ? `Your own setting: ${inWords(setting)}.` : presets[active].lesson;
  };
  return node;
}

// What the picture shows, in words: a paragraph for each network, and how the two compare.
function words(grid, setting, series) {
  const lines = series.map(({ role, gradient }) => {
    const name = role === "plain" ? "Plain" : residualName(setting);
    const text = [firstAgainstLast(grid, gradient.median) + ".", remark(grid, gradient.median)]
      .filter(Boolean)
      .join(" ");
    return html("p", { class: role }, markSign(role), html("span", {}, html("b", {}, name), `: ${text}`));
  });
  const [plain, residual] = series.map(({ gradient }) => grid.value(gradient.median[0]));
  if (series.length === 2 && plain > 0 && residual > 0 && Math.max(plain, residual) < Infinity) {
    const [name, ratio, other] =
      residual >= plain ? ["residual", residual / plain, "plain"] : ["plain", plain / residual, "residual"];
    lines.push(
      html(
        "p",
        { class: "compared" },
        `The ${name} net’s first layer hears ${tell(ratio)} times what the ${other} one’s does.`,
      ),
    );
  }
  return lines;
}

function render({ model, el }) {
  const grid = new Grid(model.get("recording"));
  const presets = model.get("presets");
  const measurements = new Map(); // answers of the kernel by network
  const svg = element("svg", { class: "picture", role: "img" });
  const said = html("div", { class: "said", "aria-live": "polite" });
  const choose = (changes) => {
    const setting = { ...model.get("setting"), ...changes };
    setting.zero_gamma &&= gammaAllowed(setting);
    model.set("setting", setting);
    model.save_changes();
  };
  const panel = controls(grid, presets, choose);
  let fitted = false;
  const axes = radioGroup(
    "y axes",
    [
      [false, "the same for all settings"],
      [true, "fitted to this one"],
    ],
    (choice) => {
      fitted = choice;
      redraw();
    },
  );
  axes.show(fitted);
  const measure = measuring(model, () => networksOf(grid, model.get("setting")));
  const look = html("input", {
    type: "range",
    min: 1,
    step: 1,
    value: 1,
    "aria-label": "Read the numbers of one layer",
  });
  const reading = html("output");
  const rulerBox = html("label", { class: "look" }, look, html("span", {}, reading));

  const box = html(
    "div",
    { class: "resnet-lab gradient-flow-lab" },
    panel,
    said,
    svg,
    rulerBox,
    html("div", { class: "tools" }, axes, measure),
  );
  keepKeys(box);
  el.append(box);
  let width = 0,
    series = [];

  function redraw() {
    const setting = model.get("setting");
    series = networksOf(grid, setting).map((network) => ({
      role: network.role,
      network,
      gradient: grid.profile("gradient_norm", network),
      variance: grid.profile("forward_variance", network),
    }));
    for (const one of series) one.measured = measurements.get(JSON.stringify(one.network));
    panel.show(setting);
    said.replaceChildren(...words(grid, setting, series));
    svg.setAttribute(
      "aria-label",
      `Gradient norm by layer on a logarithmic axis, ${setting.depth} layers. ${said.textContent}`,
    );
    if (measure.idle()) measure.say(comparison(grid, series) ?? OFFER);
    if (width) draw(svg, { grid, depth: setting.depth, fitted, series }, width);
    read();
  }

  // Say the numbers of the layer that the ruler stands at.
  function read() {
    const { depth } = model.get("setting");
    look.max = depth;
    const layer = Number(look.value);
    const numbers = series.map(({ role, gradient, measured }) => {
      const number = (codes) => tell(grid.value(codes[layer - 1]));
      const [low, high] = [number(gradient.minimum), number(gradient.maximum)];
      const here = measured ? `, measured here ${number(measured.gradient)}` : "";
      return `${role} ${number(gradient.median)}${low === high ? "" : ` (seeds ${low} to ${high})`}${here}`;
    });
    const text = `Layer ${layer} of ${depth}, ${grid.payload.layers[depth][layer - 1]}: ${numbers.join("; ")}`;
    reading.textContent = text;
    look.setAttribute("aria-valuetext", text);
    if (!width) return;
    ruler(svg, layer, width, depth);
    const { left, right, slot } = columns(width, depth);
    look.style.cssText = `margin-left: ${left + slot / 2 - 8}px; width: ${right - left - slot + 16}px`;
  }

  function point(event) {
    const { depth } = model.get("setting");
    const { left, slot } = columns(width, depth);
    const x = event.clientX - svg.getBoundingClientRect().left;
    look.value = Math.min(depth, Math.max(1, Math.ceil((x - left) / slot)));
    read();
  }

  function answered(message) {
    if (message.kind === "failed") return measure.say(`The measurement failed: ${message.reason}`);
    if (message.kind === "measured") {
      for (const { network, ...own } of message.results) measurements.set(JSON.stringify(network), own);
    }
    measure.say("");
    redraw();
  }

  const observer = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now === width || now === 0) return;
    width = now;
    redraw();
  });
  observer.observe(rulerBox);
  look.addEventListener("input", read);
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  model.on("change:setting", redraw);
  model.on("msg:custom", answered);
  svg.style.minHeight = `${HEIGHT}px`;
  redraw();
  return () => {
    observer.disconnect();
    model.off("change:setting", redraw);
    model.off("msg:custom", answered);
  };
}

export default { render };
