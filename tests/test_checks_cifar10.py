"""The checks on the data: what learners really answer gets a diagnosis of its own, and right answers pass."""

import numpy as np
import pytest
import torch
from check_output import said

from resnet_lib.checks import cifar10
from resnet_lib.neighbours import nearest


def nearest_by_loop(test_images, train_images):
    """Image by image in numpy, with no product and no broadcasting."""
    test_images, train_images = test_images.numpy().astype(int), train_images.numpy().astype(int)

    def distance(image, other):
        return min(((image - turned) ** 2).sum() for turned in (other, other[:, ::-1]))

    return torch.tensor([np.argmin([distance(image, other) for other in train_images]) for image in test_images])


def joined(test_images, train_images, axis=2):
    return nearest(test_images, torch.cat([train_images, train_images.flip(axis)]))


def from_two_searches(test_images, train_images):
    as_it_is, plain = nearest(test_images, train_images)
    mirrored, turned = nearest(test_images.flip(2), train_images)
    return torch.where(mirrored[:, 0] < as_it_is[:, 0], turned[:, 0], plain[:, 0])


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (cifar10.mirrored, lambda images: images[:, :, range(31, -1, -1)]),
        (cifar10.versions_with_padding_two, torch.tensor(50)),
        (cifar10.deviation_of_an_accuracy, 0.0095),
        (cifar10.deviation_of_an_accuracy, np.sqrt(0.9 * 0.1 / 1000)),
        (cifar10.nearest_either_way, nearest_by_loop),
        (cifar10.nearest_either_way, from_two_searches),
        (cifar10.nearest_either_way, lambda a, b: joined(a, b)[1][:, 0] % len(b)),
        (cifar10.accuracy_without_duplicates, 9150 / 9710),
        (cifar10.accuracy_without_duplicates, 0.942),
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
    (cifar10.accuracy_without_duplicates, 0.915, "fewer than 10,000"),
    (cifar10.accuracy_without_duplicates, 0.944, "less often than the mean"),
    (cifar10.accuracy_without_duplicates, 0.944 / 0.971, "numerator"),
    (cifar10.accuracy_without_duplicates, 0.944 * 0.971, "as hard as the others"),
    (cifar10.accuracy_without_duplicates, 94.23, "percent"),
    (cifar10.accuracy_without_duplicates, 0.5, "too small"),
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


def smaller_position(a, b):
    return torch.minimum(nearest(a, b)[1][:, 0], nearest(a.flip(2), b)[1][:, 0])


def larger_position(a, b):
    return torch.maximum(nearest(a, b)[1][:, 0], nearest(a, b.flip(2))[1][:, 0])


def from_the_worse_search(a, b):
    plain, turned = nearest(a, b), nearest(a.flip(2), b)
    return torch.where(plain[0] > turned[0], plain[1], turned[1])[:, 0]


def of_added_distances(a, b):
    a = a.flatten(1).float()
    return (torch.cdist(a, b.flatten(1).float()) + torch.cdist(a, b.flip(2).flatten(1).float())).argmin(1)


WRONG_SEARCHES = [
    (lambda a, b: nearest(a, b)[1][:, 0], "misses the mirrored ones"),
    (lambda a, b: nearest(a, b.flip(2))[1][:, 0], "mirrored images alone"),
    (lambda a, b: nearest(a.flip(2), b)[1][:, 0], "mirrored images alone"),
    (lambda a, b: joined(a, b)[1][:, 0], "take the remainder"),
    (lambda a, b: joined(a, b)[1], "first column. And position M + i"),
    (lambda a, b: joined(a, b)[1] % len(b), "you return both"),
    (lambda a, b: joined(a, b, axis=1)[1][:, 0] % len(b), "upside down"),
    (lambda a, b: nearest(torch.cat([a, a.flip(2)]), b)[1][:, 0], "one for each mirror image"),
    (smaller_position, "smaller of two *positions*"),
    (larger_position, "larger of two *positions*"),
    (from_the_worse_search, "*farther* image"),
    (of_added_distances, "near both ways round"),
    (lambda a, b: joined(a, b)[0][:, 0], "how far the nearest one is"),
    (lambda a, b: joined(a, b)[2], "raised an error"),
    (lambda a, b: joined(a, b), "None of the usual slips"),
    (lambda a, b: torch.zeros(len(a), dtype=torch.long), "None of the usual slips"),
]


@pytest.mark.parametrize(("function", "diagnosis"), WRONG_SEARCHES)
def test_wrong_searches_get_their_own_diagnosis(function, diagnosis):
    text = said(cifar10.nearest_either_way, function)
    assert text.startswith("✗")
    assert diagnosis in text


@pytest.mark.parametrize(
    ("check", "stub"),
    [
        (cifar10.mirrored, lambda images: ...),
        (cifar10.nearest_either_way, lambda test_images, train_images: ...),
        (cifar10.versions_with_padding_two, ...),
        (cifar10.deviation_of_an_accuracy, ...),
        (cifar10.accuracy_without_duplicates, ...),
    ],
)
def test_stubs_get_a_friendly_not_yet(check, stub):
    assert said(check, stub).startswith("◦ Not yet")
