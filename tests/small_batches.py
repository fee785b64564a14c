"""CIFAR-10's six batches in small, cut out of the bundled images, and written in every form that they come in."""

import hashlib
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_lib import sources
from resnet_lib.data import load_cifar10

COUNT = 20  # images a batch
NAMES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def make_batches() -> dict[str, bytes]:
    """The binary version, written as its description on the home page has it: label, red, green and blue planes."""
    images = load_cifar10("test", "bundled")
    batches = {}
    for number, name in enumerate(NAMES):
        records = bytearray()
        for i in range(number * COUNT, (number + 1) * COUNT):
            records.append(int(images.labels[i]))
            for channel in range(3):
                records += images.images[i, :, :, channel].numpy().tobytes()
        batches[name] = bytes(records)
    return batches


def binary_version(batches: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.bin": content for name, content in batches.items()} | {"batches.meta.txt": b"airplane\n"}


def python_version(batches: dict[str, bytes]) -> dict[str, bytes]:
    files = {"batches.meta": b"never read"}
    for name, content in batches.items():
        records = np.frombuffer(content, np.uint8).reshape(COUNT, 3073)
        content = pickle.dumps({b"labels": records[:, 0].tolist(), b"data": records[:, 1:].copy()}, protocol=2)
        # The official files are older than numpy 2, which moved this module.
        files[name] = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    return files


def npm_version(batches: dict[str, bytes]) -> dict[str, bytes]:
    files, labels = {"package.json": b"{}"}, {}
    for name, content in batches.items():
        records = np.frombuffer(content, np.uint8).reshape(COUNT, 3073)
        labels[name] = records[:, 0].tolist()
        pixels = np.stack([records[:, 1:1025], records[:, 1025:2049], records[:, 2049:]], axis=-1)
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        files[f"{name}.png"] = png.getvalue()
    files["test_lables.json"] = json.dumps(labels.pop("test_batch")).encode()
    files["train_lables.json"] = json.dumps([label for batch in labels.values() for label in batch]).encode()
    return files


VERSIONS = {"binary": binary_version, "python": python_version, "npm": npm_version}


def use_small_batches(monkeypatch) -> dict[str, bytes]:
    """Let the library take the small batches for the official ones; return them."""
    batches = make_batches()
    monkeypatch.setattr(sources, "IMAGES_PER_BATCH", COUNT)
    monkeypatch.setattr(sources, "BINARY_MD5", {name: md5(content) for name, content in batches.items()})
    monkeypatch.setattr(
        sources, "PYTHON_MD5", {name: md5(content) for name, content in python_version(batches).items()}
    )
    return batches


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tar_bytes(files: dict[str, bytes], mode: str = "w:gz", prefix: str = "cifar/") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
