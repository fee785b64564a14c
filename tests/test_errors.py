"""Mistakes and calibration against counting by hand, closed forms, and torchmetrics' numbers."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from resnet_lib.data import CLASSES
from resnet_lib.errors import (
    confident_mistakes,
    confusion_matrix,
    expected_calibration_error,
    fit_temperature,
    frequent_confusions,
    reliability,
)


@pytest.fixture(scope="module")
def answers():
    """Logits and labels of 400 images, the same on every machine."""
    number = torch.arange(4000, dtype=torch.float64)
    logits = (3 * torch.sin(number * 12.9898) + torch.cos(number * 4.1414)).view(400, 10)
    labels = (torch.arange(400) * 7919 // 13) % 10
    labels[::2] = logits[::2].argmax(1)
    return logits, labels


def certain(probabilities) -> torch.Tensor:
    """Logits with these probabilities."""
    return torch.tensor(probabilities, dtype=torch.float64).log()


# Confusions


def test_confusions_are_counted_by_true_class_and_answer(answers):
    logits, labels = answers
    predicted = logits.argmax(1)
    matrix = confusion_matrix(predicted, labels, CLASSES)
    names = np.array(CLASSES)
    counted = pd.crosstab(names[labels], names[predicted]).reindex(index=CLASSES, columns=CLASSES, fill_value=0)
    assert (matrix.to_numpy() == counted.to_numpy()).all()
    assert matrix.to_numpy().sum() == 400
    assert np.trace(matrix) == (predicted == labels).sum()
    assert matrix.loc["cat", "dog"] == ((labels == 3) & (predicted == 5)).sum()


def test_pairs_are_added_up_both_ways():
    matrix = confusion_matrix([0, 1, 1, 0, 2, 1, 0, 1], [0, 1, 0, 1, 2, 2, 0, 0], ["a", "b", "c"])
    pairs = frequent_confusions(matrix)
    assert pairs.values.tolist() == [["a", "b", 2, 1, 3], ["b", "c", 0, 1, 1]]
    assert len(frequent_confusions(matrix, 1)) == 1
    assert frequent_confusions(confusion_matrix([0, 1], [0, 1], ["a", "b"])).empty


@pytest.mark.parametrize(
    ("predicted", "labels", "message"),
    [
        ([0, 1], [0], "expected one for each"),
        ([], [], "expected one for each"),
        ([[0]], [[0]], "expected one for each"),
        ([0, 3], [0, 1], "predictions from 0 to 3"),
        ([0, 1], [-1, 1], "labels from -1 to 1"),
        ([0.2, 0.8], [0, 1], "float64"),
    ],
)
def test_confusions_of_nonsense_are_refused(predicted, labels, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(predicted, labels, ["a", "b", "c"])


# Confident mistakes


def test_the_surest_mistakes_come_first():
    logits = certain([[0.7, 0.2, 0.1], [0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.02, 0.03, 0.95]])
    mistakes = confident_mistakes(logits, torch.tensor([1, 0, 2, 0, 1]), count=3)
    assert mistakes["index"].tolist() == [4, 2, 0]
    assert mistakes["label"].tolist() == [1, 2, 1]
    assert mistakes["predicted"].tolist() == [2, 1, 0]
    np.testing.assert_allclose(mistakes["probability"], [0.95, 0.8, 0.7])
    np.testing.assert_allclose(mistakes["probability_of_label"], [0.03, 0.1, 0.2])
    assert len(confident_mistakes(logits, torch.tensor([1, 0, 2, 0, 1]), count=10)) == 4
    assert confident_mistakes(logits, logits.argmax(1)).empty


def test_very_sure_mistakes_are_told_apart():
    """In float32 both probabilities would be exactly 1."""
    logits = torch.tensor([[30.0, 0.0], [40.0, 0.0]])
    assert confident_mistakes(logits, torch.tensor([1, 1]))["index"].tolist() == [1, 0]


# Calibration


def test_bins_of_a_hand_worked_example():
    """Confidences 0.9, 0.9, 0.9, 0.6, 0.6 in five bins; two of three and one of two are right."""
    logits = certain([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    table = reliability(logits, torch.tensor([0, 1, 1, 0, 0]), bins=5)
    assert table["images"].tolist() == [0, 0, 2, 0, 3]  # 0.6 is in the third: 0.4 < confidence ≤ 0.6
    np.testing.assert_allclose(table["low"], [0, 0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(table["confidence"], [np.nan, np.nan, 0.6, np.nan, 0.9])
    np.testing.assert_allclose(table["accuracy"], [np.nan, np.nan, 1 / 2, np.nan, 2 / 3])
    assert expected_calibration_error(table) == pytest.approx(2 / 5 * 0.1 + 3 / 5 * (0.9 - 2 / 3))


# MulticlassCalibrationError(num_classes=10, n_bins=bins, norm="l1") of torchmetrics 1.9.0
@pytest.mark.parametrize(("bins", "expected"), [(5, 0.1002959), (10, 0.1319921), (15, 0.1336137), (40, 0.1740127)])
def test_calibration_error_is_torchmetrics(answers, bins, expected):
    assert expected_calibration_error(reliability(*answers, bins)) == pytest.approx(expected, abs=1e-6)


def test_one_bin_compares_the_means(answers):
    logits, labels = answers
    gap = F.softmax(logits, 1).amax(1).mean() - (logits.argmax(1) == labels).double().mean()
    assert expected_calibration_error(reliability(logits, labels, 1)) == pytest.approx(abs(gap.item()))


def test_certainty_belongs_to_the_last_bin():
    table = reliability(torch.tensor([[1000.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]), bins=4)
    assert table["images"].tolist() == [0, 1, 0, 1]
    assert expected_calibration_error(table) == pytest.approx(0.25)


def test_labels_drawn_from_the_probabilities_are_calibrated(answers):
    """200,000 draws: what is left is chance, of some 1 / sqrt(13,000) a bin."""
    logits = answers[0].repeat(500, 1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(F.softmax(logits, 1), 1, generator=generator)[:, 0]
    assert expected_calibration_error(reliability(logits, labels)) < 0.006
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.02)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.02)


def test_temperature_of_a_closed_form():
    """Three of four right at logits ±1: best where softmax gives 3/4, so 2 / T = ln 3."""
    logits = torch.tensor([[1.0, -1.0]] * 4)
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(2 / math.log(3), rel=1e-6)


def test_temperature_has_the_lowest_loss(answers):
    logits, labels = answers
    best = fit_temperature(logits, labels)
    loss = F.cross_entropy(logits / best, labels)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2):
        assert F.cross_entropy(logits / (factor * best), labels) > loss


def test_temperature_stops_where_there_is_no_best(answers):
    logits = answers[0]
    assert fit_temperature(logits, logits.argmax(1)) == pytest.approx(0.01)
    assert fit_temperature(logits, logits.argmin(1)) == pytest.approx(100)


@pytest.mark.parametrize("function", [confident_mistakes, reliability, fit_temperature])
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), r"\(3, 2\) logits for \(2,\)"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), r"expected \(N, classes\)"),
        (torch.zeros(3, 2), torch.zeros(3), "float32 labels"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), r"\(0, 2\) logits"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), "labels go from 0 to 2"),
        (torch.full((1, 2), math.nan), torch.tensor([0]), "NaN or infinite"),
    ],
)
def test_nonsense_is_refused(function, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        function(logits, labels)


def test_there_is_at_least_one_bin(answers):
    with pytest.raises(ValueError, match="bins=0"):
        reliability(*answers, bins=0)
