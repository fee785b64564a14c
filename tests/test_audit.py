"""The faulty listing of notebook 03: each fault is there, and the notebook's test for it finds it, alone too."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from torch import nn

from resnet_lib import models, schedules
from resnet_lib.data import load_cifar10, normalise

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
FILE = NOTEBOOKS / "audit" / "faulty_resnet.py"
NETWORK_TESTS = ("has_all_blocks", "wastes_nothing", "layer1_keeps_x")
SCHEDULE_TESTS = ("hears_base_lr", "works_without_list")


@pytest.fixture(scope="module")
def listing():
    return SimpleNamespace(**runpy.run_path(str(FILE)))


@pytest.fixture(scope="module")
def notebook():
    """What notebook 03 imports and defines: its functions and classes, on two images and without running the rest."""
    data = load_cifar10("test", "bundled")[:2]
    names = {
        "images": normalise(data.images),
        "labels": data.labels,
        "milestones": [80, 110, 130],
        "optimizer": torch.optim.SGD([torch.zeros(1)], lr=1.0),
        "mine": models.resnet34(stem="readme"),
        "listing": SimpleNamespace(**runpy.run_path(str(FILE))),
    }
    for cell in nbformat.read(NOTEBOOKS / "03_building_a_resnet.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            for statement in ast.parse(cell.source).body:
                if isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
                    exec(compile(ast.Module([statement], []), "notebook", "exec"), names)
    return SimpleNamespace(**names)


def weights(k, c_in, c_out):
    return k * k * c_in * c_out + 2 * c_out  # a convolution and its batch norm


def test_two_blocks_a_stage_and_a_projection_in_each(listing):
    """18 layers and 11.2 million parameters, counted by hand."""
    stem, dead_stem = weights(7, 3, 64), weights(7, 3, 64)
    count = stem + dead_stem + 512 * 10 + 10
    for c_in, c in ((64, 64), (64, 128), (128, 256), (256, 512)):
        count += weights(3, c_in, c) + 3 * weights(3, c, c) + weights(1, c_in, c)
    model = listing.resnet34()
    assert sum(p.numel() for p in model.parameters()) == count == 11_195_402
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    outside = [name for name in convolutions if "downsample" not in name and "pre_layer" not in name]
    assert len(outside) + 1 == 18
    assert [name for name in convolutions if "downsample" in name] == [f"layer{i}.0.downsample.0" for i in range(1, 5)]


def test_a_layer_is_dead_and_so_is_a_number(listing):
    model = listing.resnet34().eval()
    images = normalise(load_cifar10("test", "bundled").images[:1])
    with torch.no_grad():
        before = model(images)
        for parameter in model.pre_layer.parameters():
            parameter.fill_(float("nan"))
        for block in (*model.layer1, *model.layer2, *model.layer3, *model.layer4):
            del block.in_channels
        assert torch.equal(model(images), before)


def test_the_schedule_ignores_its_argument_and_needs_a_list(listing):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    rates = {listing.adjust_learning_rate(lr, optimizer, 85, [80, 110, 130]) for lr in (1.0, 0.1, 0.01)}
    assert len(rates) == 1
    with pytest.raises(UnboundLocalError):
        listing.adjust_learning_rate(0.1, optimizer, 0)


def test_but_otherwise_the_listing_is_right(listing, notebook):
    """With the three network faults taken away it computes what the library's network does."""
    torch.manual_seed(0)
    model = notebook.Repaired()
    del model.pre_layer
    model.layer1[0].downsample = None
    library = models.resnet34(stem="readme")
    library.load_state_dict(model.state_dict())
    for mode in (True, False):
        assert torch.equal(model.train(mode)(notebook.images), library.train(mode)(notebook.images))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    for epoch in range(150):
        args = (0.1, optimizer, epoch, [80, 110, 130])
        assert listing.adjust_learning_rate(*args) == schedules.adjust_learning_rate(*args)


def verdicts(notebook, tests, subject):
    return {test: getattr(notebook, test)(subject) for test in tests}


def test_the_notebooks_tests_find_every_fault_and_pass_what_is_right(notebook, listing):
    assert not any(verdicts(notebook, (*NETWORK_TESTS, "same_names"), listing.resnet34()).values())
    assert not any(verdicts(notebook, SCHEDULE_TESTS, listing.adjust_learning_rate).values())
    for right in (notebook.resnet34(stem="readme"), models.resnet34(stem="readme")):
        assert all(verdicts(notebook, (*NETWORK_TESTS, "same_names"), right).values())
    assert all(verdicts(notebook, SCHEDULE_TESTS, schedules.adjust_learning_rate).values())


def with_missing_blocks():
    return models.resnet18(stem="readme")


def with_dead_layer():
    model = models.resnet34(stem="readme")
    model.pre_layer = models.conv3x3(3, 64)
    return model


def with_projection():
    model = models.resnet34(stem="readme")
    model.layer1[0] = models.BasicBlock(64, 64, shortcut="C")
    return model


@pytest.mark.parametrize(
    ("make", "finder"),
    [(with_missing_blocks, "has_all_blocks"), (with_dead_layer, "wastes_nothing"), (with_projection, "layer1_keeps_x")],
)
def test_each_fault_of_the_network_is_found_alone_by_its_own_test(notebook, make, finder):
    model = make()
    assert verdicts(notebook, NETWORK_TESTS, model) == {test: test != finder for test in NETWORK_TESTS}
    assert not notebook.same_names(model)


def deaf(base_lr, optimizer, epoch, epoch_list=None):
    return schedules.adjust_learning_rate(0.1, optimizer, epoch, epoch_list)


def lost(base_lr, optimizer, epoch, epoch_list=None):
    if epoch_list is not None:
        lr = schedules.adjust_learning_rate(base_lr, optimizer, epoch, epoch_list)
    return lr


@pytest.mark.parametrize(("adjust", "finder"), [(deaf, "hears_base_lr"), (lost, "works_without_list")])
def test_each_fault_of_the_schedule_is_found_alone_by_its_own_test(notebook, adjust, finder):
    assert verdicts(notebook, SCHEDULE_TESTS, adjust) == {test: test != finder for test in SCHEDULE_TESTS}


def test_a_linter_finds_the_return(tmp_path):
    """As section 10 has it: with its rule RET503, and not with the ones that are on by default."""

    def rules(*arguments):
        command = [sys.executable, "-m", "ruff", "check", "--isolated", "--ignore-noqa", "--output-format", "concise"]
        found = subprocess.run([*command, *arguments, FILE], capture_output=True, text=True, cwd=tmp_path).stdout
        return [line.split()[1] for line in found.splitlines() if ": " in line and ".py:" in line]

    assert rules() == []
    assert rules("--select", "RET") == ["RET503"]
