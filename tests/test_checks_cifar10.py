"""The checks on the data: what learners really answer gets a diagnosis of its own, and right answers pass."""

import contextlib
import io

import numpy as np
import pytest
import torch

from resnet_lib.checks import cifar10


def said(function, answer) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert function(answer) is None
    return out.getvalue()


def nearest_by_loop(test_images, train_images):
    """Image by image in numpy, with no product and no broadcasting."""
    test_images, train_images = test_images.numpy().astype(int), train_images.numpy().astype(int)
    return torch.tensor([np.argmin([((t - other) ** 2).sum() for other in train_images]) for t in test_images])


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (cifar10.mirrored, lambda images: images[:, :, range(31, -1, -1)]),
        (cifar10.versions_with_padding_two, torch.tensor(50)),
        (cifar10.deviation_of_an_accuracy, 0.0095),
        (cifar10.deviation_of_an_accuracy, np.sqrt(0.9 * 0.1 / 1000)),
        (cifar10.nearest_position, nearest_by_loop),
        (cifar10.nearest_position, lambda a, b: torch.cdist(a.flatten(1).float(), b.flatten(1).float()).argmin(1)),
        (cifar10.accuracy_without_twins, 9150 / 9710),
        (cifar10.accuracy_without_twins, 0.942),
    ],
)
def test_right_answers_pass_in_any_usual_form(check, answer):
    assert said(check, answer).startswith("✓")


WRONG_NUMBERS = [
    (cifar10.versions_with_padding_two, 25, "also comes mirrored"),
    (cifar10.versions_with_padding_two, 32, "five places, not four"),
    (cifar10.versions_with_padding_two, 18, "single pixel"),
    (cifar10.versions_with_padding_two, 10, "5 times 5"),
    (cifar10.versions_with_padding_two, 162, "padding of 4"),
    (cifar10.versions_with_padding_two, 51, "too large"),
    (cifar10.deviation_of_an_accuracy, 0.95, "in points"),
    (cifar10.deviation_of_an_accuracy, 0.3, "single image, right or wrong"),
    (cifar10.deviation_of_an_accuracy, 0.09, "a variance"),
    (cifar10.deviation_of_an_accuracy, 9e-5, "square root"),
    (cifar10.deviation_of_an_accuracy, 0.3 / 1000, "the deviation by sqrt(n)"),
    (cifar10.deviation_of_an_accuracy, 0.003, "all 10,000"),
    (cifar10.deviation_of_an_accuracy, (1000 * 0.9 * 0.1) ** 0.5, "number of right images"),
    (cifar10.deviation_of_an_accuracy, (0.9 / 1000) ** 0.5, "always right"),
    (cifar10.deviation_of_an_accuracy, 0.02, "too large"),
    (cifar10.accuracy_without_twins, 0.915, "fewer than 10,000"),
    (cifar10.accuracy_without_twins, 0.944, "less often than the mean"),
    (cifar10.accuracy_without_twins, 0.944 / 0.971, "numerator"),
    (cifar10.accuracy_without_twins, 0.944 * 0.971, "as hard as the others"),
    (cifar10.accuracy_without_twins, 94.23, "percent"),
    (cifar10.accuracy_without_twins, 0.5, "too small"),
]


@pytest.mark.parametrize(("check", "answer", "diagnosis"), WRONG_NUMBERS)
def test_wrong_numbers_get_their_own_diagnosis(check, answer, diagnosis):
    text = said(check, answer)
    assert text.startswith("✗")
    assert diagnosis in text


WRONG_MIRRORS = [
    (lambda images: images.flip(1), "upside down"),
    (lambda images: images.flip(3), "red and blue"),
    (lambda images: images.flip(-1), "red and blue"),
    (lambda images: images.flip(0), "order of the images"),
    (lambda images: images.flip([1, 2]), "half a circle"),
    (lambda images: images.swapaxes(1, 2), "diagonal"),
    (lambda images: images, "as they were"),
    (lambda images: images[:, :, ::-1], "raised an error"),
    (lambda images: images.flip(2)[0], "None of the usual slips"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_MIRRORS)
def test_wrong_mirrors_get_their_own_diagnosis(function, diagnosis):
    text = said(cifar10.mirrored, function)
    assert text.startswith("✗")
    assert diagnosis in text


def squared(a, b):
    return ((a.flatten(1).float()[:, None] - b.flatten(1).float()) ** 2).sum(2)


WRONG_SEARCHES = [
    (lambda a, b: ((a.flatten(1)[:, None] - b.flatten(1)) ** 2).sum(2).argmin(1), "3 - 5 is 254"),
    (lambda a, b: ((a.flatten(1)[:, None] - b.flatten(1)).float() ** 2).sum(2).argmin(1), "before, not after"),
    (lambda a, b: (a.flatten(1).float() @ b.flatten(1).float().T).argmax(1), "brightest"),
    (lambda a, b: (a.flatten(1).float() @ b.flatten(1).float().T).argmin(1), "darkest"),
    (lambda a, b: squared(a, b).argmax(1), "farthest"),
    (lambda a, b: squared(a, b).argmin(0), "other way round"),
    (lambda a, b: squared(a, b).sqrt().min(1).values, "how far the nearest one is, not"),
    (lambda a, b: squared(a, b).min(1).values, "squared, not which"),
    (lambda a, b: squared(a, b).topk(1, largest=False).indices, "in a column"),
    (lambda a, b: (a.flatten(1).float().sum(1)[:, None] - b.flatten(1).float().sum(1)).abs().argmin(1), "brightness"),
    (lambda a, b: a.flatten(1) @ b.flatten(1).float().T, "raised an error"),
    (lambda a, b: torch.zeros(len(a), dtype=torch.long), "None of the usual slips"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_SEARCHES)
def test_wrong_searches_get_their_own_diagnosis(function, diagnosis):
    text = said(cifar10.nearest_position, function)
    assert text.startswith("✗")
    assert diagnosis in text


@pytest.mark.parametrize(
    ("check", "stub"),
    [
        (cifar10.mirrored, lambda images: ...),
        (cifar10.nearest_position, lambda test_images, train_images: ...),
        (cifar10.versions_with_padding_two, ...),
        (cifar10.deviation_of_an_accuracy, ...),
        (cifar10.accuracy_without_twins, ...),
    ],
)
def test_stubs_get_a_friendly_not_yet(check, stub):
    assert said(check, stub).startswith("◦ Not yet")
