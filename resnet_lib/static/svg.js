// Small helpers of every view: elements, and numbers in words.

export function element(name, attributes = {}, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// `html("button", { type: "button" }, "text", child)`. An attribute that is true stands alone, one that is false is left out.
export function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// 10 to a whole power: "10⁻¹¹".
export function power(exponent) {
  return (
    "10" +
    String(exponent)
      .replace("-", "⁻")
      .replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])
  );
}

// A number as a person would say it: "0.75", "1,300", "4 × 10⁻¹¹".
export function tell(value) {
  if (value === 0) return "exactly 0";
  if (!Number.isFinite(value)) return "not finite";
  if (value >= 9.95e-4 && value < 9950)
    return Number(value.toPrecision(2)).toLocaleString("en", { maximumFractionDigits: 20 });
  const [digit, exponent] = value.toExponential(0).split("e");
  return (digit === "1" ? "" : `${digit} × `) + power(Number(exponent));
}

// Puts every `data-lm-suppress-shortcuts` where JupyterLab looks for it: it would take arrow keys and Enter for itself.
export function keepKeys(root) {
  for (const node of root.querySelectorAll("input, button, summary"))
    node.setAttribute("data-lm-suppress-shortcuts", "true");
}

let groups = 0;

// Radio buttons side by side. options: [[value, text], ...]; `chosen(value)` is called when a person picks one.
// Returns the fieldset; `show(value)` on it marks the current one.
export function radioGroup(legend, options, chosen) {
  const name = `resnet-lab-${groups++}-${Math.random().toString(36).slice(2)}`;
  const inputs = options.map(([value]) => html("input", { type: "radio", name, value: String(value) }));
  const labels = options.map(([, text], i) => html("label", {}, inputs[i], html("span", {}, text)));
  inputs.forEach((input, i) => input.addEventListener("change", () => chosen(options[i][0])));
  const fieldset = html("fieldset", {}, html("legend", {}, legend), html("div", { class: "choices" }, ...labels));
  fieldset.show = (value) => inputs.forEach((input, i) => (input.checked = options[i][0] === value));
  return fieldset;
}

// A slider over a list of values, with the current one in words and, if `ticks` is given, texts under its positions.
// `show(index, text)` on the returned element moves it.
export function slider(label, { min = 0, max, step = 1, ticks = [] }, moved) {
  const input = html("input", { type: "range", min, max, step, "aria-label": label });
  const output = html("output");
  const scale = html("div", { class: "ticks", "aria-hidden": "true" }, ...ticks.map((text) => html("span", {}, text)));
  const node = html(
    "label",
    { class: "slider" },
    html("span", { class: "name" }, label, " ", output),
    input,
    ...(ticks.length ? [scale] : []),
  );
  input.addEventListener("input", () => moved(Number(input.value)));
  node.show = (value, text) => {
    input.value = value;
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  return node;
}
