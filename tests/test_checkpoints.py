"""Checkpoints are whole or refused, fit only their own run, and run no code."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from resnet_lib.checkpoints import CheckpointError, RunState, check_writable, load_checkpoint, save_checkpoint
from resnet_lib.models import create_model
from resnet_lib.training import Recipe

IDENTITY = {"model": "a net", "recipe": "epochs: 3\nbatch_size: 50", "data": "Cifar10"}


def make_state(seed: int = 0, model: nn.Module | None = None) -> RunState:
    """A run that has taken one step, so that its optimiser has momentum."""
    torch.manual_seed(seed)
    model = model or create_model("resnet8")
    optimizer = Recipe(epochs=1, batch_size=1, peak_lr=0.1).make_optimizer(model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return RunState(model, optimizer, dict(IDENTITY), [{"epoch": 0, "lr": 0.1, "train_loss": 2.25}])


def tensors(state: RunState) -> list[torch.Tensor]:
    momenta = [entry["momentum_buffer"] for entry in state.optimizer.state_dict()["state"].values()]
    return [*state.model.state_dict().values(), *momenta]


def equal(one: RunState, other: RunState) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


@pytest.fixture
def saved(tmp_path):
    state = make_state(seed=0)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state)
    return path, state


def test_all_of_a_run_comes_back(saved):
    path, state = saved
    expected_draw = torch.rand(3)  # what the saved random state gives next
    loaded = make_state(seed=1)
    loaded.history.clear()
    assert not equal(loaded, state)
    load_checkpoint(path, loaded)
    assert equal(loaded, state)
    assert loaded.history == state.history
    assert type(loaded.history[0]["epoch"]) is int
    assert loaded.saved_epochs == 1
    assert torch.equal(torch.rand(3), expected_draw)
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("kept", [0, 1, 100, 0.3, 0.7, 0.99, -1])
def test_a_truncated_file_is_refused_and_nothing_changes(saved, kept):
    path, _ = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    before, state = make_state(seed=1), make_state(seed=1)
    with pytest.raises(CheckpointError, match=re.escape(str(path)) + ".* no whole checkpoint.*delete it to start anew"):
        load_checkpoint(path, state)
    assert equal(state, before)


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path):
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot be read .*may be whole") as error:
        load_checkpoint(tmp_path / "checkpoint.pt", make_state(seed=1))
    assert "delete" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"not a checkpoint\n" * 50, bytes(range(256)) * 8, b"PK\x03\x04 but no archive", "weights"]
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    if content == "weights":
        torch.save(create_model("resnet8").state_dict(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_checkpoint(path, make_state())


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("archive", [True, False])
def test_a_checkpoint_with_code_in_it_is_refused_and_nothing_runs(tmp_path, archive):
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "it_ran"
    content = {"model": {}, "optimizer": {}, "identity": IDENTITY, "history": Malicious(trace), "random_state": {}}
    if archive:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(CheckpointError, match="not made of tensors and plain values alone") as caught:
        load_checkpoint(path, make_state())
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)  # torch's own text advises to switch the protection off
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()  # so the code would have run


@pytest.mark.parametrize(
    ("name", "now", "said"),
    [
        ("model", "another net", "model .*\n  -a net\n  \\+another net"),
        ("recipe", "epochs: 4\nbatch_size: 50", "recipe .*\n  -epochs: 3\n  \\+epochs: 4$"),
        ("data", "Cifar10 in part", "data .*\n  -Cifar10\n  \\+Cifar10 in part"),
        ("batch norm", "local, 2 processes", "batch norm .*\n  \\+local, 2 processes$"),
    ],
)
def test_another_run_is_refused_with_what_differs(saved, name, now, said):
    path, _ = saved
    before, state = make_state(seed=1), make_state(seed=1)
    state.identity[name] = now
    with pytest.raises(CheckpointError, match="belongs to another run.*\n" + said) as caught:
        load_checkpoint(path, state)
    assert equal(state, before)
    unchanged = set(IDENTITY) - {name}
    assert not any(f"{other} (-" in str(caught.value) for other in unchanged)


def test_a_setting_that_only_the_checkpoint_has_is_a_difference_too(tmp_path):
    path, state = tmp_path / "checkpoint.pt", make_state()
    state.identity["batch norm"] = "local, 2 processes"
    save_checkpoint(path, state)
    with pytest.raises(CheckpointError, match=r"(?s)another run.*\n  -local, 2 processes$"):
        load_checkpoint(path, make_state())


def test_a_long_difference_is_cut(saved):
    path, _ = saved
    state = make_state()
    state.identity["model"] = "\n".join(f"layer {i}" for i in range(100))
    with pytest.raises(CheckpointError, match=r"… and 93 more lines$"):
        load_checkpoint(path, state)


def test_weights_of_another_shape_are_refused_before_any_is_copied(tmp_path):
    """Two models can have the same text: parameters of a module's own are not in it."""

    class Scale(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(1))
            self.scale = nn.Parameter(torch.ones(channels))

    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, make_state(0, Scale(3)))
    before, state = make_state(1, Scale(4)), make_state(1, Scale(4))
    with pytest.raises(CheckpointError, match=r"-scale: \(3,\)\n  \+scale: \(4,\)"):
        load_checkpoint(path, state)
    assert equal(state, before)


def test_an_optimiser_of_other_groups_is_refused_before_any_weight_is_copied(saved):
    """Two kinds of recipe can have the same text where all that differs is at its default."""
    path, _ = saved
    before, state = make_state(seed=1), make_state(seed=1)
    for each in (before, state):
        each.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    with pytest.raises(CheckpointError, match=r"belongs to another run.*delete it to start anew.*parameter groups"):
        load_checkpoint(path, state)
    assert equal(state, before)


def test_a_full_disk_leaves_the_last_good_checkpoint(saved):
    resource = pytest.importorskip("resource")  # the limit stands in for a full disk; not on Windows
    path, state = saved
    content = path.read_bytes()
    state.history.append({"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot be written.*Epochs saved before: 1"):
            save_checkpoint(path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "checkpoint.pt")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file is no folder that can be written to.*Choose another"):
        check_writable(tmp_path / "file" / "checkpoint.pt")
