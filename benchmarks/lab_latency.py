"""How fast the gradient-flow lab answers, in JupyterLab and Chromium: `python benchmarks/lab_latency.py`.

Every control is moved through all its values, several times over, by the event that a person's hand or key sends.

- drawn: from the event until the new picture has its style and layout, which is all that the lab has to do.
- shown: from the event until the browser has painted the next frame. A screen takes a new frame every 16.7 ms, so that
  half a frame of waiting, on average, is in it whatever the lab does.
- measured: from a press on "Measure it here" at depth 56, both networks, until the answer is drawn.

Prints the median, the 95th percentile and the slowest of each, in ms.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "browser"))
from lab_server import CHROMIUM_FLAGS, JupyterLab, chromium_path
from playwright.sync_api import sync_playwright

ROUNDS = 5
MEASUREMENTS = 9
# Move every control through its values; a short pause between two moves, of no round number of frames.
MOVE_ALL = """async (rounds) => {
  const lab = document.querySelector(".gradient-flow-lab"), picture = lab.querySelector("svg.picture");
  const painted = () => new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  }));
  const moves = [];
  for (const input of lab.querySelectorAll(".controls input[type=range]")) {
    for (let value = Number(input.min); value <= Number(input.max); value++) {
      moves.push(["depth", () => { input.value = value; input.dispatchEvent(new Event("input", { bubbles: true })); }]);
    }
  }
  for (const input of lab.querySelectorAll(".controls input[type=radio], .controls input[type=checkbox]")) {
    const name = input.closest("fieldset")?.querySelector("legend").textContent ?? "γ = 0";
    moves.push([name, () => input.click(), input]);
  }
  for (const button of lab.querySelectorAll(".presets button")) moves.push(["presets", () => button.click()]);
  const times = [];
  for (let round = 0; round < rounds; round++) {
    for (const [name, move, input] of moves) {
      await new Promise((done) => setTimeout(done, 37 + 20 * Math.random()));
      if (input?.matches(":disabled") || (input?.type === "radio" && input.checked)) continue;
      const start = performance.now();
      move();
      picture.getBoundingClientRect();
      const drawn = performance.now() - start;
      await painted();
      times.push([name, drawn, performance.now() - start]);
    }
  }
  return times;
}"""
MEASURE = """async (seed) => {
  const lab = document.querySelector(".gradient-flow-lab"), status = lab.querySelector(".status");
  lab.querySelector("input[type=number]").value = seed;
  const start = performance.now();
  lab.querySelector(".measure button").click();
  while (!status.textContent.includes(`(seed ${seed},`)) await new Promise((done) => setTimeout(done, 1));
  lab.querySelector("svg.picture").getBoundingClientRect();
  return performance.now() - start;
}"""


def line(name: str, times: list[float]) -> str:
    median, late, slowest = np.median(times), np.percentile(times, 95), np.max(times)
    return f"{name:<34} {median:8.1f} {late:8.1f} {slowest:8.1f}   ({len(times)} moves)"


def main() -> None:
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        lab = JupyterLab(Path(folder), browser)
        try:
            lab.wait()
            cell = "from resnet_lib.widgets import GradientFlowLab\nGradientFlowLab()"
            page = lab.run(lab.write("latency.ipynb", cell))
            page.wait_for_selector(".gradient-flow-lab .mark")
            page.wait_for_selector(".gradient-flow-lab .measure button:enabled")
            times = page.evaluate(MOVE_ALL, ROUNDS)
            page.get_by_role("button", name="the README’s story").click()
            measured = [page.evaluate(MEASURE, 10 + i) for i in range(MEASUREMENTS)]
        finally:
            lab.stop()
    print(f"{'ms':<34} {'median':>8} {'95 %':>8} {'slowest':>8}")
    for column, what in ((1, "drawn"), (2, "shown")):
        for name in dict.fromkeys(row[0] for row in times):
            print(line(f"{what}, {name}", [row[column] for row in times if row[0] == name]))
        print(line(f"{what}, all controls", [row[column] for row in times]))
    print(line("measured, depth 56, both networks", measured))


if __name__ == "__main__":
    main()
