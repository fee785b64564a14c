"""What a classifier gets wrong, and how sure it is: confusions, confident mistakes, calibration.

The interval for each class's accuracy is `resnet_lib.analysis.class_accuracies`.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

BINS = 15  # of confidence: Guo et al. 2017


def confusion_matrix(predicted: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> pd.DataFrame:
    """How often each class is taken for each: rows are the true class, columns the answer, entries counts of images.

    predicted, labels: (N,) whole numbers, indices into `classes`.
    Raises ValueError if the two differ in shape, or a number has no class.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{predicted.shape} predictions for {labels.shape} labels: expected one for each.")
    for name, values in (("predictions", predicted), ("labels", labels)):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(classes):
            raise ValueError(
                f"{name} from {values.min()} to {values.max()}, {values.dtype}: expected indices of {len(classes)} "
                "classes."
            )
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (labels, predicted), 1)
    return pd.DataFrame(counts, pd.Index(classes, name="true class"), pd.Index(classes, name="answer"))


def frequent_confusions(matrix: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """The pairs of classes that are taken for each other most, both ways together: a row a pair, the most first.

    Columns: one, other, one_as_other, other_as_one, mistakes. Pairs without a mistake are left out.
    """
    rows = []
    for i, one in enumerate(matrix.index):
        for j, other in enumerate(matrix.index[:i]):
            there, back = int(matrix.iat[j, i]), int(matrix.iat[i, j])
            rows.append((other, one, there, back, there + back))
    pairs = pd.DataFrame(rows, columns=["one", "other", "one_as_other", "other_as_one", "mistakes"])
    pairs = pairs[pairs["mistakes"] > 0].sort_values("mistakes", ascending=False, kind="stable")
    return pairs.head(count).reset_index(drop=True)


def confident_mistakes(logits: Tensor, labels: Tensor, count: int = 10) -> pd.DataFrame:
    """The wrong answers that the network is surest of: a row an image, the surest first; fewer rows if fewer are wrong.

    logits: (N, classes) float; labels: (N,) int64.
    Columns: index, position among the N; label; predicted; probability, of the answer given; probability_of_label.
    """
    _check(logits, labels)
    logits, labels = logits.detach().cpu(), labels.cpu()
    # Double: in float32 all above 0.99999997 would be equal to 1, and to each other.
    probabilities = F.softmax(logits.double(), dim=1)
    confidence, predicted = probabilities.max(1)
    wrong = (predicted != labels).nonzero().flatten()
    surest = wrong[confidence[wrong].argsort(descending=True, stable=True)][:count]
    of_label = probabilities[surest, labels[surest]]
    columns = {"index": surest, "label": labels[surest], "predicted": predicted[surest]}
    columns |= {"probability": confidence[surest], "probability_of_label": of_label}
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> pd.DataFrame:
    """Confidence against accuracy: a row for each of `bins` equally wide ranges of confidence.

    logits: (N, classes) float; labels: (N,) int64. Confidence is the probability of the answer given.
    Columns: low, high (an image belongs to low < confidence ≤ high); images; confidence and accuracy, their means over
    these images, NaN where there are none. Guo et al. 2017, arXiv:1706.04599, §2.
    """
    _check(logits, labels)
    if bins < 1:
        raise ValueError(f"bins={bins}: expected 1 or more.")
    confidence, predicted = F.softmax(logits.detach().cpu().double(), dim=1).max(1)
    right = (predicted == labels.cpu()).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    number = torch.bucketize(confidence.clamp(max=1), edges).clamp(1, bins) - 1
    images = torch.bincount(number, minlength=bins)
    sums = {"confidence": confidence, "accuracy": right}
    means = {name: torch.bincount(number, values, minlength=bins) / images for name, values in sums.items()}
    columns = {"low": edges[:-1], "high": edges[1:], "images": images} | means
    return pd.DataFrame({name: values.numpy() for name, values in columns.items()})


def expected_calibration_error(table: pd.DataFrame) -> float:
    """The mean distance between confidence and accuracy over the bins of `reliability`, each weighted by its images.

    From 0 to 1; it depends on the bins, and chance alone keeps it above 0. Guo et al. 2017, equation 3.
    """
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["images"]).sum() / table["images"].sum())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T > 0 with which softmax(logits / T) has the lowest cross-entropy on these images: above 1, less sure.

    No answer changes, only how sure it is; take other images than those that the result is judged by. Guo et al. 2017,
    §4.2. Between 1/100 and 100; at an end where the best lies beyond, as where every answer is right.
    """
    _check(logits, labels)
    logits, labels = logits.detach().cpu().double(), labels.cpu()
    of_label = logits.gather(1, labels[:, None])[:, 0]

    def slope(sharpness: float) -> float:
        """Of the cross-entropy by 1/T: it rises in 1/T, because the cross-entropy is convex there."""
        expected = (F.softmax(sharpness * logits, dim=1) * logits).sum(1)
        return (expected - of_label).mean().item()

    low, high = math.log(1 / 100), math.log(100)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-low)


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0 or labels.is_floating_point():
        raise ValueError(
            f"{tuple(logits.shape)} logits for {tuple(labels.shape)} {labels.dtype} labels: expected (N, classes) and "
            "one whole number for each."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, but there are {logits.shape[1]} classes.")
    if not logits.isfinite().all():
        raise ValueError("Some logits are NaN or infinite.")
