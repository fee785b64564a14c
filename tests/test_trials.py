"""What notebooks state for many starts: recorded by their own cells, and recomputed here for one of them."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnet_lib.data import DATA_DIR
from resnet_lib.runs import load_trials

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import record_trials

TRIALS = record_trials.TRIALS


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    """Trials run in this process with one thread and no pictures; leave both as they were."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(record_trials.plots, "show", record_trials.plots.show)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", TRIALS)
def test_recorded_trials_have_all_starts_and_say_how_they_were_made(name):
    table = load_trials(name)
    assert tuple(table["seed"].unique()) == TRIALS[name].seeds
    provenance = json.loads((DATA_DIR / "trials" / f"{name}.json").read_text())
    (session,) = provenance["sessions"]
    assert provenance["notebook"] == TRIALS[name].notebook
    assert provenance["seconds"] > 0
    assert session["command"] == f"python tools/record_trials.py {name}"
    assert len(session["commit"]) == 40  # a longer one is of changed files
    assert set(session["versions"]) >= {"python", "torch"}
    assert session["hardware"]["threads"] == 1


def test_a_start_gives_the_recorded_promises_again():
    trial = replace(
        TRIALS["live_descents"],
        names=(*record_trials.LIVE, "train", "kept_share", "tried"),
        measure=lambda cells: [
            {"network": name, "kept": cells["kept"][name][0.1], "slope": cells["slopes"][name]}
            for name in cells["NAMES"]
        ],
    )
    recorded = load_trials("live_descents").set_index(["seed", "network"]).loc[3]
    for row in record_trials.rows(trial, 3):
        assert row["seed"] == 3
        # 44 plain layers multiply rounding, and machines round differently.
        assert row["kept"] == pytest.approx(recorded.loc[row["network"], "kept_of_0.1"], abs=0.05)
        assert row["slope"] == pytest.approx(recorded.loc[row["network"], "slope"], rel=0.15)


def test_starts_differ():
    for name in ("plain_residual", "drops", "live_descents"):
        table = load_trials(name)
        assert not table.drop(columns="seed").duplicated().any()


def test_what_the_notebooks_say_of_all_starts_holds():
    drops = load_trials("drops")
    assert (drops["lead_1"] > 0.03).all()
    assert (drops["back_behind"] > 0).all()
    assert drops["noise_over_gradient"].between(1.75, 2.75).all()
    assert (drops["noise_low_over_high"] - 1).abs().max() < 0.135
    shortcuts = load_trials("plain_residual").pivot(index=["schedule", "seed"], columns="network", values="last_loss")
    lead = shortcuts.rsub(shortcuts["plain"], axis=0).drop(columns="plain")
    assert (lead > 0).all(axis=None)
    rising, constant = (lead.loc[schedule].mean() for schedule in ("one_cycle", "constant"))
    assert rising.tolist() == pytest.approx([0.20, 0.20], abs=0.005)
    assert constant.tolist() == pytest.approx([0.16, 0.18], abs=0.005)
    networks = load_trials("live_descents").pivot(index="seed", columns="network")
    plain = networks.xs("plain, 44 layers", axis=1, level=1)
    twin = networks.xs("residual, 44 layers", axis=1, level=1)
    assert (plain["loss"] > 2.25).all()
    assert (twin["loss"] < 2.25).all()
    assert (plain["equal_steps_loss"] > 2.15).all()
    assert (twin["equal_steps_loss"] < 2.0).all()
    assert (plain["conv1_gradient_late"] < 0.15 * twin["conv1_gradient_late"]).all()
    assert (plain["kept_of_0.1"] < twin["kept_of_0.1"]).all()
    assert (twin["best_step"] / plain["best_step"]).between(2.9, 5).all()


def test_a_name_that_no_cell_defines_is_told():
    trial = replace(TRIALS["equal_steps"], names=("small_net_of_old",))
    with pytest.raises(ValueError, match="small_net_of_old"):
        record_trials.run_cells(trial, 0)


def test_a_notebook_without_a_seed_is_told():
    trial = replace(TRIALS["equal_steps"], notebook="00_start_here", names=())
    with pytest.raises(ValueError, match="SEED"):
        record_trials.run_cells(trial, 0)


def test_unknown_trials_are_told():
    with pytest.raises(SystemExit, match=r"No such trial: drop\. There are: plain_residual"):
        record_trials.main(["drop"])
    with pytest.raises(FileNotFoundError, match="drops"):
        load_trials("drop")
