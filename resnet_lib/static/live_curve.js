// Accuracy by epoch as SVG; redrawn whenever Python sends new points.
import { element } from "./svg.js";

const WIDTH = 640,
  HEIGHT = 260,
  LEFT = 48,
  RIGHT = 110,
  TOP = 14,
  BOTTOM = 40;

function percent(share) {
  return `${Math.round(100 * share)}%`;
}

function render({ model, el }) {
  el.classList.add("live-curve");
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  // What a screen reader says after each epoch.
  const spoken = document.createElement("div");
  spoken.setAttribute("aria-live", "polite");
  spoken.style.cssText = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)";
  el.append(svg, spoken);

  function draw() {
    const epochs = model.get("epochs");
    const curves = model.get("curves").map(([name, ...shares]) => ({ name, shares }));
    const x = (epoch) => LEFT + ((WIDTH - LEFT - RIGHT) * epoch) / epochs;
    const y = (share) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share;
    svg.replaceChildren();

    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      svg.append(element("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(share), y2: y(share) }));
      svg.append(element("text", { x: LEFT - 8, y: y(share) + 4, "text-anchor": "end" }, percent(share)));
    }
    const step = Math.max(1, Math.ceil(epochs / 10));
    for (let epoch = step; epoch <= epochs; epoch += step) {
      svg.append(element("text", { x: x(epoch), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, epoch));
    }
    svg.append(element("text", { x: x(epochs / 2), y: HEIGHT - 5, "text-anchor": "middle" }, "epoch"));
    svg.append(element("line", { class: "guess", x1: LEFT, x2: WIDTH - RIGHT, y1: y(0.1), y2: y(0.1) }));
    svg.append(element("text", { x: WIDTH - RIGHT + 8, y: y(0.1) + 4 }, "guessing"));

    // Labels at the curves' ends, pushed apart where they would overlap.
    const ends = curves.map(({ shares }) => y(shares.at(-1) ?? 0) + 4);
    if (ends.length === 2 && Math.abs(ends[0] - ends[1]) < 15) {
      const upper = ends[0] <= ends[1] ? 0 : 1;
      const middle = (ends[0] + ends[1]) / 2;
      ends[upper] = middle - 7.5;
      ends[1 - upper] = middle + 7.5;
    }
    curves.forEach(({ name, shares }, index) => {
      if (shares.length === 0) return;
      const points = shares.map((share, i) => [x(i + 1), y(share)]);
      svg.append(
        element("path", { class: `curve series-${index}`, d: "M" + points.map((p) => p.join(",")).join("L") }),
      );
      for (const [cx, cy] of points) svg.append(element("circle", { class: `series-${index}`, cx, cy, r: 3 }));
      const label = `${name} ${percent(shares.at(-1))}`;
      svg.append(element("text", { x: points.at(-1)[0] + 8, y: ends[index] }, label));
    });

    const done = curves[0]?.shares.length ?? 0;
    const said = curves.map(({ name, shares }) => `${name} accuracy ${percent(shares.at(-1))}`).join(", ");
    spoken.textContent = done ? `Epoch ${done} of ${epochs}: ${said}` : "";
    svg.setAttribute(
      "aria-label",
      done ? `Accuracy by epoch. ${spoken.textContent}` : "Accuracy by epoch, empty so far",
    );
  }

  model.on("change:curves", draw);
  draw();
  return () => model.off("change:curves", draw);
}

export default { render };
