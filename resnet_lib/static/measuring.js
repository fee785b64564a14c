// The part of the gradient-flow lab that needs a kernel: it asks for a measurement, waits, and says how it compares.
import { html } from "./svg.js";
import { difference } from "./grid.js";

const PATIENCE = 4000; // ms without an answer before the page says that no kernel answers
export const OFFER = "Draws new weights and runs autograd on a few images in your kernel: a second or so.";
const SILENCE = "No answer yet: the kernel may be busy with another cell.";
const GONE = "The kernel that made this view was restarted or stopped: run this cell again to measure.";
const NO_KERNEL =
  "No kernel answers: this is a static page, or the kernel is stopped or busy. Nothing can be measured here; the " +
  "recording above needs none.";

// The button that asks the kernel to measure, the seed, and a line that says what happens. `networks()` says what to measure.
export function measuring(model, networks) {
  const button = html("button", { type: "button", disabled: true }, "Measure it here");
  const seed = html("input", { type: "number", min: 0, max: 999999, step: 1, value: 3 });
  const status = html("p", { class: "status", role: "status" }, "Waiting for a kernel …");
  const node = html("div", { class: "measure" }, button, html("label", {}, "seed ", seed), status);
  let waiting;
  const sent = (message) => {
    try {
      model.send(message);
      return true;
    } catch {
      return false; // JupyterLab throws where the view has outlived its kernel
    }
  };
  const later = (text) => (waiting = setTimeout(() => (status.textContent = text), PATIENCE));
  node.say = (text) => {
    clearTimeout(waiting);
    button.removeAttribute("aria-busy");
    button.disabled = false;
    status.textContent = text;
  };
  button.addEventListener("click", () => {
    if (seed.value === "" || !seed.checkValidity())
      return node.say("The seed must be a whole number from 0 to 999,999.");
    node.say("Measuring …");
    button.setAttribute("aria-busy", "true");
    later(SILENCE);
    if (!sent({ kind: "measure", seed: Number(seed.value), networks: networks() })) node.say(GONE);
  });
  // Settings may change while a question is out, or before a kernel has answered at all.
  node.idle = () => !button.disabled && !button.hasAttribute("aria-busy");
  later(NO_KERNEL);
  sent({ kind: "hello" });
  return node;
}

// How the measurements in the picture compare with the recording; undefined if there are none.
export function comparison(grid, series) {
  const measured = series.filter((one) => one.measured);
  if (!measured.length) return undefined;
  const lines = measured.map(
    ({ role, network, measured: own, gradient }) =>
      `${role} (seed ${own.seed}, ${own.seconds.toFixed(1)} s): ${difference(grid, own.gradient, gradient, grid.payload.layers[network.depth])}`,
  );
  return [
    `The short lines were measured here, on ${measured[0].measured.images} images. The recording had 64, whose gradients cancel more, and seeds ${grid.axes.seed.join(", ")}.`,
    ...lines,
  ].join("\n");
}
