"""A user's own task trains like every other; a mistake in its code fails its job with one message."""

from collections.abc import Callable

import pytest
import torch

from jobs import artifact
from jobs.errors import UnknownTask
from jobs.problem import Problem
from jobs.spec import Answer, EpochReport, Failure, JobSpec, Outcome, Stopped, TrainResult
from jobs.tasks import load
from tests.histories import without_seconds
from tests.own_tasks import CLOUDS, OwnFolder, changed

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]

# what is wrong -> (lines of the class, the message)
WRONG_PARTS = {
    "nothing returned": (["def data(self, params, seed): pass"], "its data are None (is there a return?)"),
    "other lengths": (["def data(self, params, seed): return np.ones((9, 2)), [0, 1]"], "9 rows, but 2 labels"),
    "rows of one dimension": (
        ["def data(self, params, seed): return np.ones(9), [0, 1, 2] * 3"],
        "its rows have shape (9,); allowed is (rows, columns); of one column rows[:, None]",
    ),
    "rows of texts": (
        ['def data(self, params, seed): return [["a", "b"]] * 9, [0, 1, 2] * 3'],
        "its rows are of type <U1, allowed are numbers; one is 'a'",
    ),
    "rows of different lengths": (
        ["def data(self, params, seed): return [[1, 2], [1]], [0, 1]"],
        "its rows cannot be taken for an array: ",
    ),
    "labels with fractions": (
        ["def data(self, params, seed): return np.ones((90, 2)), np.arange(90) / 2"],
        "its labels are float64; a classification needs texts or whole numbers: for values write kind",
    ),
    "labels that are missing": (
        ['def data(self, params, seed): return np.ones((9, 2)), np.array(["a", "b", None] * 3, dtype=object)'],
        "label 2 is None, others are texts",
    ),
    "NaN in two rows": (
        [
            "def data(self, params, seed):",
            "    rows = np.ones((90, 2)); rows[[17, 30], 1] = np.nan",
            "    return rows, np.arange(90) % 3",
        ],
        "2 of its rows are not finite, counted from 0: 17, 30 (the first has nan in column 1)",
    ),
    "a class of one row": (
        ["def data(self, params, seed): return np.ones((90, 2)), [0] * 44 + [1] * 45 + [2]"],
        "class '2' has 1 of its rows; at least 3: for training, validation and test",
    ),
    "a single class": (["def data(self, params, seed): return np.ones((9, 2)), [1] * 9"], "all its labels are '1'"),
    "too few rows": (["def data(self, params, seed): return np.ones((2, 2)), [0, 1]"], "leave a part empty"),
    "other parts": (["def data(self, params, seed): return {'train': 1}"], "allowed are train, val, test"),
    "a class that is not trained": (
        [
            "def data(self, params, seed):",
            "    part = (np.ones((6, 2)), [0, 1] * 3)",
            "    return {'train': part, 'val': part, 'test': (np.ones((9, 2)), [0, 1, 2] * 3)}",
        ],
        "class '2' has no row in its part for training",
    ),
    "a regression of one value": (
        ['kind = "regression"', "def data(self, params, seed): return np.ones((90, 2)), np.ones(90)"],
        "all its labels are 1: there is nothing to learn",
    ),
    "no network": (["def model(self, params, signature): return 3"], "its model is int; allowed is a torch.nn.Module"),
    "outputs of another shape": (
        ["def model(self, params, signature): return nn.Linear(2, 2)"],
        "for 3 rows its network gives Tensor of shape (3, 2); logits of 3 classes have shape (3, 3)",
    ),
    "two outputs": (
        [
            "class Two(nn.Module):",
            "    def forward(self, rows): return rows, rows",
            "def model(self, params, signature): return self.Two()",
        ],
        "for 3 rows its network gives tuple; logits of 3 classes",
    ),
    "nothing to train": (
        ["def model(self, params, signature): return nn.Linear(2, 3).requires_grad_(False)"],
        "its network has no weights that could be trained",
    ),
    "weights that nothing uses": (
        [
            "def model(self, params, signature):",
            "    net = nn.Sequential(nn.Linear(2, 3))",
            "    net[0].extra = nn.Linear(1, 1, bias=False)",
            "    return net",
        ],
        "weights of its network that no output depends on: 0.extra.weight; remove them",
    ),
    "a loss of one number": (
        ["def loss(self, params, outputs, targets): return nn.functional.cross_entropy(outputs, targets)"],
        "for 3 samples its loss is Tensor of shape (); it must be a value for every sample, shape (3,): with losses of "
        'torch write reduction="none"',
    ),
    "a detached loss": (
        ["def loss(self, params, outputs, targets): return super().loss(params, outputs.detach(), targets)"],
        "its loss does not depend on the network's weights",
    ),
    "a metric that is no number": (
        ['metrics = {"worst": ("max", lambda predictions, truth: predictions)}'],
        "its metric 'worst' is Tensor of shape (54, 3); it must be one number",
    ),
    "a metric of nothing": (
        ['metrics = {"worst": ("max", lambda predictions, truth: None)}'],
        "its metric 'worst' is None (is there a return?); it must be one number",
    ),
    "another problem": (["def problem(self, params, seed): return 1"], "its problem is int; allowed is a jobs.problem"),
}


@pytest.mark.parametrize("kind", WRONG_PARTS)
def test_a_mistake_in_its_code_fails_the_job_with_one_message(
    write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne, kind: str
) -> None:
    lines, part = WRONG_PARTS[kind]
    write("my_task", changed(*lines))
    failure = train_one(make_spec("clouds"))
    assert isinstance(failure, Failure), failure
    assert failure.error.startswith("task clouds (my_task.py): ")
    assert part in failure.error
    assert len(failure.error.splitlines()) == 1
    assert not failure.again


def test_what_its_code_raises_is_told_with_its_place(
    write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne
) -> None:
    write("my_task", changed("def data(self, params, seed): return {}['rows']"))
    failure = train_one(make_spec("clouds"))
    assert isinstance(failure, Failure)
    assert failure.error.startswith("KeyError: 'rows'\n")
    assert "my_task.py" in failure.error


class TestTraining:
    def test_a_job_that_is_given_back_ends_as_if_it_had_never_been_disturbed(
        self, write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        write("my_task")
        whole = train_one(make_spec("clouds", epochs=6))

        def give_back(report: EpochReport) -> Answer:
            return Answer.GIVE_BACK if report.epoch == 3 else Answer.GO_ON

        assert isinstance(train_one(make_spec("clouds", epochs=6, job=2), answer=give_back), Stopped)
        resumed = train_one(make_spec("clouds", epochs=6, job=2), attempt=2)
        assert isinstance(whole, TrainResult)
        assert isinstance(resumed, TrainResult)
        assert resumed.resumed_from == 3
        assert without_seconds(resumed.history) == without_seconds(whole.history)
        assert whole.best is not None
        assert resumed.best is not None
        assert resumed.best.sha256 == whole.best.sha256

    def test_changed_code_starts_afresh(self, write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne) -> None:
        write("my_task")
        train_one(make_spec("clouds"), answer=lambda report: Answer.GIVE_BACK)
        write("my_task", CLOUDS.replace("2 * super", "3 * super"))
        resumed = train_one(make_spec("clouds"), attempt=2)
        assert isinstance(resumed, TrainResult)
        assert resumed.resumed_from == 0

    def test_its_model_is_read_from_its_file_where_the_task_is_there(
        self, write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        write("my_task")
        result = train_one(make_spec("clouds", width=5, epochs=30))
        assert isinstance(result, TrainResult)
        assert result.environment["code"]
        assert {"val_worst", "test_worst", "test_accuracy"} <= set(result.metrics)
        assert result.best is not None
        assert result.best.content is not None
        model = artifact.load(result.best.content)
        assert (model.task, model.classes, model.features) == ("clouds", ("0", "1", "2"), ("x0", "x1"))
        assert model([[0.0, 0.0], [2.0, 2.0]]).argmax(1).tolist() == [0, 2]
        write("my_task", named="")
        with pytest.raises(UnknownTask, match=r"there is no task 'clouds'.*GRIDYARD_TASKS"):
            artifact.load(result.best.content)

    def test_torchs_dropout_is_replaced_by_one_that_follows_from_the_step(self, write: OwnFolder) -> None:
        write("my_task")
        problem = build()
        assert "jobs.layers.Dropout" in {
            f"{type(one).__module__}.{type(one).__name__}" for one in problem.model.modules()
        }
        assert not any(isinstance(one, torch.nn.Dropout) for one in problem.model.modules())

    @pytest.mark.parametrize(
        ("lines", "classes"),
        [
            (["def data(self, params, seed): return torch.rand(90, 2), ['b', 'a', 'c'] * 30"], ("a", "b", "c")),
            (["def data(self, params, seed): return np.ones((90, 2), int), np.arange(90) % 3 + 7"], ("7", "8", "9")),
        ],
    )
    def test_labels_are_texts_or_whole_numbers(
        self, write: OwnFolder, lines: list[str], classes: tuple[str, ...]
    ) -> None:
        write("my_task", changed(*lines))
        assert build().model.classes == classes

    def test_a_frame_names_its_columns_and_two_classes_may_have_one_logit(
        self, write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        frame = "pandas.DataFrame({'age': np.arange(90.0), 'height': 1.0}), pandas.Series(['no', 'yes'] * 45)"
        data = ["def data(self, params, seed):", "    import pandas", f"    return {frame}"]
        write("my_task", changed(*data, "def model(self, params, signature): return nn.Linear(2, 1)"))
        problem = build()
        assert (problem.model.features, problem.model.classes) == (("age", "height"), ("no", "yes"))
        assert problem.train.targets.shape == (54, 1)
        assert problem.model(torch.zeros(4, 2)).shape == (4, 2)
        assert isinstance(train_one(make_spec("clouds")), TrainResult)

    def test_a_split_of_its_own_is_kept(self, write: OwnFolder) -> None:
        part = "(np.full((6, 2), {}), [0, 1, 2] * 2)"
        parts = "{" + ", ".join(f"'{n}': {part.format(v)}" for n, v in (("train", 1), ("val", 2), ("test", 3))) + "}"
        write("my_task", changed("standardise = False", f"def data(self, params, seed): return {parts}"))
        problem = build()
        assert [float(getattr(problem, name).inputs.unique()) for name in ("train", "val", "test")] == [1, 2, 3]
        assert problem.test.rows.tolist() == list(range(12, 18))

    def test_a_regression_is_learned_standardised_and_predicted_in_its_unit(
        self, write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        x = "np.linspace(0, 1, 90)[:, None]"
        lines = ['kind = "regression"', "metrics = {}", "Params = MlpParams", "model = OwnTask.model"]
        lines += [f"def data(self, params, seed): return {x}, 1000 + 500 * {x}"]
        write("my_task", changed(*lines))
        result = train_one(make_spec("clouds", epochs=40))
        assert isinstance(result, TrainResult)
        assert result.metrics["test_r2"] > 0.98
        assert 0 < result.metrics["test_rmse"] < 30

    def test_data_of_one_seed_have_one_fingerprint(self, write: OwnFolder) -> None:
        write("my_task")
        first = build().fingerprint
        assert build().fingerprint == first
        write("my_task", CLOUDS.replace("default_rng(0)", "default_rng(1)"))
        assert build().fingerprint != first

    def test_rows_of_any_shape_reach_a_network_of_its_own(self, write: OwnFolder) -> None:
        lines = [
            "def data(self, params, seed): return np.random.default_rng(0).normal(size=(90, 1, 4, 4)), [0, 1, 2] * 30"
        ]
        lines += ["def model(self, params, signature): return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))"]
        write("my_task", changed(*lines))
        assert build().model(torch.zeros(5, 1, 4, 4)).shape == (5, 3)

    def test_a_problem_of_its_own_gives_full_control(
        self, write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        lines = [
            "def problem(self, params, seed):",
            "    from dataclasses import replace",
            "    usual = super().problem(params, seed)",
            "    return replace(usual, augment=lambda rows, draws: rows + 0.01, notes=('shifted',))",
        ]
        write("my_task", changed(*lines))
        result = train_one(make_spec("clouds"))
        assert isinstance(result, TrainResult)
        assert result.environment["notes"] == ["shifted"]


def build() -> Problem:
    module, params = load("clouds", {})
    built = module.build(params, 0)
    assert isinstance(built, Problem)
    return built
