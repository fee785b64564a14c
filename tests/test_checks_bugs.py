"""Notebook 09's tests of tests: its faults are faults, its repairs are none, and slips get their own diagnosis."""

import ast
import copy
import itertools
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from check_output import said
from torch import nn

from resnet_lib import faults
from resnet_lib.checks import bugs
from resnet_lib.checks.suspect_inputs import AUGMENTATIONS, INPUTS, MIXUPS
from resnet_lib.checks.suspect_loops import EVALUATIONS, KEEPERS, LOOPS
from resnet_lib.checks.suspect_nets import ANSWERS, BLOCKS, LEARNERS, STAGES
from resnet_lib.checks.suspect_steps import EPOCHS, LOADERS
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.models import ResNet

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "09_spot_the_bug.ipynb"
TEST_DATA = load_cifar10("test", "bundled")[:64]
IMAGES, LABELS = normalise(TEST_DATA.images), TEST_DATA.labels

pytestmark = pytest.mark.usefixtures("one_thread")

# The reader's test: what it judges, and what else it gets.
TURNS = {
    "has_own_weights": ("make_stage", ()),
    "answers_alike": ("SmallNet", (IMAGES[:8],)),
    "learns_one_batch": ("Classifier", (IMAGES[:8], LABELS[:8])),
    "leaves_input_alone": ("Block", ()),
    "pixels_in_place": ("to_inputs", ()),
    "crops_each_image": ("augment", (TEST_DATA.images[1:2],)),
    "keeps_pairs": ("mixup", ()),
    "counts_images": ("evaluate", ()),
    "trains_in_training_mode": ("fit", ()),
    "keeps_the_best": ("fit_best", ()),
}
CELLS = nbformat.read(NOTEBOOK, as_version=4).cells


def definitions(source: str) -> dict[str, str]:
    """Functions and classes by name, without annotations and docstrings."""
    found = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(part):
                part.body = part.body[1:]
            if isinstance(part, ast.FunctionDef):
                part.returns = None
            if isinstance(part, ast.arg):
                part.annotation = None
        found[node.name] = ast.unparse(node)
    return found


def turns() -> dict[str, tuple[str, str, str]]:
    """Stub, solution and repair of each of the ten, by the name of the reader's test."""
    found = {}
    for cell, following in itertools.pairwise(CELLS):
        called = re.search(r"^check\.(\w+)\(", cell.source, re.MULTILINE)
        if cell.cell_type == "code" and called and called[1] in TURNS:
            hint, solution = following.source.split("<details><summary>Solution</summary>")
            assert "<details><summary>Hint</summary>" in hint
            found[called[1]] = (cell.source, *re.findall(r"```python\n(.*?)```", solution, re.DOTALL))
    return found


@pytest.fixture(scope="module")
def names() -> dict:
    """The notebook's imports, and what its sections define."""
    names = {}
    for cell in CELLS:
        if cell.cell_type == "code":
            for statement in ast.parse(cell.source).body:
                if isinstance(statement, ast.Import | ast.ImportFrom):
                    exec(ast.unparse(statement), names)
            for definition in definitions(cell.source).values():
                if "return ..." not in definition:
                    exec(definition, names)
    return names


def test_the_notebook_shows_the_librarys_faults():
    shown = {}
    for cell in CELLS:
        if cell.cell_type == "code":
            shown |= definitions(cell.source)
    kept = definitions(Path(faults.__file__).read_text("utf-8"))
    assert len(kept) == 11
    assert {name: shown[name] for name in kept} == kept


def test_every_section_has_a_turn():
    assert list(turns()) == list(TURNS)


@pytest.mark.parametrize("name", TURNS)
def test_solutions_are_right_and_find_the_fault_and_pass_the_repair(name, names, capsys):
    stub, solution, repair = turns()[name]
    exec(stub, dict(names))
    assert capsys.readouterr().out.startswith("◦ Not yet")

    torch.manual_seed(0)
    solved = dict(names)
    exec(solution, solved)
    assert capsys.readouterr().out.startswith("✓ Right")

    suspect, arguments = TURNS[name]
    repaired = dict(names)
    exec("import copy", repaired)
    exec(repair, repaired)
    verdicts = []
    for made in (names[suspect], repaired[suspect]):
        if isinstance(made, type):
            made = made(16) if suspect == "Block" else made()
        elif name == "has_own_weights":
            assert isinstance(made(4, 2), nn.Sequential)
        verdicts.append(bool(solved[name](made, *arguments)))
    assert verdicts == [False, True]


# --- What is said to be sound is, and what is said to be faulty is not; by other means than the solutions'


def stage_is_sound(make_stage):
    """No weight of the second block moves with the first block's."""
    stage = make_stage(8, 3)
    before = [parameter.clone() for parameter in stage[1].parameters()]
    with torch.no_grad():
        for parameter in stage[0].parameters():
            parameter += 1
    return all(torch.equal(a, b) for a, b in zip(before, stage[1].parameters(), strict=True))


def answers_are_sound(network):
    network.eval()
    alone = torch.cat([network(image[None]) for image in IMAGES[:4]])
    return all(torch.allclose(network(IMAGES[:4]), alone, atol=1e-4) for _ in range(3))


def learning_is_sound(network):
    """Another optimizer, longer."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(IMAGES[:4]), LABELS[:4])
        loss.backward()
        optimizer.step()
    return loss.item() < 0.5


def block_is_sound(block):
    """PyTorch counts what is written into a tensor."""
    x = torch.randn(2, 16, 4, 4)
    block(x)
    return x._version == 0


def inputs_are_sound(to_inputs):
    """Each channel of the result is a straight line of the same channel of the images."""
    images = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    result = to_inputs(images)
    for channel in range(3):
        pair = torch.stack([result[:, channel].flatten(), images[..., channel].flatten().float()])
        if torch.corrcoef(pair)[0, 1] < 0.999:
            return False
    return True


def augmentation_is_sound(augment):
    """Pixels that hold their own row: where row 16 of each copy came from."""
    rows = torch.arange(32, dtype=torch.uint8)[None, :, None, None].expand(40, 32, 32, 3)
    generator = torch.Generator().manual_seed(1)
    origins = [augment(rows, generator)[:, 16, 16, 0].tolist() for _ in range(2)]
    return len(set(origins[0])) > 3 and origins[0] != origins[1]


def mixup_is_sound(mixup):
    """Each blend is taken apart again: its own image is known, what is left over is the partner."""
    images, labels = torch.rand(10, 3, 4, 4), torch.arange(10)
    mixed, targets = mixup(images, labels, 0.8, torch.Generator().manual_seed(2))
    others = (mixed - 0.8 * images) / 0.2
    partners = torch.cdist(others.flatten(1), images.flatten(1)).argmin(1)
    expected = torch.zeros(10, 10)
    for i, partner in enumerate(partners.tolist()):
        expected[i, labels[i]] += 0.8
        expected[i, labels[partner]] += 0.2
    return torch.allclose(targets.float(), expected, atol=1e-5)


def evaluation_is_sound(evaluate):
    logits, labels = torch.randn(50, 10), torch.randint(10, (50,))
    right = sum(row.argmax() == label for row, label in zip(logits, labels, strict=True)) / 50
    return all(abs(float(evaluate(nn.Identity(), logits, labels, size)) - right) < 1e-5 for size in (7, 16, 49, 60))


def tiny():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def tiny_batches(count=2):
    generator = torch.Generator().manual_seed(3)
    return [(torch.rand(5, 3, generator=generator), torch.tensor([0, 1, 1, 0, 1])) for _ in range(count)]


def loop_is_sound(fit):
    """Batch norm's own count of batches, in the network as it is trained on."""
    network = tiny().eval()
    fit(network, tiny_batches(), 3, lambda network: network.eval())
    return network[1].num_batches_tracked.item() == 6


def keeper_is_sound(fit_best):
    """As good as a run that ended at its best epoch."""
    start = tiny()
    for best in range(3):
        network, reference = copy.deepcopy(start), copy.deepcopy(start)
        scores = iter([1.0 if epoch == best else 0.5 - 0.1 * epoch for epoch in range(3)])
        assert fit_best(network, tiny_batches(), 3, lambda network, scores=scores: next(scores)) == 1
        constant = iter(range(3))
        fit_best(reference, tiny_batches(), best + 1, lambda network, constant=constant: next(constant))
        if any(not torch.equal(value, network.state_dict()[name]) for name, value in reference.state_dict().items()):
            return False
    return True


def loading_is_sound(load):
    saved, fresh = nn.DataParallel(tiny()), tiny()
    saved.module(torch.rand(5, 3))
    try:
        load(fresh, saved.state_dict())
    except RuntimeError:
        return False
    x = torch.rand(5, 3)
    return torch.equal(fresh.eval()(x), saved.module.eval()(x))


def epoch_is_sound(train_epoch):
    """The gradients that the optimizer finds, step by step."""
    network, expected, found = tiny(), [], []
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def note(*_):
        images, labels = tiny_batches(3)[len(found)]
        twin = copy.deepcopy(network)
        loss = F.cross_entropy(twin(images), labels)
        expected.append(torch.autograd.grad(loss, twin[0].weight)[0])
        found.append(network[0].weight.grad)
        found[-1] = None if found[-1] is None else found[-1].clone()

    optimizer.register_step_pre_hook(note)
    train_epoch(network, tiny_batches(3), optimizer)
    return all(b is not None and torch.allclose(a, b, atol=1e-6) for a, b in zip(expected, found, strict=True))


JUDGES = [
    (STAGES, stage_is_sound),
    (ANSWERS, answers_are_sound),
    (LEARNERS, learning_is_sound),
    (BLOCKS, block_is_sound),
    (INPUTS, inputs_are_sound),
    (AUGMENTATIONS, augmentation_is_sound),
    (MIXUPS, mixup_is_sound),
    (EVALUATIONS, evaluation_is_sound),
    (LOOPS, loop_is_sound),
    (KEEPERS, keeper_is_sound),
    (LOADERS, loading_is_sound),
    (EPOCHS, epoch_is_sound),
]
SUSPECTS = [(subject, judge) for subjects, judge in JUDGES for subject in subjects]


@pytest.mark.parametrize(("subject", "judge"), SUSPECTS, ids=[subject.name for subject, _ in SUSPECTS])
def test_suspects_are_what_they_are_said_to_be(subject, judge):
    torch.manual_seed(0)
    made = subject.make()
    assert bool(judge(made)) == subject.sound


def test_every_list_has_right_versions_written_differently():
    for subjects, _ in JUDGES:
        assert sum(subject.sound for subject in subjects) >= 2
        assert sum(not subject.sound for subject in subjects) >= 2


# --- Slips


def total(stage):
    return sum(parameter.numel() for parameter in stage.parameters())


def trained(network, images, labels, steps):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def without_clone(block):
    x = torch.randn(2, 16, 8, 8)
    before = x
    block(x)
    return torch.equal(x, before)


def without_negatives(block):
    x = torch.rand(2, 16, 8, 8)
    before = x.clone()
    block(x)
    return torch.equal(x, before)


def lit_at(row, column, channel):
    def test(to_inputs):
        black = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
        lit = black.clone()
        lit[0, row, column, channel] = 255
        return (to_inputs(lit) != to_inputs(black)).nonzero().tolist() == [[0, channel, row, column]]

    return test


def crops(judge):
    def test(augment, image):
        generator = torch.Generator().manual_seed(0)
        copies = image.expand(50, 32, 32, 3)
        return judge(augment(copies, generator), augment(copies, generator))

    return test


def marked(share):
    def test(mixup):
        labels = torch.arange(10)
        images = F.one_hot(labels, 10).float()[:, :, None, None]
        mixed, targets = mixup(images, labels, share, torch.Generator().manual_seed(0))
        return torch.allclose(mixed.flatten(1), targets.float())

    return test


def sizes(*batch_sizes, tolerance=1e-4):
    def test(evaluate):
        logits = F.one_hot(torch.arange(10), 10).float()
        labels = torch.tensor([9, 9, 9, 9, 9, 9, 9, 7, 8, 9])
        return all(abs(evaluate(nn.Identity(), logits, labels, size) - 0.3) <= tolerance for size in batch_sizes)

    return test


class Spy(nn.Module):
    def __init__(self):
        super().__init__()
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return x


class OuterSpy(nn.Sequential):
    def forward(self, x):
        self[0].modes.append(self.training)
        return super().forward(x)


def spied(network, epochs=3, test=nn.Module.eval, prepare=nn.Module.eval):
    def judge(fit):
        made = network()
        fit(prepare(made), tiny_batches(), epochs, test)
        return all(made[0].modes)

    return judge


def spy_inside():
    return nn.Sequential(Spy(), nn.Linear(3, 2))


def spy_outside():
    class Quiet(nn.Identity):
        modes = None

    network = OuterSpy(Quiet(), nn.Linear(3, 2))
    network[0].modes = []
    return network


def kept(network=tiny, keep=copy.deepcopy, given=(0.5, 0.6, 0.4), best=1):
    def judge(fit_best):
        seen, scores, made = [], iter(given), network()

        def score(network):
            seen.append(keep(network.state_dict()))
            return next(scores)

        fit_best(made, tiny_batches(), len(given), score)
        return all(torch.equal(made.state_dict()[name], value) for name, value in seen[best].items())

    return judge


def loaded(prefix="module.", run=True, survive=True):
    def judge(load):
        saved, fresh = tiny(), tiny()
        if run:
            saved(torch.rand(5, 3))
        weights = {prefix + name: value for name, value in saved.state_dict().items()}
        try:
            load(fresh, weights)
        except RuntimeError:
            if not survive:
                raise
            return False
        return all(torch.equal(value, fresh.state_dict()[name]) for name, value in saved.state_dict().items())

    return judge


def stepped(count):
    def judge(train_epoch):
        theirs = nn.Linear(3, 2)
        ours = copy.deepcopy(theirs)
        train_epoch(theirs, tiny_batches(count), torch.optim.SGD(theirs.parameters(), lr=0.1))
        for images, labels in tiny_batches(count):
            parameters = list(ours.parameters())
            gradients = torch.autograd.grad(F.cross_entropy(ours(images), labels), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.data -= 0.1 * gradient
        return torch.allclose(theirs.weight, ours.weight, atol=1e-6)

    return judge


def moves(train_epoch):
    network = nn.Linear(3, 2)
    before = network.weight.clone()
    train_epoch(network, tiny_batches(), torch.optim.SGD(network.parameters(), lr=0.1))
    return not torch.equal(network.weight, before)


SLIPS = [
    (bugs.has_own_weights, lambda make: len(make(16, 3)) == 3, "cannot fail"),
    (bugs.has_own_weights, lambda make: total(make(16, 3)) == 3 * 4672, "compare two stages"),
    (bugs.has_own_weights, lambda make: make(16, 2)[0] is not make(16, 2)[1], "cannot fail"),
    (bugs.has_own_weights, lambda make: len(set(make(16, 3))) == 3, "Count weights, not blocks"),
    (
        bugs.has_own_weights,
        lambda make: (lambda s: not torch.equal(s[0].conv1.weight, s[1].conv1.weight))(make(16, 2)),
        "if they are the same tensors",
    ),
    (bugs.answers_alike, lambda network, images: torch.equal(network(images), network(images)), "evaluation mode?"),
    (
        bugs.answers_alike,
        lambda network, images: torch.equal(network.eval()(images), network(images)),
        "Give it an image alone",
    ),
    (bugs.answers_alike, lambda network, images: network(images).shape == (8, 10), "cannot fail"),
    (
        bugs.answers_alike,
        lambda network, images: "Dropout" in str(network) or isinstance(network, ResNet),
        "whose batch norm uses the batch's",
    ),
    (
        bugs.learns_one_batch,
        lambda *given: (lambda losses: losses[-1] < losses[0])(trained(*given, 10)),
        "how far can the loss fall",
    ),
    (bugs.learns_one_batch, lambda *given: trained(*given, 3)[-1] < 0.3, "some 40 steps"),
    (
        bugs.learns_one_batch,
        lambda network, images, labels: not torch.allclose(network(images).sum(1), torch.ones(8)),
        "do not add up to 1",
    ),
    (
        bugs.learns_one_batch,
        lambda network, images, labels: network(images).min().item() < 0,
        "have both signs",
    ),
    (bugs.leaves_input_alone, without_clone, "keep `x.clone()`"),
    (bugs.leaves_input_alone, without_negatives, "take `torch.randn`"),
    (bugs.leaves_input_alone, lambda block: "inplace" not in str(block), "not what it is made of"),
    (
        bugs.leaves_input_alone,
        lambda block: torch.equal(block(torch.ones(2, 16, 8, 8)), torch.ones(2, 16, 8, 8)),
        "input with the input",
    ),
    (bugs.pixels_in_place, lambda to_inputs: to_inputs(TEST_DATA.images).shape[1:] == (3, 32, 32), "cannot fail"),
    (bugs.pixels_in_place, lambda to_inputs: torch.equal(to_inputs(TEST_DATA.images), IMAGES), "how large they are"),
    (bugs.pixels_in_place, lit_at(5, 5, 2), "whose row and column differ"),
    (bugs.pixels_in_place, lit_at(5, 7, 1), "Light red alone"),
    (bugs.crops_each_image, crops(lambda a, b: not torch.equal(a, b)), "images of *one* call"),
    (bugs.crops_each_image, crops(lambda a, b: len(a.unique(dim=0)) > 1), "more than two"),
    (bugs.crops_each_image, crops(lambda a, b: len(a.unique(dim=0)) > 2), "Call it twice"),
    (bugs.crops_each_image, crops(lambda a, b: len(a.unique(dim=0)) == 50), "not for all different"),
    (bugs.keeps_pairs, marked(1.0), "belong together"),
    (bugs.keeps_pairs, marked(0.5), "With a share of 0.5"),
    (
        bugs.keeps_pairs,
        lambda mixup: torch.allclose(mixup(IMAGES, LABELS, 0.7, torch.Generator())[1].sum(1), torch.ones(64)),
        "cannot fail",
    ),
    (bugs.counts_images, sizes(1, 5, 10), "leave a smaller batch"),
    (
        bugs.counts_images,
        lambda evaluate: sizes(4)(evaluate) and evaluate.__name__ == "by_counting",
        "returns a tensor",
    ),
    (bugs.trains_in_training_mode, spied(spy_inside, epochs=1), "Train for two"),
    (bugs.trains_in_training_mode, spied(spy_inside, prepare=nn.Module.train), "just evaluated"),
    (bugs.trains_in_training_mode, spied(spy_outside), "Watch an inner layer"),
    (bugs.keeps_the_best, kept(given=(0.4, 0.5, 0.6), best=2), "before the last one be the best"),
    (bugs.keeps_the_best, kept(network=lambda: nn.Linear(3, 2)), "compare all of `state_dict()`"),
    (bugs.keeps_the_best, kept(best=0), "passes nothing"),
    (bugs.keeps_the_best, kept(keep=lambda state: state), "copy.deepcopy"),
    (bugs.loads_weights, loaded(prefix=""), "begin with `module.`"),
    (bugs.loads_weights, loaded(survive=False), "catch the error"),
    (bugs.loads_weights, loaded(run=False), "run yours once"),
    (bugs.forgets_old_gradients, stepped(1), "two batches at least"),
    (bugs.forgets_old_gradients, moves, "two batches at least"),
    (bugs.forgets_old_gradients, lambda train_epoch: False, "passes nothing"),
    (bugs.forgets_old_gradients, lambda train_epoch: None, "`return` missing"),
]


@pytest.mark.parametrize(("check", "answer", "diagnosis"), SLIPS, ids=[f"{c.__name__}-{d}" for c, _, d in SLIPS])
def test_slips_get_their_own_diagnosis(check, answer, diagnosis):
    torch.manual_seed(0)
    text = said(check, answer)
    assert text.startswith("✗"), text
    assert diagnosis in text
    assert "Look again at" in text


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (..., "◦ Not yet"),
        ((1, 2), "(sound, faulty, find)"),
        ((1, 2, 3), "(sound, faulty, find)"),
        ((1, 2, lambda number: number == 2), "wrong way round"),
        ((1, 2, lambda number: True), "False for the faulty one"),
        ((1, 2, lambda number: number), "True or False"),
        ((1, 2, lambda number: number / 0), "has to survive"),
        ((1, 2, lambda number, seen=[]: seen.append(number) or len(seen) == 1), "what is random in it?"),
        ((1, 2, lambda number: number == 1), "✓ Right"),
        ((1, 2, lambda number: torch.tensor(number == 1)), "✓ Right"),
        ((1, 2, lambda number: np.float64(number) == 1), "✓ Right"),
        ((1, 2, lambda number: torch.tensor([True, number == 1])), "one truth value"),
        ((1, 2, lambda number: np.array([True, number == 1])), "one truth value"),
        ((1, 2, lambda number: torch.tensor(1.0)), "one truth value"),
        ((1, 2, lambda number: None), "one truth value"),
    ],
)
def test_a_bug_of_ones_own(answer, told):
    assert told in said(bugs.bug_of_your_own, answer)
