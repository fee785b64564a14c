import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from resnet_lib.gradient_grid import decode, grid_images, load_gradient_grid
from resnet_lib.gradient_grid import measure as measure_network
from resnet_lib.lab_figures import gradient_flow_figure
from resnet_lib.variants import Setting
from resnet_lib.widgets import PRESETS, GradientFlowLab, LiveCurve, ShortcutLab
from resnet_lib.widgets.script import script

BROKEN_1 = {"depth": 56, "activation": "sigmoid", "initialisation": "xavier", "batch_norm": False}


@pytest.fixture(scope="module")
def grid():
    return load_gradient_grid()


@pytest.fixture
def node(tmp_path):
    """Run a script against a module of the page in Node and return what it prints, read as JSON."""
    executable = shutil.which("node")
    if executable is None:
        pytest.skip("Node is not installed: the formulas of the page were not run outside a browser.")

    def run(module: str, exports: str, expression: str):
        page = f"{script(module)}\nexport {{ {exports} }};\n"
        (tmp_path / "page.mjs").write_text(page, encoding="utf-8")
        code = f'import {{ {exports} }} from "./page.mjs"; console.log(JSON.stringify({expression}));'
        (tmp_path / "run.mjs").write_text(code, encoding="utf-8")
        done = subprocess.run([executable, "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return run


class Answers(list):
    """What a widget sends to its page."""

    def __call__(self, message, *_):
        # As it would arrive: JSON, and nothing that JSON does not know, such as NaN.
        self.append(json.loads(json.dumps(message, allow_nan=False)))


@pytest.fixture
def asked(monkeypatch):
    """Hand a message of the page to a lab; returns the lab's answers."""

    def ask(lab, message):
        answers = Answers()
        monkeypatch.setattr(lab, "send", answers)
        lab._handle_custom_msg(message, [])
        return answers

    return ask


# Live curve


def test_live_curve_sends_every_accuracy_by_name():
    curve = LiveCurve(epochs=8)
    curve.update(pd.DataFrame({"epoch": [0, 1], "train_accuracy": [0.25, 0.5], "test_accuracy": [0.2, 0.4]}))
    assert curve.curves == [["train", 0.25, 0.5], ["test", 0.2, 0.4]]
    assert repr(curve) == "LiveCurve(epochs=8)"
    curve.update(pd.DataFrame({"epoch": [0], "train_accuracy": [0.25], "evaluated_accuracy": [0.2]}))
    assert curve.curves == [["train", 0.25], ["evaluated", 0.2]]
    curve.update(pd.DataFrame({"epoch": [0], "train_accuracy": [0.25]}))
    assert curve.curves == [["train", 0.25]], "nothing was evaluated"


# Gradient-flow lab


def test_lab_text_form_names_its_setting():
    lab = GradientFlowLab(depth=20, activation="tanh", batch_norm=True, zero_gamma=True)
    assert repr(lab) == (
        "GradientFlowLab(depth=20, activation='tanh', initialisation='xavier', batch_norm=True, networks='both', "
        "scale=1, zero_gamma=True)"
    )
    lab.setting = PRESETS[0]["setting"]
    assert repr(lab).startswith(
        "GradientFlowLab(depth=56, activation='relu', initialisation='xavier', batch_norm=False"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 57}, "depth=57: expected one of 8, 14, 20, 32, 44, 56, 110"),
        ({"activation": "gelu"}, "activation='gelu': expected one of 'sigmoid', 'tanh', 'relu'"),
        ({"initialisation": "he"}, "initialisation='he'"),
        ({"batch_norm": None}, "batch_norm=None: expected one of False, True"),
        ({"networks": "residuals"}, "networks='residuals': expected one of 'plain', 'residual', 'both'"),
        ({"scale": 0.7}, "scale=0.7: expected one of 0.5, 0.9, 1"),
        ({"zero_gamma": True}, "zero_gamma=True needs batch_norm=True"),
        ({"zero_gamma": True, "batch_norm": True, "scale": 0.5}, "zero_gamma=True needs"),
        ({"zero_gamma": True, "batch_norm": True, "networks": "plain"}, "zero_gamma=True needs"),
        ({"images": torch.zeros(1, 3, 32, 32)}, "Give images and their labels, or neither"),
    ],
)
def test_lab_says_what_is_wrong_with_an_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradientFlowLab(**arguments)


def test_lab_refuses_a_setting_with_other_names():
    lab = GradientFlowLab()
    with pytest.raises(ValueError, match="setting has depth: expected depth, activation"):
        lab.setting = {"depth": 56}


def test_lab_sends_the_whole_recording_as_json(grid):
    sent = json.loads(json.dumps(GradientFlowLab().get_state()["recording"]))
    assert sent["axes"]["depth"] == list(grid.axes["depth"])
    assert set(sent["gradient_norm"]) == {str(depth) for depth in grid.axes["depth"]}


def test_lab_measures_what_the_page_asks_for(asked):
    networks = [{"role": role, "depth": 8, "activation": "relu", "initialisation": "normal_0.01", "batch_norm": False,
                 "shortcut": role} for role in ("plain", "residual")]  # fmt: skip
    lab = GradientFlowLab()
    assert asked(lab, {"kind": "hello"}) == [{"kind": "ready"}]
    [answer] = asked(lab, {"kind": "measure", "seed": 5, "networks": networks})
    assert answer["kind"] == "measured"
    assert [result["network"] for result in answer["results"]] == networks
    images, labels = (values[:16] for values in grid_images())
    for network, result in zip(networks, answer["results"], strict=True):
        setting = Setting(8, "relu", "normal_0.01", False, network["shortcut"])
        gradient, variance = measure_network(setting, 5, images, labels)
        np.testing.assert_allclose(decode(np.array(result["gradient"])), gradient, rtol=0.01)
        np.testing.assert_allclose(decode(np.array(result["variance"])), variance, rtol=0.01)
        assert (result["seed"], result["images"]) == (5, 16)


def test_lab_measures_on_images_of_the_readers(asked):
    images, labels = (values[20:24] for values in grid_images())
    lab = GradientFlowLab(images=images, labels=labels)
    network = {"role": "plain", "depth": 8, "activation": "tanh", "initialisation": "kaiming", "batch_norm": True,
               "shortcut": "plain"}  # fmt: skip
    [answer] = asked(lab, {"kind": "measure", "seed": 0, "networks": [network]})
    gradient, _ = measure_network(Setting(8, "tanh", "kaiming", True, "plain"), 0, images, labels)
    np.testing.assert_allclose(decode(np.array(answer["results"][0]["gradient"])), gradient, rtol=0.01)


def test_lab_tells_the_page_why_a_measurement_failed(asked):
    lab = GradientFlowLab(images=torch.zeros(4, 3, 32, 32), labels=torch.tensor([0, 1, 2]))
    network = {"role": "plain", "depth": 8, "activation": "relu", "initialisation": "xavier", "batch_norm": False,
               "shortcut": "plain"}  # fmt: skip
    [answer] = asked(lab, {"kind": "measure", "seed": 0, "networks": [network]})
    assert answer["kind"] == "failed"
    assert answer["reason"].startswith("ValueError: ")
    assert "(3,)" in answer["reason"]


# What the presets claim


def preset(name):
    return next(each["setting"] for each in PRESETS if each["name"] == name)


def first_and_last(grid, name, shortcut):
    """Gradient norm of a preset's first layer and last convolution, and of all its layers."""
    setting = {key: preset(name)[key] for key in ("depth", "activation", "initialisation", "batch_norm")}
    norms = grid.setting(**setting, shortcut=shortcut)["median"]
    return norms.iloc[0], norms.iloc[-2], norms


def test_every_preset_can_be_shown():
    for each in PRESETS:
        GradientFlowLab(**each["setting"])
    assert len({each["name"] for each in PRESETS}) == len(PRESETS)


def test_readme_story_starves_every_plain_layer_and_no_residual_one(grid):
    first, last, norms = first_and_last(grid, "the README’s story", "plain")
    assert norms.max() < 1e-9
    assert 0.1 < first / last < 10, "the last layer starves as much as the first"
    assert first_and_last(grid, "the README’s story", "residual")[2].min() > 0.1


def test_textbook_slope_falls_towards_the_image(grid):
    first, last, norms = first_and_last(grid, "the textbook slope", "plain")
    assert first < 1e-8 * last
    thirds = [part.mean() for part in np.array_split(np.log10(norms), 3)]
    assert thirds == sorted(thirds)


def test_too_small_weights_give_exact_zeros(grid):
    assert (first_and_last(grid, "too small weights", "plain")[2] == 0).all()
    assert first_and_last(grid, "too small weights", "residual")[2].min() > 1e-5


def test_hes_repair_keeps_the_plain_net_alive_and_lets_the_residual_one_grow(grid):
    assert first_and_last(grid, "He’s repair", "plain")[2].min() > 1e-4
    assert first_and_last(grid, "He’s repair", "residual")[2].min() > 1e3
    setting = {key: preset("He’s repair")[key] for key in ("depth", "activation", "initialisation", "batch_norm")}
    variance = grid.variance(**setting, shortcut="residual")["median"]
    # An option A shortcut that halves the picture drops half of the signal, so only blocks within a stage must grow.
    assert variance.iloc[-1] > 1e5 * variance.iloc[0]


def test_normalisation_explodes_without_shortcuts_only(grid):
    first, last, _ = first_and_last(grid, "normalisation explodes", "plain")
    assert 10**5.5 < first / last < 10**7
    first, last, _ = first_and_last(grid, "normalisation explodes", "residual")
    assert 0.1 < first / last < 10


def test_broken_1_loses_the_gradient_in_spite_of_its_shortcuts(grid):
    first, last, _ = first_and_last(grid, "the broken 1", "residual")
    assert 0 < first < 1e-15 * last


def test_half_a_shortcut_costs_what_the_powers_of_a_half_say(grid):
    whole = first_and_last(grid, "half a shortcut", "residual")[2]
    for scale in (0.5, 0.9):
        scaled = first_and_last(grid, "half a shortcut", f"scaled_{scale}")[2]
        # The branches add something to the shortcuts, more where the shortcuts leave less.
        assert (scaled / whole / scale**27).between(1 / 3, 3).all()


def test_a_start_without_branches_gives_their_weights_exact_zeros(grid):
    norms = first_and_last(grid, "a start without branches", "zero_gamma")[2]
    assert (norms.iloc[1:-1] == 0).all()
    assert norms.iloc[0] > 0
    assert norms.iloc[-1] > 0


# Words and formulas of the page


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "exactly 0"), (0.7499, "0.75"), (1, "1"), (1285, "1,300"), (0.00123, "0.0012"), (4.2e-11, "4 × 10⁻¹¹"),
     (9.7e-12, "10⁻¹¹"), (1e6, "10⁶"), (9949, "9,900"), (9951, "10⁴"), (0.000996, "0.001")],
)  # fmt: skip
def test_page_tells_numbers_as_a_person_would(node, value, words):
    assert node("gradient_flow_lab.js", "tell", f"tell({value})") == words


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ("-2750", "0", "the first layer hears 10⁻¹¹ of what the last convolution does (gradient norms 10⁻¹¹ and 1)"),
        ("750", "0", "the first layer hears 1,000 times what the last convolution does (gradient norms 1,000 and 1)"),
        ("3", "0", "the first layer hears as much as the last convolution does (gradient norms 1 and 1)"),
        ("-32768", "0", "the first layer hears nothing at all: its gradient is exactly 0 in float32"),
        (
            "-32768",
            "-32768",
            "neither the first layer nor the last convolution hears anything: exactly 0 in float32",
        ),
        ("-250", "-32768", "the first layer’s gradient norm is 0.1, the last convolution’s exactly 0 in float32"),
        ("32767", "0", "first layer and last convolution have gradient norms not finite and 1: float32 overflows"),
    ],
)
def test_page_compares_first_and_last_layer_in_words(node, first, last, words):
    grid = "new Grid({axes: {}, step: 0.004, zero: -32768, not_finite: 32767})"
    said = node("gradient_flow_lab.js", "Grid, firstAgainstLast", f"firstAgainstLast({grid}, [{first}, 7, {last}, 99])")
    assert said == words


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ([10, 0], "inside the recorded range at every layer"),
        ([10, 85], "largest difference from the recorded range ×2, at layer 2 (fc)"),
        ([-32768, 0], "1 layer is exactly 0 or not finite in only one of the two"),
    ],
)
def test_page_says_how_far_a_measurement_is_from_the_recording(node, measured, words):
    grid = "new Grid({axes: {}, step: 0.004, zero: -32768, not_finite: 32767})"
    recorded = '{minimum: [0, 0], median: [5, 5], maximum: [10, 10]}, ["conv1", "fc"]'
    said = node("gradient_flow_lab.js", "Grid, difference", f"difference({grid}, {measured}, {recorded})")
    assert said == words


@pytest.mark.parametrize("path", ["nothing", "relu", "tanh", "sigmoid"])
@pytest.mark.parametrize(("scale", "branch"), [(1, 0.1), (0.9, 0), (0.5, -0.25), (0, 0.5), (0.2, -0.5), (1.2, 0.5)])
def test_page_computes_the_chain_as_autograd_does(node, path, scale, branch):
    setting = json.dumps({"blocks": 12, "scale": scale, "branch": branch, "path": path})
    computed = node("shortcut_lab.js", "derivatives", f"derivatives({setting})")
    closed = node("shortcut_lab.js", "closedForm", f"closedForm({setting})")
    act = {"nothing": lambda z: z, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}[path]
    start = torch.ones((), dtype=torch.float64, requires_grad=True)
    signal, expected = start, [1.0]
    for _ in range(12):
        signal = act(scale * signal + branch * signal)
        expected.append(torch.autograd.grad(signal, start, retain_graph=True)[0].item())
    np.testing.assert_allclose(computed, expected, rtol=1e-9, atol=0)
    if path in ("nothing", "relu"):
        np.testing.assert_allclose(closed, expected, rtol=1e-9, atol=0)
    else:
        assert (np.abs(closed) >= np.abs(expected) * (1 - 1e-9)).all(), "the bound holds"


# Shortcut lab


def test_shortcut_lab_checks_its_setting():
    lab = ShortcutLab(scale=0.9, path="sigmoid")
    assert repr(lab) == "ShortcutLab(scale=0.9, branch=0.1, path='sigmoid', blocks=27)"
    for wrong in ({"scale": 1.25}, {"scale": 0.93}, {"branch": -0.6}, {"blocks": 0}, {"blocks": 55}, {"path": "gelu"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            lab.setting = lab.setting | wrong
    for wrong in ({"scale": "1"}, {"branch": None}, {"branch": float("nan")}, {"blocks": [1]}, {"path": None}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ShortcutLab(**wrong)
    with pytest.raises(ValueError, match="expected scale, branch, blocks, path"):
        lab.setting = {"scale": 1}


# Static figure


def test_figure_draws_each_number_where_it_is(grid):
    norms, variances = ({name: table(**BROKEN_1, shortcut=name) for name in ("plain", "residual")}
                        for table in (grid.setting, grid.variance))  # fmt: skip
    figure = gradient_flow_figure(norms, variances, "The broken 1")
    upper = figure.axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in upper.lines if not line.get_label().startswith("_")}
    for name, table in norms.items():
        inside = table["median"][(table["median"] >= 1e-20) & (table["median"] <= 1e10)]
        np.testing.assert_array_equal(drawn[name], inside)
    hollow = sum(len(line.get_xdata()) for line in upper.lines if line.get_markerfacecolor() == "none")
    assert hollow == sum((table["median"] == 0).sum() for table in norms.values())


def test_figure_wants_one_depth(grid):
    tables = {"plain": grid.setting(8), "residual": grid.setting(14)}
    with pytest.raises(ValueError, match=r"\[8, 14\] layers: expected one depth"):
        gradient_flow_figure(tables, {}, "Two depths")
