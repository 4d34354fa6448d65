"""How good predictions are, in numbers for a report: scikit-learn's, but where a formula stands here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

Floats = NDArray[np.float64]

BINS = 15  # of confidence, as in Guo et al. 2017
MISTAKES = 24  # so many of the most confident ones are kept


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class against all others."""

    name: str
    precision: float  # part of the rows predicted as this class that are of it; 0 where none is
    recall: float  # part of the rows of this class that are predicted as it; 0 where there is none
    f1: float  # their harmonic mean
    rows: int  # of this class in the test part
    roc_auc: float | None  # None: the test part has no row of this class, or no other
    fpr: Floats  # false positive rate and …
    tpr: Floats  # … true positive rate as the threshold falls; empty where roc_auc is None


@dataclass(frozen=True, kw_only=True)
class ConfidenceBin:
    """The rows whose confidence lies in (low, high]."""

    low: float
    high: float
    confidence: float  # mean over its rows
    accuracy: float  # of its rows
    rows: int


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A row that was predicted as another class."""

    index: int  # in the test part
    truth: str
    predicted: str
    confidence: float  # probability of the predicted class


@dataclass(frozen=True, kw_only=True)
class Classification:
    """How well classes are told apart."""

    accuracy: float
    precision: float  # macro: the plain mean over the classes that occur in truth or predictions
    recall: float  # macro
    f1: float  # macro
    roc_auc: float | None  # of two classes that of the second; of more the plain mean over those that have one
    classes: list[ClassScores]
    confusion: NDArray[np.int64]  # (classes, classes) rows by true (first) and predicted class
    confidence: Floats  # (N,) probability of the predicted class
    right: NDArray[np.bool_]  # (N,)
    bins: list[ConfidenceBin]  # those with rows
    calibration_error: float  # expected calibration error, see `expected_calibration_error`
    mistakes: list[Mistake]  # the most confident first
    wrong: int  # number of all mistakes


@dataclass(frozen=True, kw_only=True)
class Regression:
    """How near values come, in the target's own unit."""

    mse: float
    rmse: float
    mae: float
    r2: float | None  # None: all truths are equal
    residuals: Floats  # (N,) prediction - truth
    worst: list[int]  # indices in the test part, the largest |residual| first


def classification(logits: NDArray[Any], truth: NDArray[np.int64], names: Sequence[str]) -> Classification:
    """
    Args:
        logits: (N, classes)
        truth: (N,) class numbers from 0
    """
    chances = probabilities(logits)
    predicted, confidence = logits.argmax(1), chances.max(1)
    right = predicted == truth
    bins = confidence_bins(confidence, right)
    classes = class_scores(chances, predicted, truth, names)
    wrong = np.flatnonzero(~right)
    occurring = np.union1d(truth, predicted)
    macro = metrics.precision_recall_fscore_support(
        truth, predicted, labels=occurring, average="macro", zero_division=0.0
    )
    return Classification(
        accuracy=float(metrics.accuracy_score(truth, predicted)),
        **dict(zip(("precision", "recall", "f1"), map(float, macro), strict=False)),
        roc_auc=overall_roc_auc(classes),
        classes=classes,
        confusion=metrics.confusion_matrix(truth, predicted, labels=range(len(names))),
        confidence=confidence,
        right=right,
        bins=bins,
        calibration_error=expected_calibration_error(bins),
        mistakes=[
            Mistake(
                index=int(index),
                truth=names[truth[index]],
                predicted=names[predicted[index]],
                confidence=float(confidence[index]),
            )
            for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
        ],
        wrong=len(wrong),
    )


def probabilities(logits: NDArray[Any]) -> Floats:
    """softmax of each row, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    chances: Floats = shifted / shifted.sum(1, keepdims=True)
    return chances


def class_scores(
    chances: Floats, predicted: NDArray[np.int64], truth: NDArray[np.int64], names: Sequence[str]
) -> list[ClassScores]:
    """Each class against all others."""
    labels = range(len(names))
    scored = metrics.precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0.0)
    found = []
    for number, (precision, recall, f1, rows) in enumerate(zip(*scored, strict=True)):
        fpr, tpr = roc_curve(chances[:, number], truth == number)
        found.append(
            ClassScores(
                name=names[number],
                precision=float(precision),
                recall=float(recall),
                f1=float(f1),
                rows=int(rows),
                roc_auc=float(metrics.auc(fpr, tpr)) if len(fpr) else None,
                fpr=fpr,
                tpr=tpr,
            )
        )
    return found


def roc_curve(chances: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """False and true positive rates; empty where all rows are of one kind."""
    if positive.all() or not positive.any():
        return np.empty(0), np.empty(0)
    fpr, tpr, _ = metrics.roc_curve(positive, chances)
    return fpr, tpr


def overall_roc_auc(classes: list[ClassScores]) -> float | None:
    """Of two classes that of the second; of more the macro mean of one class against the rest (sklearn "ovr")."""
    if len(classes) == 2:
        return classes[1].roc_auc
    known = [one.roc_auc for one in classes if one.roc_auc is not None]
    return float(np.mean(known)) if known else None


def confidence_bins(confidence: Floats, right: NDArray[np.bool_]) -> list[ConfidenceBin]:
    """BINS bins of equal width over (0, 1]; those without rows are left out."""
    edges = np.linspace(0, 1, BINS + 1)
    bin_of = np.searchsorted(edges[1:-1], confidence)
    return [
        ConfidenceBin(
            low=float(edges[number]),
            high=float(edges[number + 1]),
            confidence=float(confidence[bin_of == number].mean()),
            accuracy=float(right[bin_of == number].mean()),
            rows=int((bin_of == number).sum()),
        )
        for number in np.unique(bin_of)
    ]


def expected_calibration_error(bins: list[ConfidenceBin]) -> float:
    """Σ rows/N · |accuracy - confidence| over the bins: 0 to 1, lower is better (Guo et al. 2017, equation 3)."""
    total = sum(one.rows for one in bins)
    return sum(one.rows / total * abs(one.accuracy - one.confidence) for one in bins)


def regression(predictions: NDArray[Any], truth: NDArray[Any]) -> Regression:
    """
    Args:
        predictions, truth: (N,) in the target's own unit
    """
    predictions, truth = predictions.astype(np.float64), truth.astype(np.float64)
    residuals = predictions - truth
    return Regression(
        mse=float(metrics.mean_squared_error(truth, predictions)),
        rmse=float(metrics.root_mean_squared_error(truth, predictions)),
        mae=float(metrics.mean_absolute_error(truth, predictions)),
        r2=float(metrics.r2_score(truth, predictions)) if np.ptp(truth) > 0 else None,
        residuals=residuals,
        worst=[int(index) for index in np.argsort(-np.abs(residuals), kind="stable")[:MISTAKES]],
    )
