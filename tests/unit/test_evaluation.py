"""A best model on the test part again, and the numbers that a report says of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torch import nn

from jobs import artifact, evaluation, scores
from jobs.errors import InputError
from jobs.evaluation import Network, evaluate
from jobs.losses import cross_entropy
from jobs.params import TrainingParams
from jobs.problem import Model, Problem, Signature, Split
from jobs.spec import JobSpec, TrainResult

Train = Callable[..., Any]


def retested(spec: JobSpec, result: TrainResult, **changes: Any) -> evaluation.Tested:
    assert result.best is not None
    assert result.best.content is not None
    given = {"fingerprint": result.environment["data"], "device": "cpu", **changes}
    return evaluate(spec, artifact.load(result.best.content), **given)


@pytest.fixture
def drawn() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits of 200 rows and 4 classes that are often right, and the truth."""
    draws = np.random.default_rng(0)
    truth = draws.integers(0, 4, 200)
    return draws.normal(size=(200, 4)) + 1.5 * np.eye(4)[truth], truth


def test_the_test_metrics_are_those_that_were_recorded(make_spec: Train, train_one: Train) -> None:
    spec = make_spec("iris", epochs=8)
    result = train_one(spec)
    tested = retested(spec, result)
    assert isinstance(tested.scores, scores.Classification)
    assert tested.scores.accuracy == pytest.approx(result.metrics["test_accuracy"])
    assert tested.classes == ("setosa", "versicolor", "virginica")
    assert len(tested.truth) == result.environment["rows"]["test"]


def test_the_test_metrics_of_a_regression_are_in_the_targets_own_unit(make_spec: Train, train_one: Train) -> None:
    spec = make_spec("sine", epochs=3)
    result = train_one(spec)
    tested = retested(spec, result)
    for name in ("mse", "rmse", "mae", "r2"):
        assert getattr(tested.scores, name) == pytest.approx(result.metrics[f"test_{name}"], rel=1e-4)
    assert tested.predictions == pytest.approx(tested.truth + tested.scores.residuals)


def test_other_data_than_those_of_the_job_are_refused(make_spec: Train, train_one: Train) -> None:
    spec = make_spec("iris", epochs=1)
    result = train_one(spec)
    with pytest.raises(InputError, match=r"not those that job 1 was trained on .*recorded another"):
        retested(spec, result, fingerprint="another")


def test_whatever_keeps_the_data_from_being_built_is_one_message(make_spec: Train) -> None:
    spec = make_spec("iris", batch_norm=True)
    with pytest.raises(InputError, match="could not be built again: ValueError: batch_norm needs"):
        evaluation.rebuilt(replace(spec, params={**spec.params, "batch_size": 1}))


def test_the_numbers_of_a_classification_are_scikit_learns(drawn: Any) -> None:
    logits, truth = drawn
    found = scores.classification(logits, truth, ["a", "b", "c", "d"])
    predicted, chances = logits.argmax(1), scores.probabilities(logits)
    assert found.f1 == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(truth, chances, multi_class="ovr"))
    assert (found.confusion == metrics.confusion_matrix(truth, predicted)).all()
    assert found.confusion.sum(1).tolist() == [one.rows for one in found.classes]
    assert [one.recall for one in found.classes] == pytest.approx(metrics.recall_score(truth, predicted, average=None))


def test_the_auc_of_two_classes_is_that_of_the_second(drawn: Any) -> None:
    logits, truth = drawn
    logits, truth = logits[:, :2], truth % 2
    found = scores.classification(logits, truth, ["no", "yes"])
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(truth, logits[:, 1] - logits[:, 0]))


def test_a_class_that_the_test_part_lacks_has_no_auc(drawn: Any) -> None:
    logits, truth = drawn
    found = scores.classification(logits, np.minimum(truth, 2), ["a", "b", "c", "d"])
    assert found.classes[3].roc_auc is None
    assert found.roc_auc == pytest.approx(np.mean([one.roc_auc for one in found.classes[:3]]))
    alone = scores.classification(logits, np.zeros(200, np.int64), ["a", "b", "c", "d"])
    assert alone.roc_auc is None


def test_the_calibration_error_is_the_distance_of_confidence_and_accuracy_weighted_by_rows() -> None:
    sure, unsure = np.log([0.9, 0.1]), np.log([0.6, 0.4])
    logits = np.array([sure] * 4 + [unsure] * 6)
    truth = np.array([0, 0, 0, 1, 0, 0, 0, 1, 1, 1])
    found = scores.classification(logits, truth, ["a", "b"])
    assert found.calibration_error == pytest.approx(0.4 * abs(0.75 - 0.9) + 0.6 * abs(0.5 - 0.6))
    assert [(one.rows, one.accuracy) for one in found.bins] == [(6, 0.5), (4, 0.75)]


def test_the_most_confident_mistake_comes_first(drawn: Any) -> None:
    logits, truth = drawn
    found = scores.classification(logits, truth, ["a", "b", "c", "d"])
    confidences = [one.confidence for one in found.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    assert found.wrong == (logits.argmax(1) != truth).sum()
    assert all(one.truth != one.predicted for one in found.mistakes)
    assert confidences[0] == found.confidence[~found.right].max()


class TwoColumns(nn.Module):
    """Raw columns "kind" (two one-hot inputs) and "noise"; only the kind tells the class."""

    origins = (0, 1, 0)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        kind = rows[:, :1]
        return torch.cat([kind, rows[:, 1:], 1 - kind], dim=1)


def two_columns(mistakes: int = 0) -> Network:
    rows = torch.tensor([[kind, noise] for kind in (0.0, 1.0) for noise in torch.linspace(-1, 1, 40)])
    truth, net, before = rows[:, 0].long(), nn.Linear(3, 2, bias=False), TwoColumns()
    truth[:mistakes] = 1 - truth[:mistakes]
    net.weight.data = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]])
    signature = Signature(input_shape=(2,), features=("kind", "noise"), classes=("a", "b"))
    model = Model(signature, before=before, net=net, after=nn.Identity())
    part = Split(inputs=before(rows), targets=truth, truth=truth, rows=torch.arange(80))
    problem = Problem(model=model, loss=cross_entropy, train=part, val=part, test=part, fingerprint="")
    return Network(problem, model, TrainingParams(lr=0.1), torch.device("cpu"))


def test_the_inputs_of_one_raw_column_are_shuffled_together(make_spec: Train) -> None:
    network = two_columns()
    tested = evaluation.tested(make_spec(), network, network.predict(network.problem.test.inputs))
    assert [one.feature for one in tested.importance] == ["kind", "noise"]
    assert tested.importance[0].drop == pytest.approx(0.5, abs=0.1)  # what a coin would lose
    assert tested.importance[1].drop == 0
    assert tested.importance == evaluation.tested(make_spec(), network, torch.from_numpy(tested.predictions)).importance


def test_an_ignored_column_loses_nothing_where_some_rows_are_drawn(
    make_spec: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score before and those after are of the same rows, though the network errs on some and not on others."""
    monkeypatch.setattr(evaluation, "MOST_ROWS", 20)
    network = two_columns(mistakes=30)
    tested = evaluation.tested(make_spec(), network, network.predict(network.problem.test.inputs))
    assert tested.importance_rows == 20
    drops = {one.feature: (one.drop, one.std) for one in tested.importance}
    assert drops["noise"] == (0, 0)
    assert drops["kind"] != (0, 0)


class Scaled(nn.Module):
    """Pixels of 0 to 255 to -1 to 1."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels / 127.5 - 1


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 5)), (3, (4, 5, 3))])
def test_a_picture_is_shown_as_its_pixels_were(channels: int, shape: tuple[int, ...]) -> None:
    pixels = torch.randint(256, (2, channels, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(channels * 20, 2))
    signature = Signature(kind="image", input_shape=(channels, 4, 5), classes=("a", "b"))
    model = Model(signature, before=Scaled(), net=net, after=nn.Identity())
    part = Split(inputs=pixels, targets=torch.zeros(2), truth=torch.zeros(2), rows=torch.arange(2))
    problem = Problem(model=model, loss=cross_entropy, train=part, val=part, test=part, fingerprint="", feed=Scaled())
    picture = Network(problem, model, TrainingParams(lr=0.1), torch.device("cpu")).picture(1)
    assert picture.shape == shape
    assert (picture.reshape(4, 5, channels) == pixels[1].permute(1, 2, 0).numpy()).all()


def test_predictions_of_another_shape_are_refused_with_both_shapes() -> None:
    with pytest.raises(InputError, match=r"shape \(3, 2, 2\) for truths of \(3, 2\)"):
        evaluation.matched(np.zeros((3, 2, 2)), np.zeros((3, 2)), ())


def test_a_regression_whose_truths_are_all_equal_has_no_r2() -> None:
    found = scores.regression(np.array([1.0, 2.0, 5.0]), np.full(3, 2.0))
    assert (found.r2, found.worst) == (None, [2, 0, 1])
