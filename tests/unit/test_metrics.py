"""Metrics and losses against scikit-learn and torch's own reductions."""

from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from jobs import losses
from jobs.catalogue.tables import TASKS
from jobs.metrics import METRICS, measured
from jobs.pack import by_row

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
def test_a_metric_of_values_is_that_of_scikit_learn(name: str, reference: Callable[..., float]) -> None:
    assert METRICS[name](VALUES, TRUTH).item() == pytest.approx(reference(TRUTH.numpy(), VALUES.numpy()), rel=1e-5)


def test_accuracy_is_that_of_scikit_learn() -> None:
    expected = sklearn.metrics.accuracy_score(CLASSES.numpy(), LOGITS.argmax(1).numpy())
    assert METRICS["accuracy"](LOGITS, CLASSES).item() == expected


@pytest.mark.parametrize("right", [0, 1, 28, 29, 30])
def test_accuracy_is_the_exact_quotient(right: int) -> None:
    """29 of 30 reads 0.9666666666666667, also after it travelled with a loss of float32."""
    logits = torch.eye(2)[(torch.arange(30) < right).long()]  # class 1 for the first, class 0 for the others
    accuracy = METRICS["accuracy"](logits, torch.ones(30, dtype=torch.int64))
    assert by_row({"val": {"loss": torch.tensor([0.1]), "accuracy": accuracy[None]}})[0] == {
        "val_loss": torch.tensor(0.1).item(),
        "val_accuracy": right / 30,
    }


@st.composite
def judged(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, classes), many of them equal, and classes of which some may be absent."""
    classes, rows = draw(st.integers(2, 4)), draw(st.integers(1, 12))
    logit = st.integers(-2, 2).map(float)
    logits = draw(st.lists(st.lists(logit, min_size=classes, max_size=classes), min_size=rows, max_size=rows))
    truth = draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    return torch.tensor(logits), torch.tensor(truth)


@settings(deadline=None)
@given(judged())
def test_f1_and_balanced_accuracy_are_those_of_scikit_learn(given: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, truth = given
    said = logits.argmax(1)
    f1 = sklearn.metrics.f1_score(truth, said, average="macro", zero_division=0)
    assert METRICS["f1"](logits, truth).item() == pytest.approx(f1)
    recalls = [(said[truth == number] == number).double().mean().item() for number in truth.unique()]
    assert METRICS["balanced_accuracy"](logits, truth).item() == pytest.approx(sum(recalls) / len(recalls))


@settings(deadline=None)
@given(judged())
def test_roc_auc_is_that_of_scikit_learn_of_each_class_that_has_one(
    given: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """A class without samples, or without others, is not counted; where none is left it is 0.5."""
    logits, truth = given
    if logits.shape[1] == 2:
        scores, classes = (logits[:, 1] - logits[:, 0])[:, None], [1]
    else:
        scores, classes = logits.log_softmax(1), list(range(logits.shape[1]))
    counted = [
        sklearn.metrics.roc_auc_score(truth == number, scores[:, place])
        for place, number in enumerate(classes)
        if 0 < (truth == number).sum() < len(truth)
    ]
    expected = sum(counted) / len(counted) if counted else 0.5
    assert METRICS["roc_auc"](logits, truth).item() == pytest.approx(expected)


def test_roc_auc_of_many_classes_is_that_of_scikit_learn_over_all() -> None:
    expected = sklearn.metrics.roc_auc_score(CLASSES, LOGITS.double().softmax(1), multi_class="ovr")
    assert METRICS["roc_auc"](LOGITS, CLASSES).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["f1", "balanced_accuracy", "roc_auc", "accuracy"])
def test_a_metric_of_a_network_that_diverged_does_not_raise(name: str) -> None:
    METRICS[name](torch.full((5, 3), torch.nan), torch.tensor([0, 1, 2, 0, 1]))


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "f1", "roc_auc"])
@pytest.mark.parametrize(("rows", "samples", "classes"), [(1, 30, 3), (2, 7, 2), (33, 30, 3), (12, 101, 10)])
def test_a_metric_of_classes_of_all_rows_of_a_pack_is_that_of_each_alone(
    name: str, rows: int, samples: int, classes: int
) -> None:
    """Bit for bit; with equal logits, a class that no truth has, and a row that diverged."""
    draws = torch.Generator().manual_seed(rows)
    truth = torch.randint(max(2, classes - 1), (rows, samples), generator=draws)
    logits = torch.randn(rows, samples, classes, generator=draws)
    logits[0] = logits[0].round()
    logits[-1, -1] = torch.nan
    together = METRICS[name](logits, truth)
    assert together.shape == (rows,)
    assert together.tolist() == [METRICS[name](*row).item() for row in zip(logits, truth, strict=True)]
    shared = METRICS[name](logits, truth[0])
    assert shared.tolist() == [METRICS[name](row, truth[0]).item() for row in logits]
    two_axes = METRICS[name](logits[None], truth[None])
    assert two_axes.tolist() == [together.tolist()]


@pytest.mark.parametrize("name", ["mse", "rmse", "mae", "r2"])
@pytest.mark.parametrize(("rows", "samples"), [(1, 60), (3, 4128), (33, 61)])
def test_a_metric_of_values_of_all_rows_of_a_pack_is_that_of_each_alone(name: str, rows: int, samples: int) -> None:
    """Bit for bit, also where the rows do not lie one after the other in memory."""
    draws = torch.Generator().manual_seed(samples)
    values = torch.randn(samples, rows, 1, generator=draws).transpose(0, 1)
    truth = torch.randn(rows, samples, 1, generator=draws)
    together = METRICS[name](values, truth)
    assert together.tolist() == [METRICS[name](*row).item() for row in zip(values, truth, strict=True)]
    assert METRICS[name](values, truth[0]).tolist() == [METRICS[name](row, truth[0]).item() for row in values]


@pytest.mark.parametrize("shape", [(4, 9), (4, 9, 1), (4, 9, 2, 3)])
def test_values_of_any_shape_are_measured_row_by_row(shape: tuple[int, ...]) -> None:
    draws = torch.Generator().manual_seed(0)
    values, truth = torch.randn(2, *shape, generator=draws)
    found = measured([METRICS["mse"]] * 4, values, truth)
    assert found.tolist() == [nn.functional.mse_loss(*row).item() for row in zip(values, truth, strict=True)]


def test_a_metric_of_the_users_own_is_asked_for_each_row() -> None:
    def largest(predictions: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        assert predictions.shape == (9, 3)
        assert truth.shape == (9,)
        return predictions.max()

    logits = torch.arange(4 * 9 * 3.0).view(4, 9, 3)
    assert measured([largest] * 4, logits, torch.zeros(4, 9)).tolist() == [26, 53, 80, 107]


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    weights = losses.balancing(labels, 3)
    assert weights.tolist() == pytest.approx(expected)
    assert weights[labels].mean().item() == pytest.approx(1.0)
    assert losses.balancing(labels, 4)[labels].mean().item() == pytest.approx(1.0)  # one class without rows


def test_every_metric_of_the_tasks_on_tables_is_there() -> None:
    assert {name for task in TASKS for name in task.metrics} <= set(METRICS)


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
