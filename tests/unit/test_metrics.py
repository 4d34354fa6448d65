"""Metrics and losses against scikit-learn and torch's own reductions."""

import pytest
import sklearn.metrics
import torch
from torch import nn

from jobs import losses
from jobs.catalogue import tasks
from jobs.metrics import METRICS
from jobs.row import numbers

GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randn(50, 1, generator=GENERATOR)
TRUTH = VALUES + 0.3 * torch.randn(50, 1, generator=GENERATOR)
LOGITS, CLASSES = torch.randn(60, 4, generator=GENERATOR), torch.randint(4, (60,), generator=GENERATOR)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mse", sklearn.metrics.mean_squared_error),
        ("rmse", sklearn.metrics.root_mean_squared_error),
        ("mae", sklearn.metrics.mean_absolute_error),
        ("r2", sklearn.metrics.r2_score),
    ],
)
def test_a_metric_of_values_is_that_of_scikit_learn(name: str, reference: object) -> None:
    assert METRICS[name](VALUES, TRUTH).item() == pytest.approx(reference(TRUTH.numpy(), VALUES.numpy()), rel=1e-5)


def test_accuracy_is_that_of_scikit_learn() -> None:
    expected = sklearn.metrics.accuracy_score(CLASSES.numpy(), LOGITS.argmax(1).numpy())
    assert METRICS["accuracy"](LOGITS, CLASSES).item() == expected


@pytest.mark.parametrize("right", [0, 1, 28, 29, 30])
def test_accuracy_is_the_exact_quotient(right: int) -> None:
    """29 of 30 reads 0.9666666666666667, also after it travelled with a loss of float32."""
    logits = torch.eye(2)[(torch.arange(30) < right).long()]  # class 1 for the first, class 0 for the others
    accuracy = METRICS["accuracy"](logits, torch.ones(30, dtype=torch.int64))
    assert numbers({"val": {"loss": torch.tensor(0.1), "accuracy": accuracy}}) == {
        "val_loss": torch.tensor(0.1).item(),
        "val_accuracy": right / 30,
    }


def test_every_metric_of_the_catalogue_is_there() -> None:
    assert {name for task in tasks().values() for name in task.metrics} <= set(METRICS)


@pytest.mark.parametrize(
    ("loss", "reference", "outputs", "targets"),
    [
        (losses.cross_entropy, nn.CrossEntropyLoss(), LOGITS, CLASSES),
        (losses.binary_cross_entropy, nn.BCEWithLogitsLoss(), LOGITS[:, :1], (CLASSES[:, None] > 1).float()),
        (losses.regression("mse", 1.0), nn.MSELoss(), VALUES, TRUTH),
        (losses.regression("l1", 1.0), nn.L1Loss(), VALUES, TRUTH),
        (losses.regression("huber", 0.2), nn.HuberLoss(delta=0.2), VALUES, TRUTH),
    ],
)
def test_the_mean_of_a_loss_is_torchs_loss(
    loss: losses.Loss, reference: nn.Module, outputs: torch.Tensor, targets: torch.Tensor
) -> None:
    elements = loss(outputs, targets)
    assert len(elements) == len(outputs)
    torch.testing.assert_close(elements.mean(), reference(outputs, targets))
