"""The gradient-flow lab in JupyterLab: every control by mouse and by keyboard, against the numbers of the recording."""

import re

import numpy as np
import pytest
from pages import drawn_decades, expected_decades

from resnet_lib.gradient_grid import grid_images, load_gradient_grid, measure
from resnet_lib.variants import Setting
from resnet_lib.widgets import PRESETS

LAB = ".gradient-flow-lab"
SHORTCUTS = {(0.5, False): "scaled_0.5", (0.9, False): "scaled_0.9", (1, False): "residual", (1, True): "zero_gamma"}
LIMITS = {"gradient": (-20, 10), "variance": (-18, 18)}


@pytest.fixture(scope="module")
def grid():
    return load_gradient_grid()


@pytest.fixture(scope="module")
def opened(jupyterlab):
    name = jupyterlab.write(
        "gradient_flow_lab.ipynb", "from resnet_lib.widgets import GradientFlowLab\nGradientFlowLab()"
    )
    page = jupyterlab.run(name)
    page.wait_for_selector(f"{LAB} .mark")
    return page


@pytest.fixture
def page(opened):
    """The lab, set back to the README's story with fixed axes."""
    choose(opened, "y axes", "the same for all settings")
    press(opened, PRESETS[0])
    return opened


def press(page, preset):
    page.locator(LAB).get_by_role("button", name=preset["name"], exact=True).click()


def radio(page, group, name):
    return page.locator(LAB).get_by_role("group", name=group).get_by_role("radio", name=name, exact=True)


def choose(page, group, name):
    radio(page, group, name).click()
    assert radio(page, group, name).is_checked()


def networks(setting):
    """Role → the recorded network that this setting shows."""
    network = {name: setting[name] for name in ("depth", "activation", "initialisation", "batch_norm")}
    shortcuts = {"plain": "plain", "residual": SHORTCUTS[setting["scale"], setting["zero_gamma"]]}
    roles = ("plain", "residual") if setting["networks"] == "both" else (setting["networks"],)
    return {role: network | {"shortcut": shortcuts[role]} for role in roles}


def assert_drawn(page, grid, setting):
    """Every mark is where the recording says, and no others are there."""
    shown = networks(setting)
    for role in ("plain", "residual"):
        for quantity, table in (("gradient", grid.setting), ("variance", grid.variance)):
            found = drawn_decades(page, f"{LAB} .panel.{quantity}", f".mark.{role}")
            if role not in shown:
                assert len(found) == 0
                continue
            expected = expected_decades(table(**shown[role])["median"], *LIMITS[quantity])
            # A recorded number may lie half a step of 0.002 decades off; a pixel's hundredth more is the browser's.
            np.testing.assert_allclose(found, expected, atol=0.01)


STORY = PRESETS[0]["setting"]
CHOICES = [
    ("activation", "sigmoid", {"activation": "sigmoid"}),
    ("activation", "tanh", {"activation": "tanh"}),
    ("initialisation", "N(0, 0.01²)", {"initialisation": "normal_0.01"}),
    ("initialisation", "Kaiming", {"initialisation": "kaiming"}),
    ("batch norm", "with", {"batch_norm": True}),
    ("networks", "plain", {"networks": "plain"}),
    ("networks", "residual", {"networks": "residual"}),
    ("shortcut’s scale λ", "0.5", {"scale": 0.5}),
    ("shortcut’s scale λ", "0.9", {"scale": 0.9}),
]


@pytest.mark.parametrize(("group", "name", "change"), CHOICES)
def test_a_click_on_a_choice_draws_the_recorded_numbers(page, grid, group, name, change):
    assert_drawn(page, grid, STORY)
    choose(page, group, name)
    assert_drawn(page, grid, STORY | change)


def test_the_depth_slider_by_mouse(page, grid):
    slider = page.locator(LAB).get_by_role("slider", name="depth")
    box = slider.bounding_box()
    for position, depth in ((0, 8), (2, 20), (6, 110)):
        # The thumb's centre travels from 8 px after the start to 8 px before the end.
        slider.click(position={"x": 8 + (box["width"] - 16) * position / 6, "y": box["height"] / 2})
        assert slider.get_attribute("aria-valuetext") == f"{depth} layers"
        assert_drawn(page, grid, STORY | {"depth": depth})


def test_zero_gamma_by_mouse_is_offered_only_where_it_exists(page, grid):
    gamma = page.locator(LAB).get_by_role("checkbox", name=re.compile("γ = 0"))
    assert gamma.is_disabled()
    choose(page, "batch norm", "with")
    gamma.click()
    assert_drawn(page, grid, STORY | {"batch_norm": True, "zero_gamma": True})
    choose(page, "shortcut’s scale λ", "0.9")
    assert gamma.is_disabled()
    assert not gamma.is_checked()
    assert_drawn(page, grid, STORY | {"batch_norm": True, "scale": 0.9})
    choose(page, "networks", "plain")
    assert radio(page, "shortcut’s scale λ", "1").is_disabled()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset["name"])
def test_a_preset_shows_its_setting_and_its_lesson(page, grid, preset):
    press(page, preset)
    assert_drawn(page, grid, preset["setting"])
    assert page.locator(f"{LAB} .lesson").inner_text() == preset["lesson"]
    pressed = page.locator(f"{LAB} button[aria-pressed=true]").all_inner_texts()
    assert pressed == [preset["name"]]


def focused(page):
    """What the focus is on: its role and name as its markup gives them."""
    return page.evaluate(
        "() => { const e = document.activeElement; const label = e.closest('label'); const set = e.closest('fieldset');"
        "  return [set?.querySelector('legend').textContent, e.ariaLabel ?? label?.textContent ?? e.textContent]"
        "    .filter(Boolean).join(': '); }"
    )


def test_the_focus_visits_every_control_in_order(page):
    choose(page, "batch norm", "with")
    page.locator(LAB).get_by_role("button", name=PRESETS[0]["name"]).focus()
    visited = [focused(page)]
    for _ in range(20):
        page.keyboard.press("Tab")
        visited.append(focused(page))
        if visited[-1] == "seed ":
            break
    assert visited == [
        *(preset["name"] for preset in PRESETS),
        "depth",
        "activation: ReLU",
        "initialisation: Xavier",
        "batch norm: with",
        "networks: both",
        "shortcut’s scale λ: 1",
        "γ = 0 at the startneeds batch norm, shortcuts, λ = 1",
        "Read the numbers of one layer",
        "y axes: the same for all settings",
        "Measure it here",
        "seed ",
    ]


def test_every_control_by_keyboard_while_jupyterlab_keeps_its_hands_off(page, grid):
    def active_cell():
        return page.evaluate(
            "[jupyterapp.shell.currentWidget.content.activeCellIndex, document.querySelectorAll('.jp-Cell').length]"
        )

    before = active_cell()
    lab, setting = page.locator(LAB), dict(STORY)

    def type_on(control, key, **change):
        control.focus()
        page.keyboard.press(key)
        setting.update(change)
        assert_drawn(page, grid, setting)

    type_on(lab.get_by_role("slider", name="depth"), "ArrowLeft", depth=44)
    type_on(lab.get_by_role("slider", name="depth"), "ArrowUp", depth=56)
    type_on(lab.get_by_role("slider", name="depth"), "Home", depth=8)
    type_on(lab.get_by_role("slider", name="depth"), "End", depth=110)
    type_on(radio(page, "activation", "ReLU"), "ArrowLeft", activation="tanh")
    type_on(radio(page, "activation", "tanh"), "ArrowUp", activation="sigmoid")
    type_on(radio(page, "initialisation", "Xavier"), "ArrowDown", initialisation="kaiming")
    type_on(radio(page, "batch norm", "without"), "ArrowRight", batch_norm=True)
    type_on(lab.get_by_role("checkbox", name=re.compile("γ = 0")), "Space", zero_gamma=True)
    type_on(radio(page, "shortcut’s scale λ", "1"), "ArrowLeft", scale=0.9, zero_gamma=False)
    type_on(radio(page, "networks", "both"), "ArrowLeft", networks="residual")
    type_on(radio(page, "networks", "residual"), "ArrowLeft", networks="plain")
    type_on(lab.get_by_role("button", name=PRESETS[2]["name"]), "Enter", **PRESETS[2]["setting"])
    type_on(lab.get_by_role("button", name=PRESETS[4]["name"]), "Space", **PRESETS[4]["setting"])
    assert active_cell() == before


def test_fitted_axes_show_the_same_numbers_larger(page, grid):
    press(page, PRESETS[4])
    choose(page, "y axes", "fitted to this one")
    for role, network in networks(PRESETS[4]["setting"]).items():
        found = drawn_decades(page, f"{LAB} .panel.gradient", f".mark.{role}")
        np.testing.assert_allclose(found, np.log10(grid.setting(**network)["median"]), atol=0.01)


def said_ratio(text):
    """The first-to-last ratio that a sentence claims."""
    return spoken_number(re.search(r"the first layer hears (.*?) (?:of|times) what", text)[1])


def spoken_number(text):
    factor, _, exponent = text.replace(",", "").rpartition("10")
    if not re.fullmatch("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", exponent):
        return float(text.replace(",", ""))
    exponent = int(exponent.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    return (float(factor.removesuffix(" × ")) if factor else 1) * 10.0**exponent


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5])
def test_the_words_say_what_the_first_layer_hears(page, grid, number):
    press(page, PRESETS[number])
    for role, network in networks(PRESETS[number]["setting"]).items():
        norms = grid.setting(**network)["median"].to_numpy()
        text = page.locator(f"{LAB} .said p.{role}").inner_text()
        if norms[0] == 0:
            assert "the first layer hears nothing at all: its gradient is exactly 0 in float32" in text
        else:
            # The numbers are said with one digit, or two near 1.
            assert said_ratio(text) == pytest.approx(norms[0] / norms[-2], rel=0.34)


def test_exact_zeros_are_said_and_drawn_apart_from_small_numbers(page):
    press(page, next(preset for preset in PRESETS if preset["name"] == "too small weights"))
    assert np.isneginf(drawn_decades(page, f"{LAB} .panel.gradient", ".mark.plain")).all()
    text = page.locator(f"{LAB} .said p.plain").inner_text()
    assert "exactly 0 in float32" in text
    assert "All 56 layers get exactly 0." in text


def test_the_picture_tells_a_screen_reader_what_it_shows(page):
    label = page.locator(f"{LAB} svg.picture").get_attribute("aria-label")
    for paragraph in page.locator(f"{LAB} .said p").all_inner_texts():
        assert paragraph.strip() in label
    assert page.locator(f"{LAB} .said").get_attribute("aria-live") == "polite"


def test_the_ruler_reads_one_layer_by_keyboard_and_by_mouse(page, grid):
    ruler = page.get_by_role("slider", name="Read the numbers of one layer")
    ruler.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert ruler.get_attribute("aria-valuetext").startswith("Layer 2 of 56, layer1.0.conv1: plain ")
    picture = page.locator(f"{LAB} svg.picture")
    bar = page.locator(f"{LAB} .panel.gradient .mark.residual").nth(29).bounding_box()
    frame = picture.bounding_box()
    picture.hover(position={"x": bar["x"] + bar["width"] / 2 - frame["x"], "y": 100})
    text = page.locator(f"{LAB} .look output").inner_text()
    assert text.startswith(f"Layer 30 of 56, {grid.layers(56)[29]}: plain ")
    residual = grid.setting(**networks(STORY)["residual"])["median"][29]
    assert spoken_number(re.search(r"residual ([\d.,]+)", text)[1]) == pytest.approx(residual, rel=0.06)


def test_measure_it_here_lays_real_gradients_over_the_recording(page, grid):
    press(page, PRESETS[0])
    choose(page, "y axes", "fitted to this one")
    page.get_by_label("seed").fill("7")
    page.get_by_role("button", name="Measure it here").click()
    page.wait_for_function("document.querySelector('.gradient-flow-lab .status').textContent.includes('seed 7')")
    images, labels = (values[:16] for values in grid_images())
    status = page.locator(f"{LAB} .status").inner_text()
    for role, network in networks(STORY).items():
        gradient, variance = measure(Setting(**network), 7, images, labels)
        found = drawn_decades(page, f"{LAB} .panel.gradient", f".measured.{role}")
        # The same weights and images on the same machine, though perhaps summed by another number of threads.
        np.testing.assert_allclose(found, np.log10(gradient), atol=0.02)
        found = drawn_decades(page, f"{LAB} .panel.variance", f".measured.{role}")
        np.testing.assert_allclose(found, np.log10(variance), atol=0.02)
        recorded = grid.setting(**network)
        apart = np.maximum(recorded["minimum"] / gradient, gradient / recorded["maximum"])
        said = re.search(rf"{role} \(seed 7, .* s\): largest .* ×(\S+), at layer (\d+) \((\S+)\)", status)
        assert float(said[1]) == pytest.approx(apart.max(), rel=0.06)
        assert grid.layers(56)[int(said[2]) - 1] == said[3]
        assert apart[int(said[2]) - 1] == pytest.approx(apart.max(), rel=0.02)
    # It belongs to its setting: gone with another one, there again with the same.
    press(page, PRESETS[4])
    assert page.locator(f"{LAB} .measured").count() == 0
    press(page, PRESETS[0])
    assert page.locator(f"{LAB} .panel.gradient .measured").count() == 2 * 56


def test_a_wrong_seed_is_refused_in_words(page):
    page.get_by_label("seed").fill("-1")
    page.get_by_role("button", name="Measure it here").click()
    assert "whole number from 0" in page.locator(f"{LAB} .status").inner_text()
    page.get_by_label("seed").fill("3")


def test_python_and_page_share_one_setting(page, grid):
    page.evaluate(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute("
        '  { code: \'_.setting = _.setting | {"depth": 20, "networks": "residual"}\' }).done'
    )
    page.wait_for_function("document.querySelectorAll('.gradient-flow-lab .panel.gradient .mark').length === 20")
    assert_drawn(page, grid, STORY | {"depth": 20, "networks": "residual"})


def test_a_phone_sees_all_of_it(page, grid):
    page.set_viewport_size({"width": 360, "height": 740})
    try:
        page.wait_for_function("document.querySelector('.gradient-flow-lab .picture').clientWidth < 360")
        press(page, PRESETS[4])
        assert_drawn(page, grid, PRESETS[4]["setting"])
        assert page.locator(LAB).evaluate("node => node.scrollWidth <= node.clientWidth")
    finally:
        page.set_viewport_size({"width": 1280, "height": 1000})
        page.wait_for_function("document.querySelector('.gradient-flow-lab .picture').clientWidth > 600")


CONTRAST = """(selector) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const lab = document.querySelector(".gradient-flow-lab"), node = lab.querySelector(selector), style = getComputedStyle(node);
  const ground = light(rgb(getComputedStyle(lab).backgroundColor));
  const ink = light(rgb(node instanceof SVGElement ? style.fill : style.color));
  return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
}"""  # noqa: E501


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_text_and_marks_stand_out_in_both_themes(page, theme):
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    dark = theme.endswith("Dark")
    page.wait_for_function("dark => document.body.dataset.jpThemeLight === String(!dark)", arg=dark)
    for selector in (".said p", ".lesson", "legend", ".panel .title", ".panel .tick", ".status"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    for selector in (".mark.plain", ".mark.residual"):
        assert page.evaluate(CONTRAST, f".panel {selector}") >= 3, selector


# The last one, for it takes the kernel away.
def test_after_a_restart_of_the_kernel_the_lab_plays_on_and_says_what_to_do(page, grid):
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    choose(page, "activation", "tanh")
    assert_drawn(page, grid, STORY | {"activation": "tanh"})
    page.get_by_role("button", name="Measure it here").click()
    assert "run this cell again" in page.locator(f"{LAB} .status").inner_text()
