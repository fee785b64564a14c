"""Images per second of `BatchLoader` against PIL and torchvision: `python benchmarks/data_loading.py`.

Both give shuffled, augmented, normalised batches of 128 of the same real images in this process. They take turns, and
the table has the median round and the fastest and slowest.
"""

import platform
import statistics
import time

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor

from resnet_lib.data import MEAN, STD, BatchLoader, load_cifar10

BATCH_SIZE = 128
ROUNDS = 15


class PilImages:
    """CIFAR-10 as most training scripts have it: PIL images, transformed one by one."""

    def __init__(self, data):
        self.images = [Image.fromarray(image.numpy()) for image in data.images]
        self.labels = data.labels.tolist()
        self.transform = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), ToTensor(), Normalize(MEAN, STD)])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.labels[index]


def images_per_second(batches):
    start = time.perf_counter()
    count = sum(len(labels) for _, labels in batches)
    return count / (time.perf_counter() - start)


def main():
    data = load_cifar10("train", "bundled")
    tensors = BatchLoader(data, BATCH_SIZE, augment=True, shuffle=True)
    pil = DataLoader(PilImages(data), BATCH_SIZE, shuffle=True, num_workers=0)
    speeds = {"BatchLoader": [], "PIL and torchvision": []}
    for number in range(ROUNDS + 1):
        one = images_per_second(tensors.epoch(number))
        other = images_per_second(pil)
        if number > 0:  # the first round warms up
            speeds["BatchLoader"].append(one)
            speeds["PIL and torchvision"].append(other)

    print(f"{len(data):,} images a round, {ROUNDS} rounds, {torch.get_num_threads()} threads, {platform.machine()},")
    print(f"Python {platform.python_version()}, torch {torch.__version__}\n")
    print("| images/s | median | slowest | fastest |\n| --- | --- | --- | --- |")
    for name, values in speeds.items():
        print(f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} | {max(values):,.0f} |")
    ratios = [one / other for one, other in zip(*speeds.values(), strict=True)]
    print(f"\nRatio: {statistics.median(ratios):.1f} (from {min(ratios):.1f} to {max(ratios):.1f}; goal: at least 10)")


if __name__ == "__main__":
    main()
