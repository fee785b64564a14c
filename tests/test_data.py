"""The images are CIFAR-10's own, the splits are sound, and batches are what PIL and torchvision would make of them."""

import hashlib
import importlib.util
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import Compose, Normalize, ToTensor
from torchvision.transforms import functional as pil

from resnet_lib.data import (
    CLASSES,
    DATA_DIR,
    FULL_FILE,
    MEAN,
    STD,
    BatchLoader,
    Cifar10,
    DataError,
    is_validation,
    load_cifar10,
    normalise,
    random_crop_flip,
)

needs_full_set = pytest.mark.skipif(
    not (DATA_DIR / FULL_FILE).exists(), reason="the full CIFAR-10 is not there: python -m resnet_lib data"
)
SIZES = ["bundled", pytest.param("full", marks=needs_full_set)]
IMAGES = {"bundled": {"train": 5_000, "test": 1_000}, "full": {"train": 50_000, "test": 10_000}}


@pytest.fixture(scope="module")
def train():
    return load_cifar10("train", "bundled")


@pytest.fixture(scope="module")
def test_set():
    return load_cifar10("test", "bundled")


def bundled_table(split):
    """Columns: index in the official split, label."""
    return torch.from_numpy(np.loadtxt(DATA_DIR / f"cifar10_bundled_{split}.csv", np.int64, delimiter=",", skiprows=1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Loading


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_class_has_its_share(split, size):
    data = load_cifar10(split, size)
    count = IMAGES[size][split]
    assert data.images.shape == (count, 32, 32, 3)
    assert data.labels.shape == (count,)
    assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    assert data.labels.bincount().tolist() == [count // 10] * 10
    assert data.classes == CLASSES
    assert (data.split, data.size, len(data)) == (split, size, count)


def test_classes_are_named_as_the_dataset_has_them():
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert " ".join(CLASSES) == names


@pytest.mark.parametrize("size", SIZES)
def test_validation_and_the_rest_divide_the_training_images_nine_to_one(size):
    whole, part, validation = (load_cifar10(split, size) for split in ("train", "train_part", "validation"))
    assert part.labels.bincount().tolist() == [len(whole) * 9 // 100] * 10
    assert validation.labels.bincount().tolist() == [len(whole) // 100] * 10
    in_validation = is_validation(whole.labels)
    assert torch.equal(validation.images, whole.images[in_validation])
    assert torch.equal(part.images, whole.images[~in_validation])
    assert torch.equal(validation.labels, whole.labels[in_validation])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=400), st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_the_validation_images_of_a_bundle_are_those_of_the_whole(labels, first):
    labels = torch.tensor(labels)
    bundle = torch.cat([(labels == label).nonzero()[:first, 0] for label in range(10)]).sort().values
    assert torch.equal(is_validation(labels[bundle]), is_validation(labels)[bundle])
    for label in range(10):
        chosen = is_validation(labels)[labels == label]
        assert [i for i in range(len(chosen)) if chosen[i]] == list(range(9, len(chosen), 10))


@needs_full_set
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_bundle_is_the_first_of_each_class_of_the_full_set(split):
    full, bundled = load_cifar10(split, "full"), load_cifar10(split, "bundled")
    index, label = bundled_table(split).T
    assert torch.equal(full.images[index], bundled.images)
    assert torch.equal(full.labels[index], bundled.labels)
    assert torch.equal(label, bundled.labels)
    per_class = len(bundled) // 10
    for number in range(10):
        assert index[label == number].tolist() == (full.labels == number).nonzero()[:per_class, 0].tolist()
    script = importlib.util.spec_from_file_location("make_bundled", DATA_DIR / "make_bundled.py")
    make_bundled = importlib.util.module_from_spec(script)
    script.loader.exec_module(make_bundled)
    assert make_bundled.PER_CLASS[split] == per_class
    assert torch.equal(make_bundled.first_of_each_class(full.labels, per_class), index)


@needs_full_set
def test_mean_and_deviation_are_those_of_the_full_training_set():
    # From counts of the 256 values: whole numbers, so exact but for the last division.
    pixels = load_cifar10("train", "full").images.reshape(-1, 3)
    value = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(3):
        share = pixels[:, channel].bincount(minlength=256).double() / len(pixels)
        mean = (share * value).sum()
        assert mean.item() == pytest.approx(MEAN[channel], abs=1e-8)
        assert (share * (value - mean) ** 2).sum().sqrt().item() == pytest.approx(STD[channel], abs=1e-8)


def test_the_bundled_files_have_the_hashes_that_the_readme_gives(train, test_set):
    readme = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    hashes = dict(re.findall(r"^\| `?([\w .]+?)`? \| ([0-9a-f]{64}) \|$", readme, re.MULTILINE))
    contents = {
        "pixels of train": train.images.numpy().tobytes(),
        "pixels of test": test_set.images.numpy().tobytes(),
    }
    for path in DATA_DIR.glob("cifar10_bundled_*"):
        contents[path.name] = path.read_bytes()
        if path.suffix == ".csv":  # git may have given the lines Windows' ends
            contents[path.name] = contents[path.name].replace(b"\r\n", b"\n")
    assert {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()} == hashes


def test_a_subset_keeps_images_and_labels_together(train):
    for index in (slice(7, 30, 3), torch.tensor([5, 2, 9]), train.labels == 3):
        subset = train[index]
        assert torch.equal(subset.images, train.images[index])
        assert torch.equal(subset.labels, train.labels[index])
        assert (subset.split, subset.size) == ("train", "bundled")
    for index in (3, np.int64(3), torch.tensor(3)):
        with pytest.raises(TypeError, match=r"data\.images\[i\]"):
            train[index]


def test_an_unknown_split_or_size_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match="split='val': expected one of 'train', 'train_part', 'validation', 'test'"):
        load_cifar10("val")
    with pytest.raises(ValueError, match="size='small': expected one of 'auto', 'full', 'bundled'"):
        load_cifar10("train", "small")


def test_auto_is_the_bundle_where_the_full_set_is_not(tmp_path):
    for path in DATA_DIR.glob("cifar10_bundled_*"):
        shutil.copy(path, tmp_path)
    assert load_cifar10("test", root=tmp_path).size == "bundled"
    with pytest.raises(DataError, match=r"Get it with: python -m resnet_lib data$"):
        load_cifar10("test", "full", root=tmp_path)


def damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "of another kind":
        path.write_bytes(b"not an image, not a table\n" * 100)
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["missing", "truncated", "of another kind", "empty"])
@pytest.mark.parametrize("ending", ["webp", "csv"])
@pytest.mark.filterwarnings("ignore:loadtxt")  # numpy warns of an empty file
def test_a_bundled_file_that_is_damaged_is_told(ending, how, tmp_path):
    for path in DATA_DIR.glob("cifar10_bundled_test.*"):
        shutil.copy(path, tmp_path)
    damage(tmp_path / f"cifar10_bundled_test.{ending}", how)
    with pytest.raises(DataError, match=r"cifar10_bundled_test\.webp .*`git checkout data` brings them back"):
        load_cifar10("test", root=tmp_path)


def test_bundled_files_that_do_not_belong_together_are_told(tmp_path, test_set):
    for path in DATA_DIR.glob("cifar10_bundled_test.*"):
        shutil.copy(path, tmp_path)
    table = tmp_path / "cifar10_bundled_test.csv"
    lines = table.read_text().splitlines()
    for wrong in (lines[:-1], [*lines[:-1], "9999,10"], ["official_index", *["1"] * 1000]):
        table.write_text("\n".join(wrong) + "\n")
        with pytest.raises(DataError, match="git checkout data"):
            load_cifar10("test", root=tmp_path)
    shutil.copy(DATA_DIR / "cifar10_bundled_test.csv", table)
    Image.fromarray(test_set.images[:10].reshape(-1, 32, 3).numpy()).save(tmp_path / "cifar10_bundled_test.webp")
    with pytest.raises(DataError, match="git checkout data"):
        load_cifar10("test", root=tmp_path)


# Normalisation and augmentation


def test_normalising_equals_torchvision_on_pil_images(test_set):
    transform = Compose([ToTensor(), Normalize(MEAN, STD)])
    expected = torch.stack([transform(Image.fromarray(image.numpy())) for image in test_set.images[:200]])
    images = normalise(test_set.images[:200])
    assert images.dtype == torch.float32
    assert images.shape == (200, 3, 32, 32)
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images.contiguous(), expected, rtol=0, atol=1e-6)


def every_crop_and_flip(image):
    """What PIL and torchvision can make of one image: its 81 crops, then their mirror images."""
    padded = pil.pad(Image.fromarray(image.numpy()), 4)
    crops = [pil.crop(padded, top, left, 32, 32) for top in range(9) for left in range(9)]
    return [np.asarray(crop).tobytes() for crop in [*crops, *map(pil.hflip, crops)]]


def test_every_augmented_image_is_one_that_torchvision_could_make(test_set):
    images = test_set.images[:60]
    augmented = random_crop_flip(images, generator())
    assert (augmented.dtype, augmented.shape) == (torch.uint8, images.shape)
    for image, result in zip(images, augmented, strict=True):
        assert result.numpy().tobytes() in every_crop_and_flip(image)


def test_all_crops_and_flips_are_drawn_equally_often_and_for_each_image_anew(test_set):
    image = test_set.images[0]
    outcomes = {content: number for number, content in enumerate(every_crop_and_flip(image))}
    assert len(outcomes) == 162  # no two look the same
    draws = 162 * 50
    augmented = random_crop_flip(image.expand(draws, -1, -1, -1), generator())
    counts = np.bincount([outcomes[result.numpy().tobytes()] for result in augmented], minlength=162)
    # One batch, one image: one draw for all of it would leave one outcome. Pearson's χ² with 161 degrees of freedom
    # is below 102.6 or above 236.5 once in 10,000 times each.
    assert 102.6 < ((counts - 50) ** 2 / 50).sum() < 236.5


def test_without_padding_only_the_flip_is_left(test_set):
    images = test_set.images[:60]
    augmented = random_crop_flip(images, generator(), padding=0)
    mirrored = [torch.equal(result, image.flip(1)) for image, result in zip(images, augmented, strict=True)]
    assert 10 < sum(mirrored) < 50
    for image, result, flipped in zip(images, augmented, mirrored, strict=True):
        assert flipped or torch.equal(result, image)


# Batches


def batches(loader, epoch=0):
    """Everything of an epoch as two tensors."""
    images, labels = zip(*loader.epoch(epoch), strict=True)
    return torch.cat(images), torch.cat(labels)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def positions(data, images):
    """Which images of the data the normalised `images` are."""
    known = {image.numpy().tobytes(): i for i, image in enumerate(normalise(data.images).contiguous())}
    assert len(known) == len(data)
    return [known[image.numpy().tobytes()] for image in images.contiguous()]


def test_without_shuffling_batches_come_in_order(test_set):
    loader = BatchLoader(test_set, 300)
    assert len(loader) == 4
    assert [len(labels) for _, labels in loader] == [300, 300, 300, 100]
    images, labels = batches(loader)
    assert torch.equal(images, normalise(test_set.images))
    assert torch.equal(labels, test_set.labels)


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 120), batch_size=st.integers(1, 130), seed=st.integers(0, 2**70), epoch=st.integers(0, 500))
def test_an_epoch_has_every_image_once_with_its_label(test_set, count, batch_size, seed, epoch):
    data = test_set[:count]
    loader = BatchLoader(data, batch_size, shuffle=True, seed=seed)
    sizes = [len(labels) for _, labels in loader.epoch(epoch)]
    assert len(sizes) == len(loader)
    assert sizes[:-1] == [batch_size] * (len(loader) - 1)
    assert 1 <= sizes[-1] <= batch_size
    images, labels = batches(loader, epoch)
    order = positions(data, images)
    assert sorted(order) == list(range(count))
    assert torch.equal(labels, data.labels[order])


def test_augmented_batches_have_the_same_order_and_the_right_form(test_set):
    plain = BatchLoader(test_set, 128, shuffle=True, seed=5)
    augmented = BatchLoader(test_set, 128, augment=True, shuffle=True, seed=5)
    for (images, labels), (plain_images, plain_labels) in zip(augmented.epoch(3), plain.epoch(3), strict=True):
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(labels, plain_labels)
        assert not torch.equal(images, plain_images)


def test_a_seed_and_an_epoch_give_the_same_batches_whatever_came_before(test_set):
    settings = {"batch_size": 100, "augment": True, "shuffle": True, "seed": 7}
    expected = batches(BatchLoader(test_set, **settings), 4)
    loader = BatchLoader(test_set, **settings)
    for epoch in (0, 1, 9):
        batches(loader, epoch)
    next(loader.epoch(4))  # an epoch that was begun and left
    torch.manual_seed(99)
    torch.rand(1000)
    np.random.seed(99)
    assert same(batches(loader, 4), expected)
    assert same(batches(loader, 4), expected)
    # Two epochs at once do not disturb each other.
    interleaved = list(zip(loader.epoch(4), loader.epoch(5), strict=True))
    assert same([torch.cat([four[i] for four, _ in interleaved]) for i in range(2)], expected)


def test_epochs_and_seeds_differ_in_order_and_in_augmentation(test_set):
    draws = {}
    for seed in range(4):
        for epoch in range(4):
            draws[seed, epoch] = batches(BatchLoader(test_set[:200], 64, shuffle=True, seed=seed), epoch)[1].tolist()
    assert len({tuple(labels) for labels in draws.values()}) == 16
    images = [batches(BatchLoader(test_set[:50], 64, augment=True, seed=s), e)[0] for s, e in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_recorded_runs_can_be_repeated(test_set):
    # Not what must be, but what was when the runs of data/runs/ were recorded: with another order or other crops they
    # cannot be repeated any more, and have to be recorded anew.
    images, labels = next(BatchLoader(test_set, 128, augment=True, shuffle=True, seed=0).epoch(1))
    pixels = (images * 255 * torch.tensor(STD).view(3, 1, 1) + 255 * torch.tensor(MEAN).view(3, 1, 1)).round().byte()
    content = pixels.permute(0, 2, 3, 1).contiguous().numpy().tobytes() + labels.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest() == "4bfe92e98776882ca48eae0d3f107915646743934b20fca45c89642ee5280c56"


def test_the_set_stays_as_it_was(test_set):
    before = hashlib.sha256(test_set.images.numpy().tobytes()).hexdigest()
    for images, _ in BatchLoader(test_set, 128, augment=True, shuffle=True).epoch(0):
        images.zero_()  # even where the receiver writes into the batch
    assert test_set.images.dtype == torch.uint8
    assert hashlib.sha256(test_set.images.numpy().tobytes()).hexdigest() == before


class FloatsMade(TorchDispatchMode):
    """Every float tensor that an operation makes, by its storage."""

    def __init__(self):
        super().__init__()
        self.bytes = {}
        self.kept = []  # so that no memory is used twice and counted once

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self.kept.append(tensor)
                self.bytes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return result


def test_only_the_batch_is_ever_in_float32(test_set):
    with FloatsMade() as made:
        images, _ = next(BatchLoader(test_set, 128, augment=True, shuffle=True).epoch(0))
    batch = images.untyped_storage().nbytes()
    assert batch == 128 * 3 * 32 * 32 * 4
    # Beside the batch: a draw for each image, means and deviations.
    assert sum(made.bytes.values()) < 1.01 * batch


def test_settings_that_cannot_be_are_told(test_set):
    with pytest.raises(ValueError, match="batch_size=0: expected at least 1"):
        BatchLoader(test_set, 0)
    with pytest.raises(ValueError, match="seed=-1: expected 0 or more"):
        BatchLoader(test_set, seed=-1)
    with pytest.raises(ValueError, match="no images"):
        BatchLoader(test_set[:0])


def test_two_sets_can_be_compared_and_printed(train, test_set):
    assert train == train
    assert train != test_set
    assert repr(train) == "Cifar10(bundled train: 5,000 images)"
    assert isinstance(train, Cifar10)
