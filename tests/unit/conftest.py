"""Fixtures of the training engine's tests: a job's spec with small defaults, and a training of it in this process."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gridyard.client import Yard
from jobs.catalogue import find
from jobs.engine import Options, train
from jobs.spec import Assignment, JobSpec, Outcome
from jobs.store import Store
from tests.own_tasks import OwnFolder
from tests.trained import yard_at
from tests.training import answering, go_on


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Empty; one for all tests of a file."""
    yard = yard_at(tmp_path_factory.mktemp("yard"))
    yield yard
    yard.database.close()


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def make_spec() -> Callable[..., JobSpec]:
    """make_spec("iris", lr=0.1): a job's spec; arguments that are no field of it are parameters."""

    def make(task: str = "iris", **given: Any) -> JobSpec:
        entry = find(task)
        fields = {name: given.pop(name) for name in list(given) if name in JobSpec.__dataclass_fields__}
        facts = {"job": 1, "sweep": 1, "sweep_uid": "u", "seed": 0, "epochs": 3, "objective": entry.objective, **fields}
        return JobSpec(task=task, params=entry.params(**given).model_dump(mode="json"), **facts)

    return make


@pytest.fixture
def train_one(store: Store) -> Callable[..., Outcome]:
    """train_one(spec): its outcome. `answer` is that of its reports; other arguments are options."""

    def train_it(spec: JobSpec, *, attempt: int = 1, answer: Any = None, **options: Any) -> Outcome:
        assignment = Assignment(spec=spec, attempt=attempt)
        given = Options(**{"device": "cpu", **options})
        report = answering(answer) if answer else go_on
        (outcome,) = train([assignment], store=store, options=given, report=report)
        return outcome

    return train_it


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnFolder]:
    """write("my_task", source): a module with a user's own task in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = OwnFolder(tmp_path, monkeypatch)
    yield folder
    folder.forget()
