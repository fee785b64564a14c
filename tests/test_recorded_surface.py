"""The recorded loss surfaces are what the plan says, tell how they were made, and can be made again."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from resnet_lib.data import DATA_DIR
from resnet_lib.loss_surface import load_loss_surfaces, surface_grid, surface_of_trained
from resnet_lib.plan import PLANNED, LossSurface
from resnet_lib.record import Recorder

pytestmark = pytest.mark.usefixtures("one_thread")

ITEM = PLANNED["loss_surface"]
RECORDED = (DATA_DIR / "loss_surface.csv").exists()
if_recorded = pytest.mark.skipif(not RECORDED, reason="python -m resnet_lib record loss_surface")


@if_recorded
def test_surfaces_are_what_the_plan_says():
    surfaces, provenance = load_loss_surfaces()
    assert list(surfaces) == list(ITEM.networks)
    settings = provenance["settings"]
    for name in ("networks", "points", "images", "seeds"):
        planned = getattr(ITEM, name)
        assert settings[name] == (list(planned) if isinstance(planned, tuple) else planned)
    assert settings["batch_norm"] == "batch"
    for table in surfaces.values():
        steps, losses = surface_grid(table)
        np.testing.assert_allclose(steps, np.linspace(-1, 1, ITEM.points), atol=1e-6)
        assert np.isfinite(losses).all()
        assert losses.min() > 0
        assert table["error"].between(0, 1).all()
        # The weights were trained on these images among others: the middle is no place on a slope.
        middle = losses[ITEM.points // 2, ITEM.points // 2]
        assert middle < 1.05 * losses.min()


@if_recorded
def test_how_they_were_made_is_told():
    provenance = load_loss_surfaces()[1]
    (session,) = provenance["sessions"]
    assert session["command"] == "python -m resnet_lib record loss_surface"
    assert re.fullmatch("[0-9a-f]{40}", session["commit"])
    assert {"python", "torch", "torchvision", "numpy"} == session["versions"].keys()
    assert {"device", "threads", "vector_instructions"} == session["hardware"].keys()
    assert 0 < provenance["seconds"] < 7200
    assert "/" not in json.dumps(provenance)  # no folder of a machine


@if_recorded
@pytest.mark.parametrize("network", ITEM.networks)
def test_a_sample_of_points_measured_again(network):
    """Rounding differs from machine to machine, by some 1e-5 of the loss."""
    recorded = load_loss_surfaces()[0][network].set_index(["a", "b"]).sort_index()
    again = surface_of_trained(ITEM, network, [-0.5, 1.0])
    for row in again.itertuples():
        (there,) = recorded.loc[[(row.a, row.b)]].itertuples()
        assert row.loss == pytest.approx(there.loss, rel=0.01)
        assert row.error == pytest.approx(there.error, abs=0.02)


def test_a_surface_is_recorded_and_loaded(tmp_path):
    tiny = LossSurface("loss_surface", ("twin_resnet20_0",), points=2, images=6, seeds=(3, 4))
    shutil.copytree(DATA_DIR / "weights", tmp_path / "data" / "weights")
    recorder = Recorder(lambda *_: None, tmp_path / "runs", tmp_path / "data")
    assert recorder.state(tiny) == "not begun"
    recorder.record(tiny)
    assert recorder.state(tiny) == "recorded"
    surfaces, provenance = load_loss_surfaces(tmp_path / "data")
    table = surfaces["twin_resnet20_0"]
    expected = surface_of_trained(tiny, "twin_resnet20_0")
    np.testing.assert_allclose(table[["a", "b", "loss"]], expected[["a", "b", "loss"]], rtol=1e-4)
    assert provenance["settings"]["seeds"] == [3, 4]
    with pytest.raises(FileNotFoundError, match="git checkout data"):
        load_loss_surfaces(tmp_path)
    # A missing network is told before the first is measured.
    (tmp_path / "data" / "weights" / "twin_plain20_0.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="twin_plain20_0"):
        recorder.record(replace(tiny, networks=("twin_resnet20_0", "twin_plain20_0"), points=10**6))


def test_steps_may_be_a_few_of_the_grid():
    tiny = LossSurface(points=3, images=6)
    whole = surface_of_trained(tiny, "twin_resnet20_0")
    some = surface_of_trained(tiny, "twin_resnet20_0", [-1, 0])
    for row in some.itertuples():
        same = whole[(whole["a"] == row.a) & (whole["b"] == row.b)]
        assert same["loss"].item() == pytest.approx(row.loss, rel=1e-4)
