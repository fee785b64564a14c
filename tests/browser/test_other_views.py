"""The shortcut lab and the live curve in JupyterLab, and what the gradient-flow lab does without a kernel."""

import itertools
import json

import numpy as np
import pytest
import torch
from pages import drawn_decades, expected_decades

from resnet_lib.widgets import GradientFlowLab
from resnet_lib.widgets.script import STATIC, script

LAB = ".shortcut-lab"
START = {"scale": 1, "branch": 0.1, "path": "nothing", "blocks": 27}
ACTIVATIONS = {"nothing": lambda z: z, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
LIVE_CURVE = """
import pandas as pd
from resnet_lib.widgets import LiveCurve
curve = LiveCurve(epochs=4)
curve.update(pd.DataFrame({"epoch": [0, 1, 2], "train_accuracy": [0.2, 0.5, 0.75], "test_accuracy": [0.1, 0.4, 0.7]}))
curve"""
# Four images, but three labels.
FAULTY_LAB = """
import torch
from resnet_lib.widgets import GradientFlowLab
GradientFlowLab(images=torch.zeros(4, 3, 32, 32), labels=torch.tensor([0, 1, 2]))"""


@pytest.fixture(scope="module")
def page(jupyterlab):
    name = jupyterlab.write(
        "views.ipynb", "from resnet_lib.widgets import ShortcutLab\nShortcutLab()", LIVE_CURVE, FAULTY_LAB
    )
    page = jupyterlab.run(name)
    page.wait_for_selector(f"{LAB} .mark")
    page.wait_for_selector(".live-curve circle")
    return page


def chain(scale, branch, path, blocks):
    """∂x_ℓ/∂x₀ for ℓ = 0, …, blocks, by autograd."""
    start = torch.ones((), dtype=torch.float64, requires_grad=True)
    signals = itertools.accumulate(range(blocks), lambda x, _: ACTIVATIONS[path](scale * x + branch * x), initial=start)
    return [torch.autograd.grad(x, start, retain_graph=True)[0].item() for x in signals]


def assert_chain(page, setting):
    for role, values in (("residual", chain(**setting)), ("plain", chain(**setting | {"scale": 0}))):
        found = drawn_decades(page, f"{LAB} svg.picture", f".mark.{role}")
        np.testing.assert_allclose(found, expected_decades(np.abs(values)), atol=0.01)


def test_shortcut_lab_by_keyboard(page):
    lab, setting = page.locator(LAB), dict(START)
    assert_chain(page, setting)

    def type_on(control, key, **change):
        control.focus()
        page.keyboard.press(key)
        setting.update(change)
        assert_chain(page, setting)

    type_on(lab.get_by_role("slider", name="shortcut’s scale"), "ArrowLeft", scale=0.95)
    type_on(lab.get_by_role("slider", name="residual branch"), "Home", branch=-0.5)
    type_on(lab.get_by_role("slider", name="blocks"), "End", blocks=54)
    type_on(lab.get_by_role("radio", name="nothing"), "ArrowRight", path="relu")
    type_on(lab.get_by_role("slider", name="shortcut’s scale"), "Home", scale=0)
    assert "exactly 0, for the signal is not positive" in lab.locator(".said").inner_text()
    type_on(lab.get_by_role("radio", name="ReLU"), "ArrowRight", path="tanh")


def test_shortcut_lab_by_mouse(page):
    lab = page.locator(LAB)
    setting = {"path": "sigmoid", "scale": 0.6, "branch": 0, "blocks": 54}
    lab.get_by_role("radio", name="sigmoid").click()
    for name in ("shortcut’s scale", "residual branch"):
        lab.get_by_role("slider", name=name).click()  # in the middle
    box = lab.get_by_role("slider", name="blocks").bounding_box()
    lab.get_by_role("slider", name="blocks").click(position={"x": box["width"] - 8, "y": box["height"] / 2})
    assert_chain(page, setting)
    bound = (0.6 / 4) ** np.arange(55)
    assert (np.abs(chain(**setting)) <= bound).all()
    said = lab.locator(".said").inner_text()
    assert "at most |((0.6 + 0) / 4)⁵⁴| = 3 × 10⁻⁴⁵" in said


def test_live_curve_draws_its_points_at_their_heights(page):
    points = page.evaluate(
        """() => {
          const svg = document.querySelector(".live-curve svg");
          const number = (node, name) => Number(node.getAttribute(name));
          const percent = [...svg.querySelectorAll("text")].filter((node) => /^(0|100)%$/.test(node.textContent));
          const lines = [...svg.querySelectorAll("line.grid")].map((node) => number(node, "y1"));
          return {
            bottom: Math.max(...lines), top: Math.min(...lines), labels: percent.map((node) => node.textContent),
            points: [0, 1].map((i) =>
              [...svg.querySelectorAll(`circle.series-${i}`)].map((node) => number(node, "cy"))),
            label: svg.getAttribute("aria-label"),
          };
        }"""
    )
    assert points["labels"] == ["0%", "100%"]
    heights = (points["bottom"] - np.array(points["points"])) / (points["bottom"] - points["top"])
    np.testing.assert_allclose(heights, [[0.2, 0.5, 0.75], [0.1, 0.4, 0.7]], atol=1e-3)
    assert points["label"] == "Accuracy by epoch. Epoch 3 of 4: train accuracy 75%, test accuracy 70%"


def test_an_error_in_the_kernel_is_told_in_the_page(page):
    page.get_by_role("button", name="Measure it here").click()
    page.wait_for_function("document.querySelector('.status').textContent.startsWith('The measurement failed')")
    text = page.locator(".gradient-flow-lab .status").inner_text()
    assert "ValueError" in text
    assert "(4, 3, 32, 32)" in text
    assert page.get_by_role("button", name="Measure it here").is_enabled()


BARE_PAGE = """<!doctype html><meta charset="utf-8"><style>{css}</style><div id="place"></div><script type="module">
const state = {state}, listeners = {{}};
const module = await import(URL.createObjectURL(new Blob([{code}], {{ type: "text/javascript" }})));
module.default.render({{ el: document.getElementById("place"), model: {{
  get: (key) => state[key],
  set(key, value) {{ state[key] = value; listeners[`change:${{key}}`]?.(); }},
  on: (event, listener) => (listeners[event] = listener),
  off() {{}}, save_changes() {{}}, send() {{}},
}} }});
</script>"""


def test_without_a_kernel_the_lab_plays_on_and_says_why_it_cannot_measure(browser):
    lab = GradientFlowLab()
    state = {name: getattr(lab, name) for name in ("recording", "presets", "setting")}
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    code = json.dumps(script("gradient_flow_lab.js"))
    css = (STATIC / "lab.css").read_text(encoding="utf-8")
    page.set_content(BARE_PAGE.format(css=css, state=json.dumps(state), code=code))
    page.get_by_role("radio", name="tanh").click()
    assert "tanh" in page.locator(".lesson").inner_text()
    page.wait_for_function("document.querySelector('.status').textContent.startsWith('No kernel answers')")
    assert page.get_by_role("button", name="Measure it here").is_disabled()
    assert not errors
