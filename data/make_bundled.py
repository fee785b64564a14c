"""Make the bundled subset out of the full CIFAR-10: `python data/make_bundled.py` (after `python -m resnet_lib data`).

For each split a lossless WebP sheet, 50 images wide, in official order, and a CSV of each image's index in the
official split and its label. The hashes that it prints are those of `data/README.md`.
"""

import hashlib

import torch
from PIL import Image

from resnet_lib.data import BUNDLED_COLUMNS, BUNDLED_FILE, DATA_DIR, load_cifar10
from resnet_lib.files import atomic_write

PER_CLASS = {"train": 500, "test": 100}


def first_of_each_class(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Positions of the first `count` images of each class, in rising order."""
    return torch.cat([(labels == label).nonzero()[:count, 0] for label in labels.unique()]).sort().values


def main() -> None:
    """Write both splits to `data/` and print the hashes of the files and of the pixels, (N, 32, 32, 3) uint8."""
    for split, count in PER_CLASS.items():
        full = load_cifar10(split, "full")
        indices = first_of_each_class(full.labels, count)
        images = full.images[indices]
        rows = images.reshape(-1, BUNDLED_COLUMNS, 32, 32, 3).transpose(1, 2)
        sheet = Image.fromarray(rows.reshape(-1, 32 * BUNDLED_COLUMNS, 3).numpy())
        path = DATA_DIR / BUNDLED_FILE.format(split=split)
        with atomic_write(path) as file:
            sheet.save(file, "WEBP", lossless=True, quality=100, method=6)
        lines = [f"{index},{full.labels[index]}" for index in indices.tolist()]
        with atomic_write(path.with_suffix(".csv")) as file:
            file.write("\n".join(["official_index,label", *lines, ""]).encode())
        print(f"{path.name}: {len(indices)} images, {path.stat().st_size / 1e6:.2f} MB")
        for name, content in (
            (path.name, path.read_bytes()),
            (path.with_suffix(".csv").name, path.with_suffix(".csv").read_bytes()),
            (f"pixels of {split}", images.numpy().tobytes()),
        ):
            print(f"| {name} | {hashlib.sha256(content).hexdigest()} |")


if __name__ == "__main__":
    main()
