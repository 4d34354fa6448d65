"""The tasks: their data and splits, what they reach, and their models as files that anyone can use."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from jobs import artifact, tasks, tensorfile
from jobs.catalogue import find
from jobs.errors import CheckpointDamaged, InputError, UnknownTask
from jobs.params import TrainingParams
from jobs.problem import Problem
from jobs.spec import EarlyStopping, JobSpec, Outcome, TrainResult
from jobs.splits import split
from jobs.tabular import Table
from jobs.tasks import breast_cancer, digits, iris, sine
from tests.training import content_of

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]
TABLES = {"iris": iris.table, "breast_cancer": breast_cancer.table, "digits": digits.table, "sine": sine.table}


def build(task: str, seed: int = 0, **given: object) -> Problem:
    module, params = tasks.load(task, given)
    problem = module.build(params, seed)
    assert isinstance(problem, Problem)
    return problem


def parts(task: str, seed: int = 0, **given: object) -> list[list[int]]:
    """Row numbers of training, validation and test."""
    table, (_, params) = TABLES[task](), tasks.load(task, given)
    assert isinstance(params, TrainingParams)
    classes = table.labels if table.classes else None
    return [part.tolist() for part in split(len(table.labels), params, seed, classes)]


class TestSplits:
    @pytest.mark.parametrize("task", TABLES)
    def test_every_row_is_in_one_part_and_the_parts_are_60_20_20(self, task: str) -> None:
        train, val, test = parts(task)
        rows = len(TABLES[task]().labels)
        assert sorted(train + val + test) == list(range(rows))
        assert len(val) == pytest.approx(0.2 * rows, abs=1)
        assert len(test) == pytest.approx(0.2 * rows, abs=1)

    @pytest.mark.parametrize("task", ["iris", "breast_cancer", "digits"])
    def test_each_part_has_the_same_share_of_every_class(self, task: str) -> None:
        labels = TABLES[task]().labels
        whole = np.bincount(labels) / len(labels)
        for part in parts(task):
            share = np.bincount(labels[part], minlength=len(whole)) / len(part)
            assert share == pytest.approx(whole, abs=1.5 / len(part))

    def test_the_split_follows_the_seed_unless_split_seed_is_given(self) -> None:
        assert parts("iris", 0) == parts("iris", 0)
        assert parts("iris", 0) != parts("iris", 1)
        assert parts("iris", 0, split_seed=5) == parts("iris", 1, split_seed=5) == parts("iris", 5)

    def test_with_one_split_seed_jobs_differ_in_their_weights_only(self) -> None:
        first, second = (build("iris", seed, split_seed=5) for seed in (0, 1))
        assert torch.equal(first.train.inputs, second.train.inputs)
        assert torch.equal(first.test.truth, second.test.truth)

    @pytest.mark.parametrize("task", TABLES)
    def test_preprocessing_is_fitted_on_the_training_rows_only(self, task: str) -> None:
        problem, rows = build(task), TABLES[task]().rows
        train, val, test = parts(task)
        scaler = StandardScaler().fit(rows[train])
        for part, numbers in ((problem.train, train), (problem.val, val), (problem.test, test)):
            expected = torch.from_numpy(scaler.transform(rows[numbers])).float()
            torch.testing.assert_close(part.inputs, expected, atol=2e-3, rtol=1e-3)

    def test_targets_are_standardised_by_the_training_rows_only(self) -> None:
        problem, labels = build("sine"), sine.table().labels
        train, _, test = parts("sine")
        expected = (labels[test] - labels[train].mean()) / labels[train].std()
        torch.testing.assert_close(problem.test.targets[:, 0], torch.from_numpy(expected).float())
        torch.testing.assert_close(problem.test.truth[:, 0], torch.from_numpy(labels[test]).float())

    def test_tables_that_differ_in_one_number_have_other_fingerprints(self) -> None:
        rows, labels = np.zeros((3, 2)), np.arange(3)
        table = Table(rows=rows, labels=labels, features=("a", "b"))
        changed = rows.copy()
        changed[2, 1] = 1e-300
        assert table.fingerprint == Table(rows=rows.copy(), labels=labels, features=("a", "b")).fingerprint
        assert table.fingerprint != Table(rows=changed, labels=labels, features=("a", "b")).fingerprint


@pytest.mark.parametrize("task", TABLES)
def test_a_task_reports_the_metrics_that_the_catalogue_says(
    make_spec: MakeSpec, train_one: TrainOne, task: str
) -> None:
    result = train_one(make_spec(task, epochs=1))
    names = {name.removeprefix("val_") for name in find(task).validation_metrics}
    assert set(result.metrics) == {f"{part}_{name}" for part in ("train", "val", "test") for name in names}


@pytest.mark.parametrize(("task", "lowest"), [("iris", 0.9), ("breast_cancer", 0.94), ("digits", 0.95)])
def test_a_classifier_learns_by_its_defaults(
    make_spec: MakeSpec, train_one: TrainOne, task: str, lowest: float
) -> None:
    stopping = EarlyStopping(patience=10)
    result = train_one(make_spec(task, epochs=find(task).epochs, early_stopping=stopping))
    assert result.metrics["test_accuracy"] >= lowest


@pytest.mark.parametrize("seed", [0, 1])
def test_sine_comes_within_5_percent_of_the_least_squares_cubic(
    make_spec: MakeSpec, train_one: TrainOne, seed: int
) -> None:
    x, y = sine.table().rows[:, 0], sine.table().labels
    train, _, test = parts("sine", seed)
    cubic = np.polyfit(x[train], y[train], 3)
    error = np.square(np.polyval(cubic, x[test]) - y[test]).mean()
    result = train_one(make_spec("sine", seed=seed, epochs=find("sine").epochs))
    assert result.metrics["test_mse"] <= 1.05 * error


def test_an_mlp_fits_sine_better_than_any_cubic(make_spec: MakeSpec, train_one: TrainOne) -> None:
    x, y = sine.table().rows[:, 0], sine.table().labels
    error = np.square(np.polyval(np.polyfit(x, y, 3), x) - y).mean()
    result = train_one(make_spec("sine", model="mlp", activation="tanh", lr=0.01, batch_size=20, epochs=40))
    assert result.metrics["test_mse"] < error


@pytest.mark.parametrize("degree", [1, 4, 9])
def test_a_polynomial_of_any_degree_is_one(degree: int) -> None:
    """Its outputs on many points are those of one polynomial of that degree through degree + 1 of them."""
    net = sine.Polynomial(degree).double()
    x = torch.linspace(-1.7, 1.7, 50, dtype=torch.float64)[:, None]
    with torch.no_grad():
        y = net(x)[:, 0].numpy()
    some = np.linspace(0, 49, degree + 1).astype(int)
    through = np.polynomial.Polynomial.fit(x[some, 0].numpy(), y[some], degree)
    assert through(x[:, 0].numpy()) == pytest.approx(y, abs=1e-9)


@pytest.mark.parametrize("loss", ["mse", "l1", "huber"])
def test_regression_learns_by_each_loss(make_spec: MakeSpec, train_one: TrainOne, loss: str) -> None:
    result = train_one(make_spec("sine", epochs=20, loss=loss, huber_delta=0.1))
    assert result.metrics["test_r2"] > 0.95


@pytest.mark.parametrize("task", ["iris", "breast_cancer", "digits"])
def test_batch_norm_of_single_rows_is_refused_in_words(task: str) -> None:
    with pytest.raises(ValueError, match="batch_norm needs batches of at least two rows; given batch_size 1"):
        build(task, batch_norm=True, batch_size=1)
    build(task, batch_norm=True, batch_size=2)
    build(task, batch_norm=True, batch_size=1, hidden=[])  # no hidden layer, so nothing is normalised


class TestModelFiles:
    @pytest.mark.parametrize("task", TABLES)
    def test_a_file_gives_raw_rows_the_predictions_that_were_scored(
        self, make_spec: MakeSpec, train_one: TrainOne, task: str
    ) -> None:
        result = train_one(make_spec(task, epochs=3, **({"batch_norm": True} if task == "digits" else {})))
        assert isinstance(result, TrainResult)
        model, table = artifact.load(content_of(result)), TABLES[task]()
        test = parts(task)[2]
        rows, truth = torch.from_numpy(table.rows[test]).float(), torch.from_numpy(table.labels[test])
        assert (model.task, model.classes, model.features) == (task, table.classes, table.features)
        assert not model.training
        with torch.no_grad():
            predictions = model(rows)
        if table.classes:
            assert predictions.shape == (len(test), len(table.classes))
            assert accuracy_score(truth, predictions.argmax(1)) == result.metrics["test_accuracy"]
        else:
            mse = (predictions[:, 0] - truth).square().mean().item()
            assert mse == pytest.approx(result.metrics["test_mse"], rel=1e-4)

    def test_a_loaded_model_takes_rows_as_numpy_gives_them_and_says_when_columns_are_missing(
        self, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        model, rows = artifact.load(content_of(train_one(make_spec("iris", epochs=2)))), TABLES["iris"]().rows
        expected = model(torch.from_numpy(rows).float())
        for given in (rows, torch.from_numpy(rows), rows.tolist(), rows.astype("float16").astype("float64")):
            assert model(given).shape == expected.shape
        assert torch.equal(model(rows), expected)
        with pytest.raises(InputError, match=r"rows of shape \(rows, 4\): sepal length .*given was \(150, 3\)"):
            model(rows[:, :3])
        with pytest.raises(InputError, match=r"given was \(4,\)"):
            model(rows[0])

    def test_loading_leaves_torchs_global_stream_as_it_was(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        content = content_of(train_one(make_spec()))
        before = torch.get_rng_state()
        artifact.load(content)
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_file_that_is_no_model_is_refused(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        content = content_of(train_one(make_spec()))
        for damaged in (b"", content[:-1], tensorfile.pack({}, {"format": "gridyard checkpoint 1"})):
            with pytest.raises(CheckpointDamaged):
                artifact.load(damaged)

    def test_a_file_of_an_unknown_task_names_it(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        tensors, facts = tensorfile.unpack(content_of(train_one(make_spec())), "it")
        with pytest.raises(UnknownTask, match="'irs'"):
            artifact.load(tensorfile.pack(tensors, {**facts, "task": "irs"}))

    def test_parameters_of_another_version_are_refused(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        tensors, facts = tensorfile.unpack(content_of(train_one(make_spec())), "it")
        with pytest.raises(CheckpointDamaged, match="none of this version"):
            artifact.load(tensorfile.pack(tensors, {**facts, "params": {**facts["params"], "newer": 1}}))

    def test_weights_of_another_shape_are_refused(self, make_spec: MakeSpec, train_one: TrainOne) -> None:
        tensors, facts = tensorfile.unpack(content_of(train_one(make_spec())), "it")
        with pytest.raises(CheckpointDamaged, match="does not fit task 'iris'"):
            artifact.load(tensorfile.pack(tensors, {**facts, "params": {**facts["params"], "hidden": [3]}}))
