// The lab of learning-rate schedules: the rate of each epoch beside the README's, on a logarithmic or a linear axis.
// Everything is computed in the page (`rates.js`).
import { element, html, keepKeys, power, radioGroup, slider, tell } from "./svg.js";
import { RIGHT, leftMargin, logPanel, sign } from "./axes.js";
import { epochsAt, rates, sum } from "./rates.js";

const TOP = 34,
  DEPTH = 230, // of the axis, in pixels
  HEIGHT = TOP + DEPTH + 44;
const LOG = logPanel({ top: TOP, height: DEPTH, low: -7, high: 0, step: 1 }); // the same for every setting
const SCHEDULES = [
  ["constant", "constant"],
  ["multi_step", "multi-step"],
  ["cosine", "cosine"],
  ["one_cycle", "one-cycle"],
  ["linear", "linear"],
];
const ORDINALS = ["first", "second", "third"];
const LEAST = 0.01; // the words count epochs at this rate or more

// Where a rate is drawn, and the axis' lines with their labels.
function logAxis() {
  const lines = Array.from({ length: LOG.high - LOG.low + 1 }, (_, i) => LOG.low + i);
  return {
    y: (rate) => Math.min(LOG.place(Math.log10(rate)).y, LOG.bottom),
    lines: lines.map((exponent) => ({ y: LOG.place(exponent).y, text: exponent ? power(exponent) : "1" })),
  };
}

function linearAxis(highest) {
  const y = (rate) => TOP + DEPTH * (1 - rate / highest);
  const text = (rate) => String(Number(rate.toPrecision(3)));
  return { y, lines: [0, 0.25, 0.5, 0.75, 1].map((share) => ({ y: y(share * highest), text: text(share * highest) })) };
}

// A flat piece an epoch, with an upright between two.
const staircase = (values, x, y) =>
  values.map((rate, epoch) => `${epoch ? "V" : `M${x(0)},`}${y(rate)}H${x(epoch + 1)}`).join("");

function columns(width, epochs) {
  const left = leftMargin(width),
    right = width - RIGHT;
  return { left, right, x: (epoch) => left + ((right - left) * epoch) / epochs };
}

function draw(svg, { own, readme, logarithmic }, width) {
  const { left, right, x } = columns(width, own.length);
  const axis = logarithmic ? logAxis() : linearAxis(Math.max(...own, ...readme));
  const label = (at, y, words, anchor) => element("text", { class: "tick", x: at, y, "text-anchor": anchor }, words);
  const every = [5, 10, 20, 30, 50].find((step) => (right - left) / (own.length / step) > 44) ?? 100;
  const numbers = [];
  for (let epoch = 0; epoch <= own.length; epoch += every) {
    numbers.push(label(x(epoch), TOP + DEPTH + 18, epoch, "middle"));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", HEIGHT);
  svg.replaceChildren(
    element("text", { class: "title", x: 0, y: 14 }, "Learning rate of each epoch"),
    ...axis.lines.flatMap(({ y, text }) => [
      element("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
      label(left - 8, y + 4, text, "end"),
    ]),
    ...numbers,
    label((left + right) / 2, HEIGHT - 4, "epoch, counted from 0", "middle"),
    element("path", { class: "rate-line readme", d: staircase(readme, x, axis.y) }),
    element("path", { class: "rate-line own", d: staircase(own, x, axis.y) }),
    element("line", { class: "ruler", y1: TOP, y2: TOP + DEPTH }),
  );
  if (logarithmic && Math.min(...own) < 10 ** LOG.low) {
    const note = { class: "note", x: right - 4, y: LOG.bottom - 8, "text-anchor": "end" };
    svg.append(element("text", note, `goes on below ${power(LOG.low)}`));
  }
}

// Rates are said with two digits, and the sum of the rates with three.
function words(own, readme) {
  const total = (values) => String(Number(sum(values).toPrecision(3)));
  const text = (values) => {
    const above = epochsAt(values, LEAST);
    const share = Math.round((100 * above) / values.length);
    return (
      `starts at ${tell(values[0])}, highest ${tell(Math.max(...values))}, ends at ${tell(values.at(-1))}; sum of all ` +
      `rates ${total(values)}; at ${LEAST} or more in ${above} of ${values.length} epochs (${share}%)`
    );
  };
  const row = (kind, name, values) =>
    html(
      "p",
      { class: kind },
      sign(element("path", { class: `rate-line ${kind}`, d: "M0,6H18" })),
      html("span", {}, html("b", {}, name), `: ${text(values)}`),
    );
  return [row("own", "This schedule", own), row("readme", "The README’s", readme)];
}

function controls({ epochs, choices, presets, axes }, choose) {
  const buttons = presets.map(({ name, setting }) => {
    const button = html("button", { type: "button" }, name);
    button.addEventListener("click", () => choose(setting));
    return button;
  });
  const lesson = html("p", { class: "lesson" });
  const schedule = radioGroup("schedule", SCHEDULES, (name) => choose({ schedule: name }));
  const peak = slider("peak rate", { max: choices.peak_lr.length - 1 }, (i) => choose({ peak_lr: choices.peak_lr[i] }));
  const warmup = slider("warm-up", { max: choices.most_warmup }, (count) => choose({ warmup_epochs: count }));
  const drops = ORDINALS.map((ordinal, i) =>
    slider(`${ordinal} drop`, { min: 1, max: epochs }, (epoch) =>
      choose(({ milestones }) => ({ milestones: milestones.map((old, j) => (j === i ? epoch : old)) })),
    ),
  );
  const factor = radioGroup(
    "a drop multiplies the rate by",
    choices.factor.map((value) => [value, String(value)]),
    (value) => choose({ factor: value }),
  );
  const steps = html("fieldset", { class: "steps" }, html("legend", {}, "drops of multi-step"), ...drops, factor);
  const node = html(
    "div",
    {},
    html("div", { class: "presets", role: "group", "aria-label": "Presets" }, ...buttons),
    lesson,
    html("div", { class: "controls" }, schedule, peak, warmup, axes),
    steps,
  );
  node.show = (setting) => {
    schedule.show(setting.schedule);
    peak.show(choices.peak_lr.indexOf(setting.peak_lr), String(setting.peak_lr));
    const { warmup_epochs: count } = setting;
    warmup.show(count, count === 0 ? "none" : count === 1 ? "1 epoch" : `${count} epochs`);
    drops.forEach((drop, i) => {
      const epoch = setting.milestones[i];
      drop.show(epoch, epoch === epochs ? "never" : `epoch ${epoch}`);
    });
    factor.show(setting.factor);
    steps.disabled = setting.schedule !== "multi_step";
    const same = (preset) => Object.entries(preset).every(([key, value]) => String(setting[key]) === String(value));
    const active = presets.findIndex(({ setting: preset }) => same(preset));
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === active)));
    lesson.textContent = active < 0 ? "Your own schedule." : presets[active].lesson;
  };
  return node;
}

function render({ model, el }) {
  const epochs = model.get("epochs"),
    presets = model.get("presets");
  const readme = rates(presets[0].setting, epochs); // the first preset is what all others are compared with
  const choose = (changes) => {
    const setting = model.get("setting");
    model.set("setting", { ...setting, ...(typeof changes === "function" ? changes(setting) : changes) });
    model.save_changes();
  };
  let logarithmic = true;
  const axes = radioGroup(
    "axis of the rate",
    [
      [true, "logarithmic"],
      [false, "linear"],
    ],
    (choice) => {
      logarithmic = choice;
      redraw();
    },
  );
  axes.show(logarithmic);
  const panel = controls({ epochs, presets, axes, choices: model.get("choices") }, choose);
  const svg = element("svg", { class: "picture", role: "img" });
  const said = html("div", { class: "said", "aria-live": "polite" });
  const label = "Read the rate of one epoch";
  const look = html("input", { type: "range", min: 0, max: epochs - 1, step: 1, value: 0, "aria-label": label });
  const reading = html("output");
  const lookBox = html("label", { class: "look" }, look, html("span", {}, reading));
  const box = html("div", { class: "resnet-lab schedule-lab" }, panel, said, svg, lookBox);
  keepKeys(box);
  el.append(box);
  let width = 0,
    own = [];

  function redraw() {
    own = rates(model.get("setting"), epochs);
    panel.show(model.get("setting"));
    said.replaceChildren(...words(own, readme));
    const scale = logarithmic ? "logarithmic" : "linear";
    svg.setAttribute("aria-label", `Learning rate by epoch on a ${scale} axis. ${said.textContent}`);
    if (width) draw(svg, { own, readme, logarithmic }, width);
    read();
  }

  // Say the rate of the epoch that the ruler stands at.
  function read() {
    const epoch = Number(look.value);
    const text = `Epoch ${epoch}: ${tell(own[epoch])}, the README’s ${tell(readme[epoch])}`;
    reading.textContent = text;
    look.setAttribute("aria-valuetext", text);
    if (!width) return;
    const { left, right, x } = columns(width, epochs);
    const slot = (right - left) / epochs;
    const ruler = svg.querySelector(".ruler");
    for (const end of ["x1", "x2"]) ruler.setAttribute(end, x(epoch + 0.5));
    look.style.cssText = `margin-left: ${left + slot / 2 - 8}px; width: ${right - left - slot + 16}px`;
  }

  function point(event) {
    const { left, right } = columns(width, epochs);
    const at = (event.clientX - svg.getBoundingClientRect().left - left) / (right - left);
    look.value = Math.min(epochs - 1, Math.max(0, Math.floor(at * epochs)));
    read();
  }

  const observer = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now === width || now === 0) return;
    width = now;
    redraw();
  });
  observer.observe(lookBox);
  look.addEventListener("input", read);
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  model.on("change:setting", redraw);
  svg.style.minHeight = `${HEIGHT}px`;
  redraw();
  return () => {
    observer.disconnect();
    model.off("change:setting", redraw);
  };
}

export default { render };
