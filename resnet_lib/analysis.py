"""What an accuracy says, and how surely: drops of the learning rate, several seeds, single classes.

Every interval is about one source of chance, which its function names. No interval here knows of the others: a curve's
wobble says nothing about another seed, and seeds nothing about another data set.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
DRAWS = 4000  # of the bootstrap: an end of an interval then moves by some 2% of its width between two seeds


class Interval(NamedTuple):
    """An estimate, and the ends of an interval around it."""

    estimate: float
    low: float
    high: float


def drop_gains(
    accuracy: ArrayLike,
    drops: Sequence[int],
    window: int = 15,
    block: int = 4,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> pd.DataFrame:
    """What each drop of the learning rate bought in one run: a row a drop.

    accuracy: one number an epoch, from epoch 0. drops: epochs that are the first at a lower rate, in rising order.
    window: epochs that are compared: the last ones before the drop, and the last ones before the next drop (or the
        end), so that the run has had time to settle at either rate. block: epochs that the bootstrap keeps together.

    Columns, in the unit of `accuracy`:
    before, before_spread, after, after_spread: mean and standard deviation of the two windows.
    gain, gain_low, gain_high: after - before.
    trend: what the rise before the drop, going on as it was, would have given by itself: a line through the second half
        of the stretch before (or the window, if longer), read at the middle of the window after.
    beyond, beyond_low, beyond_high: gain - trend.

    The intervals are by circular block bootstrap (Politis & Romano 1992) of what is left of each stretch beside a line
    through it: the epochs of one run follow from each other, so blocks of neighbours are drawn, not single epochs. They
    tell how far *this run's* wobble from epoch to epoch may have moved the number, and nothing about another seed.
    From 15 epochs they are a little narrow: in simulation a nominal 95% holds some 93% of the time where neighbours
    are independent, 88% where they correlate by 0.3, 82% by 0.5. Windows shorter than two blocks, or of two epochs,
    have NaN for what cannot be told: intervals, trend and what is beyond it.

    Raises ValueError if the accuracy is not one finite number an epoch, or the drops or the window do not fit it.
    """
    series = _series(accuracy)
    ends = _segments(drops, len(series), window)
    if block < 1 or not 0 < confidence < 1:
        raise ValueError(f"block={block}, confidence={confidence}: expected 1 or more, and a share between 0 and 1.")
    generator = np.random.default_rng(seed)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows = []
    for start, drop, end in zip([0, *ends], ends, ends[1:], strict=False):
        before, after = series[drop - window : drop], series[end - window : end]
        row = {"drop": drop, "before": before.mean(), "before_spread": before.std(ddof=1)}
        row |= {"after": after.mean(), "after_spread": after.std(ddof=1), "gain": after.mean() - before.mean()}
        row |= dict.fromkeys(("gain_low", "gain_high", "trend", "beyond", "beyond_low", "beyond_high"), math.nan)
        if window >= max(2 * block, 3):  # through two epochs a line goes exactly
            before_moves, after_moves = (_mean_moves(each, block, confidence, generator) for each in (before, after))
            row["gain_low"], row["gain_high"] = row["gain"] + np.quantile(after_moves - before_moves, tails)
            rise = series[drop - max(window, (drop - start) // 2) : drop]
            ahead = end - drop - (window - len(rise)) / 2
            without, without_moves = _drawn_on(rise, ahead, block, confidence, generator)
            row["trend"], row["beyond"] = without - before.mean(), after.mean() - without
            row["beyond_low"], row["beyond_high"] = row["beyond"] + np.quantile(after_moves - without_moves, tails)
        rows.append(row)
    return pd.DataFrame(rows)


def _series(accuracy: ArrayLike) -> np.ndarray:
    series = np.asarray(accuracy, dtype=float)
    if series.ndim != 1 or not np.isfinite(series).all():
        raise ValueError(f"accuracy of shape {series.shape}: expected one finite number an epoch.")
    return series


def _segments(drops: Sequence[int], epochs: int, window: int) -> list[int]:
    """The epochs at which stretches of one rate end: the drops and the end of the run."""
    if len(drops) == 0 or list(drops) != sorted(set(drops)) or drops[0] < 1 or drops[-1] >= epochs:
        raise ValueError(f"drops={list(drops)}: expected rising epochs from 1 to {epochs - 1}, at least one.")
    ends = [*drops, epochs]
    shortest = min(end - start for start, end in zip([0, *ends], ends, strict=False))
    if not 2 <= window <= shortest:
        raise ValueError(
            f"window={window}: the shortest stretch of one learning rate has {shortest} epochs. Take 2 to {shortest}."
        )
    return ends


def _mean_moves(values: np.ndarray, block: int, confidence: float, generator: np.random.Generator) -> np.ndarray:
    """(DRAWS,): how far the noise may move the mean of a window."""
    return _redraw(_line(values)[1], block, confidence, generator).mean(1)


def _drawn_on(
    rise: np.ndarray, ahead: float, block: int, confidence: float, generator: np.random.Generator
) -> tuple[float, np.ndarray]:
    """The line through `rise` so many epochs after its middle, and (DRAWS,) how far the noise may move it there."""
    slope, noise = _line(rise)
    drawn = _redraw(noise, block, confidence, generator)
    time = _time(len(rise))
    return rise.mean() + slope * ahead, drawn.mean(1) + ahead * (drawn @ time) / (time @ time)


def _time(count: int) -> np.ndarray:
    return np.arange(count) - (count - 1) / 2


def _line(values: np.ndarray) -> tuple[float, np.ndarray]:
    """Slope an epoch of the line through the values, and what is left of them."""
    count, time = len(values), _time(len(values))
    slope = time @ values / (time @ time)
    # A line comes close to the noise as well: what is left of n epochs varies by (n - 2) / n of it.
    return slope, (values - values.mean() - slope * time) * math.sqrt(count / (count - 2))


def _redraw(values: np.ndarray, block: int, confidence: float, generator: np.random.Generator) -> np.ndarray:
    """(DRAWS, n): as many series of n values around 0, made of blocks of neighbours, in a circle."""
    count = len(values)
    # Blocks of b average out: their sum varies by about (n - b) / n of what it should. And the spread of few values is
    # itself a guess, for which Student's quantiles make up.
    student, normal = student_quantile(confidence, count - 2), stats.norm.ppf((1 + confidence) / 2)
    values = values * math.sqrt(count / (count - block)) * student / normal
    starts = generator.integers(count, size=(DRAWS, -(-count // block), 1))
    positions = (starts + np.arange(block)) % count
    return values[positions.reshape(DRAWS, -1)[:, :count]]


def epochs_to_reach(accuracy: ArrayLike, level: float) -> float:
    """How many epochs a run took until its accuracy was first `level` or more; NaN if it never was.

    A first time is an early time: at a high learning rate single epochs jump above what a run can keep.
    Raises ValueError if the accuracy is not one finite number an epoch.
    """
    reached = _series(accuracy) >= level
    return float(reached.argmax() + 1) if reached.any() else math.nan


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Mean over seeds, and Student's interval for it: where the mean of very many seeds may be expected.

    It takes the seeds for independent and their numbers for roughly normal, and with three of them it is wide:
    4.3 standard errors each way at 95%.

    Raises ValueError on fewer than two values, or values that are not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values of shape {values.shape}: expected at least two finite numbers, one a seed.")
    mean = values.mean()
    reach = student_quantile(confidence, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(float(mean), float(mean - reach), float(mean + reach))


def paired_differences(table: pd.DataFrame, baseline: str, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Every column's mean difference to the column `baseline`, seed by seed: a row a column.

    table: a row a seed, a column for each of the things compared. Pairs share what the seed decides (first weights,
    order of the images), so their differences may vary less than the numbers themselves.

    Columns: difference, low, high as in `mean_interval`; ahead: in how many seeds it is above the baseline; seeds.
    Each interval is for one comparison: of twenty that compare equals, one is expected to exclude 0.

    Raises ValueError if the baseline is not in the table; as `mean_interval` does on too few seeds or missing numbers.
    """
    if baseline not in table:
        raise ValueError(f"baseline={baseline!r}: expected one of {', '.join(map(repr, table.columns))}.")
    rows = {}
    for name in table.columns.drop(baseline):
        differences = table[name] - table[baseline]
        estimate, low, high = mean_interval(differences, confidence)
        ahead = int((differences > 0).sum())
        rows[name] = {"difference": estimate, "low": low, "high": high, "ahead": ahead, "seeds": len(table)}
    return pd.DataFrame.from_dict(rows, orient="index")


def wilson_interval(correct: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """The share of right answers, and Wilson's interval for the probability behind it (Wilson 1927, JASA 22, 209-212).

    It is about which images happen to be in the test set, and stays between 0 and 1 where p ± 2 deviations does not.

    Raises ValueError unless 0 ≤ correct ≤ total and total ≥ 1.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} right of {total}: expected 0 ≤ right ≤ total, and a total of at least 1.")
    low, high = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return Interval(correct / total, float(low), float(high))


def class_accuracies(
    predicted: ArrayLike, labels: ArrayLike, classes: Sequence[str], confidence: float = CONFIDENCE
) -> pd.DataFrame:
    """Accuracy of each class with `wilson_interval`: a row a class that has images.

    Columns: accuracy, low, high, images.

    predicted, labels: (N,) whole numbers, indices into `classes`.
    Raises ValueError if the two differ in shape, or a label has no class.
    """
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{predicted.shape} predictions for {labels.shape} labels: expected one for each.")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, but there are {len(classes)} classes.")
    rows = {}
    for label in np.unique(labels):
        hits = predicted[labels == label] == label
        accuracy, low, high = wilson_interval(int(hits.sum()), len(hits), confidence)
        rows[classes[label]] = {"accuracy": accuracy, "low": low, "high": high, "images": len(hits)}
    return pd.DataFrame.from_dict(rows, orient="index")


def student_quantile(confidence: float, degrees: int) -> float:
    """The t with P(|T| ≤ t) = `confidence` for Student's T with so many degrees of freedom; 12.7, 4.3, 3.2, … at 95%.

    Raises ValueError unless 0 < confidence < 1 and degrees ≥ 1.
    """
    if not 0 < confidence < 1 or degrees < 1:
        raise ValueError(f"confidence={confidence}, degrees={degrees}: expected a share, and at least 1 degree.")
    return float(stats.t.ppf((1 + confidence) / 2, degrees))
