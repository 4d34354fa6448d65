"""The trial of a user's own network and loss: once for jobs that are alike, and as if it had been for each."""

from collections.abc import Callable

import pytest
import torch

from jobs import own_trial
from jobs.own import OwnTask
from jobs.own_trial import Passed
from jobs.problem import Problem
from jobs.spec import Failure, JobSpec, Outcome, TrainResult
from jobs.tasks import load
from tests.histories import without_seconds
from tests.own_tasks import OwnFolder, changed

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]

NORMED = [
    "def model(self, params, signature):",
    "    layers = [nn.Linear(2, params.width), nn.BatchNorm1d(params.width), nn.Dropout(0.3)]",
    "    return nn.Sequential(*layers, nn.Linear(params.width, 3))",
]
DRAWING = [
    "class Drawing(nn.Module):",
    "    def __init__(self, width):",
    "        super().__init__()",
    "        self.first, self.last = nn.Linear(2, width), nn.Linear(width, 3)",
    "    def forward(self, rows):",
    "        return self.last(nn.functional.dropout(self.first(rows), 0.3, self.training))",
    "def model(self, params, signature):",
    "    return self.Drawing(params.width)",
    "def problem(self, params, seed):",  # which draws on after the trial
    "    found = super().problem(params, seed)",
    "    nn.init.normal_(found.model.net.last.weight)",
    "    return found",
]

ROUTING = [
    "class Routing(nn.Module):",
    "    def __init__(self):",
    "        super().__init__()",
    "        self.one, self.other = nn.Linear(2, 3), nn.Linear(2, 3)",
    "    def forward(self, rows):",
    "        return self.one(rows) + (self.other(rows) if len(rows) > 3 else 0)",
    "def model(self, params, signature): return self.Routing()",
]

# what is wrong -> (lines of the class, the width of the wrong job, the message); others have width 8 and other seeds
WRONG_PARTS = {
    "a loss of one number": (
        [
            "def loss(self, params, outputs, targets):",
            "    found = super().loss(params, outputs, targets)",
            "    return found.mean() if params.width == 4 else found",
        ],
        4,
        "for 3 samples its loss is Tensor of shape (); it must be a value for every sample, shape (3,): with losses of "
        'torch write reduction="none"',
    ),
    "a detached loss": (
        [
            "def loss(self, params, outputs, targets):",
            "    return super().loss(params, outputs.detach() if params.width == 4 else outputs, targets)",
        ],
        4,
        "its loss does not depend on the network's weights: was it detached, or made of numbers?",
    ),
    "nothing to train": (
        ["def model(self, params, signature): return nn.Linear(2, 3).requires_grad_(params.width != 4)"],
        4,
        "its network has no weights that could be trained",
    ),
    "unused weights, by the seed alone": (
        [
            "def model(self, params, signature):",
            "    net = nn.Sequential(nn.Linear(2, 3))",
            "    if torch.initial_seed() == mix(2, Purpose.INIT):",
            "        net[0].extra = nn.Linear(1, 1, bias=False)",
            "    return net",
        ],
        8,
        "weights of its network that no output depends on: 0.extra.weight; remove them",
    ),
}


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Problem]:
    """Those there were, in a process that has seen none before."""
    found: list[Problem] = []
    trial = own_trial.trial

    def noted(own: OwnTask, problem: Problem) -> None:
        found.append(problem)
        trial(own, problem)

    monkeypatch.setattr(own_trial, "PASSED", Passed())
    monkeypatch.setattr(own_trial, "trial", noted)
    return found


def test_jobs_that_differ_by_their_seed_are_tried_once(write: OwnFolder, trials: list[Problem]) -> None:
    write("my_task")
    for seed in range(3):
        build(seed)
    assert len(trials) == 1
    build(0, width=4)
    assert len(trials) == 2


@pytest.mark.parametrize("lines", [NORMED, DRAWING], ids=["with batch norm and dropout", "that draws by itself"])
def test_a_job_that_was_not_tried_ends_as_if_it_had_been(
    write: OwnFolder,
    make_spec: MakeSpec,
    train_one: TrainOne,
    trials: list[Problem],
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
) -> None:
    write("my_task", changed(*lines))
    spared = [train_one(make_spec("clouds", seed=seed, job=seed)) for seed in (1, 2)]
    monkeypatch.setattr(own_trial, "PASSED", Passed())
    tried = train_one(make_spec("clouds", seed=2, job=3))
    assert len(trials) == (2 if lines is NORMED else 3)
    assert isinstance(spared[1], TrainResult)
    assert isinstance(tried, TrainResult)
    assert without_seconds(spared[1].history) == without_seconds(tried.history)
    assert spared[1].metrics == tried.metrics
    assert spared[1].best is not None
    assert tried.best is not None
    assert spared[1].best.sha256 == tried.best.sha256


def test_a_trial_leaves_torchs_stream_and_the_network_as_they_were(write: OwnFolder, trials: list[Problem]) -> None:
    write("my_task", changed(*NORMED))
    torch.manual_seed(1)
    first, after_trial = build(0), torch.get_rng_state()
    torch.manual_seed(1)
    second, after_none = build(0), torch.get_rng_state()
    assert len(trials) == 1
    assert torch.equal(after_trial, after_none)
    states = (first.model.state_dict(), second.model.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert first.model.net[1].running_mean.tolist() == [0.0] * 8  # type: ignore[index]
    assert first.model.net.training is second.model.net.training


@pytest.mark.parametrize(
    "lines",
    [
        DRAWING,  # what is drawn after it follows from what it drew
        ["def data(self, params, seed):", "    self.n = seed", "    return np.eye(90, 2), np.arange(90) % 3"],
        [
            "def loss(self, params, outputs, targets):",
            "    self.n = 1",
            "    return super().loss(params, outputs, targets)",
        ],
        [
            "def model(self, params, signature):",
            "    net = nn.Sequential(nn.Linear(2, 3))",
            "    net.act = nn.ReLU()",
            "    net.act.by = lambda x: x",
            "    return net",
        ],
    ],
    ids=["draws", "notes its data", "notes its loss", "holds a lambda"],
)
def test_what_may_differ_unseen_is_tried_for_every_job(
    write: OwnFolder, trials: list[Problem], lines: list[str]
) -> None:
    write("my_task", changed(*lines))
    for seed in range(3):
        build(seed)
    assert len(trials) == 3


@pytest.mark.parametrize("kind", WRONG_PARTS)
def test_a_job_that_is_wrong_is_refused_as_ever_after_others_have_passed(
    write: OwnFolder, make_spec: MakeSpec, train_one: TrainOne, trials: list[Problem], kind: str
) -> None:
    lines, width, message = WRONG_PARTS[kind]
    write("my_task", "from jobs.randomness import Purpose, mix\n" + changed(*lines))
    reports: list[object] = []
    assert isinstance(train_one(make_spec("clouds", seed=1)), TrainResult)
    assert isinstance(train_one(make_spec("clouds", seed=3, job=2)), TrainResult)
    assert len(trials) == 1
    wrong = make_spec("clouds", seed=2, job=3, width=width)
    for _ in range(2):  # a mistake is not remembered for a pass
        failure = train_one(wrong, answer=reports.append)
        assert isinstance(failure, Failure)
        assert failure.error == f"task clouds (my_task.py): {message}"
        assert not failure.again
    assert not reports  # before the first epoch has begun


def test_as_many_trials_are_remembered_as_fit() -> None:
    passed = Passed(most=2)
    for key in ("first", "second", "third"):
        passed.add(key, OwnTask())
    assert [key in passed for key in ("first", "second", "third", None)] == [False, True, True, False]


def build(seed: int, **params: object) -> Problem:
    module, made = load("clouds", dict(params))
    built = module.build(made, seed)
    assert isinstance(built, Problem)
    return built


def test_weights_that_only_some_rows_reach_are_not_refused(write: OwnFolder, trials: list[Problem]) -> None:
    write("my_task", changed(*ROUTING))
    build(0)
    assert len(trials) == 1
