"""The nearest images are the nearest, whatever the chunks, and two known near-duplicates are found."""

import numpy as np
import pytest
import torch

from resnet_lib.data import load_cifar10
from resnet_lib.neighbours import edges, nearest, pixels


@pytest.fixture(scope="module")
def train():
    return load_cifar10("train", "bundled").images


@pytest.fixture(scope="module")
def test_images():
    return load_cifar10("test", "bundled").images


def edges_by_numpy(images):
    values = images.numpy().astype(np.float64)
    parts = [np.diff(values, axis=2).reshape(len(values), -1), np.diff(values, axis=1).reshape(len(values), -1)]
    both = np.concatenate(parts, axis=1)
    return both / np.sqrt((both**2).mean(1, keepdims=True))


def pixels_by_numpy(images):
    return images.numpy().astype(np.float64).reshape(len(images), -1)


@pytest.mark.parametrize(
    ("describe", "reference", "tolerance"), [(pixels, pixels_by_numpy, 1e-2), (edges, edges_by_numpy, 1e-4)]
)
def test_distances_and_positions_are_those_of_every_pair_compared(train, test_images, describe, reference, tolerance):
    queries, references = test_images[:7], train[:300]
    a, b = reference(queries), reference(references)
    expected = np.array([[np.sqrt(((x - y) ** 2).mean()) for y in b] for x in a])
    distances, positions = nearest(queries, references, describe, count=3)
    order = np.argsort(expected, axis=1)[:, :3]
    assert (positions.numpy() == order).all()
    np.testing.assert_allclose(distances.numpy(), np.take_along_axis(expected, order, axis=1), atol=tolerance)


@pytest.mark.parametrize("chunk", [1, 7, 299, 300, 5000])
def test_chunks_make_no_difference(train, test_images, chunk):
    whole = nearest(test_images[:20], train[:300], count=2, chunk=300)
    parts = nearest(test_images[:20], train[:300], count=2, chunk=chunk)
    assert torch.equal(whole[1], parts[1])
    assert torch.allclose(whole[0], parts[0], atol=1e-2)


def test_an_image_is_next_to_itself(train):
    for describe, tolerance in ((pixels, 0.1), (edges, 2e-3)):
        distances, positions = nearest(train[:50], train[:400], describe, count=1)
        assert torch.equal(positions[:, 0], torch.arange(50))
        assert distances.max() < tolerance


def test_brightness_and_contrast_make_no_difference_to_edges(train):
    dark = (train[:20] // 4) * 2  # even numbers, so that both of the following are exact
    brighter, halved = dark + 100, dark // 2
    assert torch.allclose(edges(brighter), edges(dark), atol=1e-5)
    assert torch.allclose(edges(halved), edges(dark), atol=1e-5)
    assert not torch.allclose(edges(dark.flip(2)), edges(dark), atol=0.1)


def test_an_image_of_one_colour_has_no_edges_and_spoils_nothing(train):
    flat = torch.full((1, 32, 32, 3), 90, dtype=torch.uint8)
    assert not edges(flat).any()
    distances, _ = nearest(torch.cat([flat, train[:2]]), train[:50], edges)
    assert distances.isfinite().all()


def test_the_known_near_duplicates_stand_out(train, test_images):
    # A grey horse and a red truck, each in another crop or colour: the two most striking of the bundled images.
    distances, positions = nearest(test_images, train, edges)
    ratio = distances[:, 0] / distances[:, 1]
    assert ratio.argsort()[:2].tolist() == [856, 136]
    assert positions[[856, 136], 0].tolist() == [3473, 4164]


def test_too_few_references_are_told(train):
    with pytest.raises(ValueError, match="count=3: there are only 2 references"):
        nearest(train[:1], train[:2], count=3)
