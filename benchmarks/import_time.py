"""Seconds that importing the course adds to importing torch and torchvision: `python benchmarks/import_time.py`.

Each import is made in a process of its own, by turns; printed are medians over the rounds, with the fastest and the
slowest. The goal: under 0.3 s for `import resnet_lib`.
"""

import statistics
import subprocess
import sys

ROUNDS = 7
BASE = "import time; start = time.perf_counter(); import torch, torchvision"
IMPORTS = {
    "torch and torchvision": "",
    "… and resnet_lib": "import resnet_lib",
    "… and resnet_lib.models, .data": "import resnet_lib.models, resnet_lib.data",
    "… and resnet_lib.training": "import resnet_lib.training",
    "… and resnet_lib.plots": "import resnet_lib.plots",
}


def seconds(added: str) -> float:
    """Of both imports, in a fresh process."""
    program = "; ".join(filter(None, [BASE, added, "print(time.perf_counter() - start)"]))
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    found: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for number in range(ROUNDS + 1):
        for name, added in IMPORTS.items():
            spent = seconds(added)
            if number > 0:  # the first round fills the disk's cache
                found[name].append(spent)
    base = found["torch and torchvision"]
    print("| import | seconds, median | fastest | slowest | more than torch and torchvision |")
    print("| --- | --- | --- | --- | --- |")
    for name, spent in found.items():
        added = statistics.median(one - other for one, other in zip(spent, base, strict=True))
        print(f"| {name} | {statistics.median(spent):.2f} | {min(spent):.2f} | {max(spent):.2f} | {added:.2f} |")


if __name__ == "__main__":
    main()
