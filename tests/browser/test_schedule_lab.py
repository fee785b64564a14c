"""The schedule lab: its rates are Python's, its picture shows them, by mouse and by keyboard, wide and narrow."""

import json
import re
from itertools import product

import numpy as np
import pytest
from pages import exponent
from test_other_views import BARE_PAGE

from resnet_lib.widgets import ScheduleLab
from resnet_lib.widgets.script import STATIC, script

LAB = ".schedule-lab"
START = {"schedule": "multi_step", "peak_lr": 0.1, "milestones": [80, 110, 130], "factor": 0.1, "warmup_epochs": 0}
PRESETS = ScheduleLab().presets


def rates(setting, epochs=150):
    """The rate of each epoch as training would use it."""
    lab = ScheduleLab(epochs=epochs)
    lab.setting = setting
    return [lab.recipe.learning_rate(epoch) for epoch in range(epochs)]


# In Python


def test_text_form_names_the_schedule():
    assert repr(ScheduleLab()) == (
        "ScheduleLab(schedule='multi_step', peak_lr=0.1, milestones=(80, 110, 130), factor=0.1, warmup_epochs=0, "
        "epochs=150)"
    )
    assert "milestones=(), " in repr(ScheduleLab("cosine", milestones=(), epochs=30))


def test_recipe_is_the_readmes_under_another_schedule():
    recipe = ScheduleLab("multi_step", 0.2, (60, 20), 0.5, 5, epochs=60).recipe
    assert (recipe.schedule, recipe.peak_lr, recipe.milestones) == ("multi_step", 0.2, (20,))
    assert (recipe.factor, recipe.warmup_epochs, recipe.epochs, recipe.batch_size) == (0.5, 5, 60, 32)
    assert recipe.learning_rate(20) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "step"}, "schedule='step': expected one of 'constant'"),
        ({"peak_lr": 0.3}, "peak_lr=0.3: expected one of 0.001"),
        ({"factor": 10}, "factor=10: expected one of 0.5"),
        ({"warmup_epochs": 21}, "warmup_epochs=21"),
        ({"milestones": (80, 151)}, "expected 3 whole epochs from 1 to 150"),
        ({"milestones": (0,)}, "whole epochs from 1"),
        ({"milestones": (10.5,)}, "whole epochs"),
        ({"milestones": (10, 20, 30, 40)}, "expected 3"),
        ({"epochs": 19}, "epochs=19: expected at least 20"),
    ],
)
def test_what_is_wrong_with_an_argument_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        ScheduleLab(**arguments)


def test_a_setting_with_other_names_is_refused():
    lab = ScheduleLab()
    with pytest.raises(ValueError, match="setting has schedule: expected schedule, peak_lr"):
        lab.setting = {"schedule": "cosine"}


# The page alone, without a kernel


def bare(browser, width=1000, scheme="light", **arguments):
    """The lab in an otherwise empty page."""
    lab = ScheduleLab(**arguments)
    state = {name: getattr(lab, name) for name in ("epochs", "choices", "presets", "setting")}
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    css = (STATIC / "lab.css").read_text(encoding="utf-8")
    code = json.dumps(script("schedule_lab.js"))
    page.set_content(BARE_PAGE.format(css=css, state=json.dumps(state), code=code))
    page.wait_for_selector(f"{LAB} svg.picture .rate-line.own", state="attached")
    return page


def test_the_page_computes_the_rates_that_training_uses(browser):
    settings = [
        START | {"schedule": schedule, "peak_lr": peak, "milestones": drops, "factor": factor, "warmup_epochs": warmup}
        for schedule, peak, drops, factor, warmup in product(
            ("constant", "multi_step", "cosine", "one_cycle", "linear"),
            (0.001, 0.2, 1),
            ([20, 5, 12], [1, 1, 19]),
            (0.5, 0.01),
            (0, 1, 20),
        )
    ]
    page = browser.new_page()
    code = script("schedule_lab.js") + "\nexport { rates };\n"
    for epochs in (20, 33, 150):
        computed = page.evaluate(
            "async ([code, settings, epochs]) => {"
            "  const module = await import(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));"
            "  return settings.map((setting) => module.rates(setting, epochs)); }",
            [code, settings, epochs],
        )
        expected = [rates(setting, epochs) for setting in settings]
        np.testing.assert_allclose(computed, expected, rtol=1e-12, atol=1e-18)
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (480, "light"), (760, "light"), (1300, "dark")])
def test_all_of_it_is_seen_at_any_width(browser, width, scheme):
    page = bare(browser, width, scheme)
    for preset in PRESETS:
        page.get_by_role("button", name=preset["name"], exact=True).click()
        assert_drawn(page, preset["setting"])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


CONTRAST = """(selector) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const lab = document.querySelector(".schedule-lab"), node = lab.querySelector(selector), style = getComputedStyle(node);
  const ground = light(rgb(getComputedStyle(lab).backgroundColor));
  const ink = light(rgb(node.matches(".rate-line") ? style.stroke : node instanceof SVGElement ? style.fill : style.color));
  return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
}"""  # noqa: E501


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_in_light_and_dark(browser, scheme):
    page = bare(browser, scheme=scheme)
    for selector in (".said p", ".lesson", "legend", ".picture .title", ".picture .tick", ".look output"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    for selector in (".rate-line.own", ".rate-line.readme"):
        assert page.evaluate(CONTRAST, f".picture {selector}") >= 3, selector
    page.close()


# In JupyterLab


@pytest.fixture(scope="module")
def opened(jupyterlab):
    name = jupyterlab.write("schedule_lab.ipynb", "from resnet_lib.widgets import ScheduleLab\nScheduleLab()")
    page = jupyterlab.run(name)
    page.wait_for_selector(f"{LAB} svg.picture .rate-line.own", state="attached")
    return page


@pytest.fixture
def page(opened):
    """The lab, set back to the README's schedule on a logarithmic axis."""
    radio(opened, "axis of the rate", "logarithmic").click()
    opened.locator(LAB).get_by_role("button", name="the README").click()
    return opened


def radio(page, group, name):
    return page.locator(LAB).get_by_role("group", name=group).get_by_role("radio", name=name, exact=True)


def slider(page, name):
    return page.locator(LAB).get_by_role("slider", name=name)


def geometry(page):
    return page.evaluate(
        """() => {
          const svg = document.querySelector(".schedule-lab svg.picture");
          const number = (node, name) => Number(node.getAttribute(name));
          const ends = [...svg.querySelectorAll("text.tick[text-anchor=end]")];
          const path = (kind) => svg.querySelector(`.rate-line.${kind}`).getAttribute("d");
          return {
            lines: [...svg.querySelectorAll("line.grid")].map((node) => number(node, "y1")),
            labels: ends.map((node) => [node.textContent, number(node, "y") - 4]),
            own: path("own"), readme: path("readme"),
          };
        }"""
    )


def drawn(page, line="own", logarithmic=True):
    """The rates that a line stands for, from its heights among the lines and labels of the axis."""
    shape = geometry(page)
    assert [height for _, height in shape["labels"]] == shape["lines"], "every line has its label"
    value = exponent if logarithmic else float
    labels = [value(text) for text, _ in shape["labels"]]
    slope, at_zero = np.polyfit(shape["lines"], labels, 1)
    assert np.allclose(np.polyval([slope, at_zero], shape["lines"]), labels, atol=1e-3), "evenly spaced"
    heights = [float(y) for y in re.findall(r"(?:V|M[\d.]+,)([\d.]+)", shape[line])]
    along = [float(x) for x in re.findall(r"H([\d.]+)", shape[line])]
    assert len(heights) == len(along)
    assert np.allclose(np.diff(along), along[1] - along[0], atol=1e-6), "epochs are equally wide"
    values = np.polyval([slope, at_zero], heights)
    return 10.0**values if logarithmic else values


def assert_drawn(page, setting):
    """The line is where Python says; what lies below the axis is drawn at its edge."""
    np.testing.assert_allclose(drawn(page), np.maximum(rates(setting), 1e-7), rtol=1e-6)
    np.testing.assert_allclose(drawn(page, "readme"), rates(START), rtol=1e-6)


def test_every_control_by_keyboard_while_jupyterlab_keeps_its_hands_off(page):
    def active_cell():
        return page.evaluate(
            "[jupyterapp.shell.currentWidget.content.activeCellIndex, document.querySelectorAll('.jp-Cell').length]"
        )

    before, setting = active_cell(), dict(START)
    assert_drawn(page, setting)

    def type_on(control, key, **change):
        control.focus()
        page.keyboard.press(key)
        setting.update(change)
        assert_drawn(page, setting)

    type_on(slider(page, "first drop"), "Home", milestones=[1, 110, 130])
    type_on(slider(page, "first drop"), "ArrowRight", milestones=[2, 110, 130])
    type_on(slider(page, "second drop"), "End", milestones=[2, 150, 130])
    type_on(slider(page, "third drop"), "ArrowLeft", milestones=[2, 150, 129])
    type_on(radio(page, "a drop multiplies the rate by", "0.1"), "ArrowLeft", factor=0.2)
    type_on(slider(page, "peak rate"), "End", peak_lr=1)
    type_on(slider(page, "peak rate"), "ArrowLeft", peak_lr=0.5)
    type_on(slider(page, "warm-up"), "ArrowRight", warmup_epochs=1)
    type_on(slider(page, "warm-up"), "End", warmup_epochs=20)
    type_on(radio(page, "schedule", "multi-step"), "ArrowRight", schedule="cosine")
    type_on(radio(page, "schedule", "cosine"), "ArrowRight", schedule="one_cycle")
    type_on(radio(page, "schedule", "one-cycle"), "ArrowRight", schedule="linear")
    type_on(slider(page, "peak rate"), "Home", peak_lr=0.001)
    type_on(radio(page, "schedule", "linear"), "ArrowRight", schedule="constant")
    for preset, key in ((PRESETS[1], "Enter"), (PRESETS[3], "Space")):
        type_on(page.locator(LAB).get_by_role("button", name=preset["name"]), key, **preset["setting"])
    assert active_cell() == before


def test_by_mouse(page):
    radio(page, "schedule", "one-cycle").click()
    box = slider(page, "peak rate").bounding_box()
    slider(page, "peak rate").click(position={"x": box["width"] - 8, "y": box["height"] / 2})
    assert_drawn(page, START | {"schedule": "one_cycle", "peak_lr": 1})


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset["name"])
def test_a_preset_shows_its_setting_and_its_lesson(page, preset):
    page.locator(LAB).get_by_role("button", name=preset["name"], exact=True).click()
    assert_drawn(page, preset["setting"])
    assert page.locator(f"{LAB} .lesson").inner_text() == preset["lesson"]
    assert page.locator(f"{LAB} button[aria-pressed=true]").all_inner_texts() == [preset["name"]]


def test_the_linear_axis_shows_the_same_rates(page):
    radio(page, "axis of the rate", "linear").click()
    np.testing.assert_allclose(drawn(page, logarithmic=False), rates(START), atol=1e-6)
    assert "linear axis" in page.locator(f"{LAB} svg.picture").get_attribute("aria-label")
    slider(page, "peak rate").focus()
    page.keyboard.press("End")
    np.testing.assert_allclose(drawn(page, logarithmic=False), rates(START | {"peak_lr": 1}), atol=1e-5)


def test_drops_can_be_set_where_they_matter_and_nowhere_else(page):
    own = [slider(page, f"{name} drop") for name in ("first", "second", "third")]
    own += page.locator(LAB).get_by_role("group", name="a drop multiplies").get_by_role("radio").all()
    assert all(control.is_enabled() for control in own)
    radio(page, "schedule", "cosine").click()
    assert all(control.is_disabled() for control in own)
    assert slider(page, "warm-up").is_enabled()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset["name"])
def test_the_words_say_sum_and_share(page, preset):
    page.locator(LAB).get_by_role("button", name=preset["name"], exact=True).click()
    values = rates(preset["setting"])
    text = page.locator(f"{LAB} .said p.own").inner_text()
    at_least = sum(value > 0.01 - 1e-9 for value in values)
    assert f"at 0.01 or more in {at_least} of 150 epochs ({100 * at_least / 150:.0f}%)" in text
    assert float(re.search(r"sum of all rates ([\d.]+);", text)[1]) == pytest.approx(sum(values), rel=6e-3)
    for paragraph in page.locator(f"{LAB} .said p").all_inner_texts():
        assert paragraph.strip() in page.locator(f"{LAB} svg.picture").get_attribute("aria-label")


def test_the_ruler_reads_one_epoch_by_keyboard_and_by_mouse(page):
    ruler = slider(page, "Read the rate of one epoch")
    ruler.focus()
    page.keyboard.press("End")
    assert ruler.get_attribute("aria-valuetext") == "Epoch 149: 10⁻⁴, the README’s 10⁻⁴"
    picture = page.locator(f"{LAB} svg.picture")
    frame = picture.bounding_box()
    # The axis begins 64 px from the left and ends 12 px before the right.
    picture.hover(position={"x": 64 + (frame["width"] - 76) * 80.5 / 150, "y": 150})
    assert page.locator(f"{LAB} .look output").inner_text() == "Epoch 80: 0.01, the README’s 0.01"


def test_the_focus_visits_every_control_in_order(page):
    page.locator(LAB).get_by_role("button", name=PRESETS[0]["name"]).focus()
    visited = []
    for _ in range(20):
        visited.append(
            page.evaluate("() => { const e = document.activeElement; return e.ariaLabel ?? e.parentNode.textContent; }")
        )
        page.keyboard.press("Tab")
        if visited[-1] == "Read the rate of one epoch":
            break
    assert visited[4:] == [
        "multi-step", "peak rate", "warm-up", "logarithmic", "first drop", "second drop", "third drop", "0.1",
        "Read the rate of one epoch",
    ]  # fmt: skip


def test_python_and_page_share_one_setting(page):
    page.evaluate(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute("
        '  { code: \'_.setting = _.setting | {"schedule": "cosine", "peak_lr": 0.02}\' }).done'
    )
    page.wait_for_function("document.querySelector('.schedule-lab .said p.own').textContent.includes('at 0.02')")
    assert_drawn(page, START | {"schedule": "cosine", "peak_lr": 0.02})
