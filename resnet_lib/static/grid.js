// The recorded gradient-flow experiment in the page (`GradientGrid.payload` in Python), and what its numbers say.
import { tell } from "./svg.js";

export class Grid {
  constructor(payload) {
    this.payload = payload;
    this.axes = payload.axes;
    this.arrays = new Map();
  }

  // The stored codes of a quantity at one depth: round(log10(value) / step), and three codes that are no numbers.
  codes(quantity, depth) {
    const key = `${quantity}.${depth}`;
    if (!this.arrays.has(key)) {
      const bytes = Uint8Array.from(atob(this.payload[quantity][depth]), (c) => c.charCodeAt(0));
      this.arrays.set(key, new Int16Array(bytes.buffer));
    }
    return this.arrays.get(key);
  }

  // Lowest, middle and highest code over the seeds, for each layer ("gradient_norm") or point ("forward_variance").
  // Sorting codes is sorting values: exact zero has the lowest code, not finite the highest.
  profile(quantity, network) {
    const { axes } = this;
    const length = this.payload[quantity === "gradient_norm" ? "layers" : "points"][network.depth].length;
    const codes = this.codes(quantity, network.depth);
    let row = 0;
    for (const axis of ["activation", "initialisation", "batch_norm", "shortcut"]) {
      row = row * axes[axis].length + axes[axis].indexOf(network[axis]);
    }
    const seeds = axes.seed.length;
    const sorted = Array.from({ length }, (_, i) =>
      axes.seed.map((_, seed) => codes[(row * seeds + seed) * length + i]).sort((a, b) => a - b),
    );
    return {
      minimum: sorted.map((values) => values[0]),
      median: sorted.map((values) => values[(seeds - 1) >> 1]),
      maximum: sorted.map((values) => values[seeds - 1]),
    };
  }

  value(code) {
    if (code === this.payload.zero) return 0;
    if (code === this.payload.not_finite) return Infinity;
    return 10 ** (code * this.payload.step);
  }

  // The name on the file's shortcut axis of a shortcut with this scale.
  shortcutName(scale, zeroGamma) {
    const names = Object.entries(this.payload.shortcut_scales).filter(([, value]) => value === scale);
    return names.map(([name]) => name).find((name) => (name === "zero_gamma") === zeroGamma);
  }
}

// What the first layer hears of what the last convolution does, and how strong both are. codes: one a layer, the linear
// layer after the last convolution included: its weights see pooled numbers instead of a picture, so it compares badly.
export function firstAgainstLast(grid, codes) {
  const [first, last] = [codes[0], codes.at(-2)].map((code) => grid.value(code));
  const norms = `gradient norms ${tell(first)} and ${tell(last)}`;
  if (first === Infinity || last === Infinity)
    return `first layer and last convolution have ${norms}: float32 overflows`;
  if (last === 0 && first === 0)
    return "neither the first layer nor the last convolution hears anything: exactly 0 in float32";
  if (last === 0)
    return `the first layer’s gradient norm is ${tell(first)}, the last convolution’s exactly 0 in float32`;
  if (first === 0) return "the first layer hears nothing at all: its gradient is exactly 0 in float32";
  return `the first layer ${hears(first / last)} (${norms})`;
}

function hears(ratio) {
  if (ratio > 0.95 && ratio < 1.05) return "hears as much as the last convolution does";
  if (ratio < 1) return `hears ${tell(ratio)} of what the last convolution does`;
  return `hears ${tell(ratio)} times what the last convolution does`;
}

// A second sentence where the picture has more to say: exact zeros, or a whole net without gradient.
export function remark(grid, codes) {
  const values = codes.map((code) => grid.value(code));
  const zeros = values.filter((value) => value === 0).length;
  if (zeros === values.length) return `All ${zeros} layers get exactly 0.`;
  if (zeros) return `${zeros} of ${values.length} layers get exactly 0.`;
  const strongest = Math.max(...values);
  return strongest < 1e-6 ? `The whole net starves: no layer's gradient norm is above ${tell(strongest)}.` : "";
}

// How far a measurement lies outside the recorded range, in words. measured: codes; recorded: a profile.
export function difference(grid, measured, recorded, layers) {
  const { zero, not_finite: notFinite, step } = grid.payload;
  const special = (code) => code === zero || code === notFinite;
  let worst = 0,
    at = 0,
    unlike = 0;
  measured.forEach((code, layer) => {
    const [low, high] = [recorded.minimum[layer], recorded.maximum[layer]];
    if (code >= low && code <= high) return;
    // From an exact zero to a number there is no factor.
    if (special(code) || special(low) || special(high)) unlike += 1;
    else if (Math.max(low - code, code - high) > worst) [worst, at] = [Math.max(low - code, code - high), layer];
  });
  const parts = [];
  if (worst)
    parts.push(
      `largest difference from the recorded range ×${tell(10 ** (worst * step))}, at layer ${at + 1} (${layers[at]})`,
    );
  if (unlike)
    parts.push(`${unlike} ${unlike === 1 ? "layer is" : "layers are"} exactly 0 or not finite in only one of the two`);
  return parts.join("; ") || "inside the recorded range at every layer";
}
