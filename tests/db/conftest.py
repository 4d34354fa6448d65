"""What tests of the database need: sweeps of a given size, and the columns of a job."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import counts, submission
from db.clock import now
from db.models import Count, Job
from db.session import Database
from jobs.history import History
from jobs.spec import EpochReport, Objective, SweepSpec, TrainResult
from tests.machines import Machine
from tests.stages import Script, Stage

AddSweep = Callable[..., int]
Row = Callable[[int], dict[str, Any]]


@pytest.fixture(autouse=True)
def _counts_are_right(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: the counts are kept, whatever a statement does."""
    database: Database | None = None
    if "database" in request.fixturenames:
        database = request.getfixturevalue("database")
    yield
    if database:
        assert_counts_are_right(database)


def assert_counts_are_right(database: Database) -> None:
    with database.reading() as session:
        query = select(Job.sweep_id, Job.state, func.count()).group_by(Job.sweep_id, Job.state)
        counted = {(sweep, state): number for sweep, state, number in session.execute(query)}
        sweeps = {sweep for sweep, _ in counted} | set(session.scalars(select(Count.sweep_id)))
        kept = counts.of_sweeps(session, sweeps)
    assert {(sweep, state): n for sweep, states in kept.items() for state, n in states.items() if n} == counted


@pytest.fixture
def add_sweep(database: Database) -> AddSweep:
    """Add an open sweep of some cells; its id."""

    def add(cells: int = 1, *, opened: bool = True, packs: Sequence[int] = (), **changes: Any) -> int:
        spec = SweepSpec(
            **{
                "name": "tests",
                "task": "iris",
                "fixed": {"batch_size": 16},
                "epochs": 10,
                "objective": Objective(metric="val_accuracy", mode="max"),
                **changes,
            }
        )
        rows = [(cell, seed, {"lr": 0.1 + cell}) for cell in range(cells) for seed in spec.seeds]
        with database.writing() as session:
            sweep = submission.add_sweep(session, spec, spec_hash="tests", total=len(rows))
            submission.add_jobs(session, sweep, rows, packs or [0] * len(rows))
            if opened:
                assert submission.open_sweep(session, sweep)
        return sweep

    return add


@pytest.fixture
def row(database: Database) -> Row:
    """The columns of a job."""

    def read(job: int) -> dict[str, Any]:
        with database.reading() as session:
            found = session.scalars(select(Job).where(Job.id == job)).one()
            return {column.name: getattr(found, column.name) for column in Job.__table__.columns}

    return read


@pytest.fixture
def expire_lease(database: Database) -> Callable[[int], None]:
    """Let a job's lease run out, without waiting for it."""

    def expire(job: int) -> None:
        with database.writing() as session:
            session.execute(update(Job).where(Job.id == job).values(lease_expires_at=now(-1.0)))

    return expire


@pytest.fixture
def result() -> Callable[..., TrainResult]:
    """A result of a job that trained two epochs."""

    def make(job: int, score: float = 0.9) -> TrainResult:
        history = [
            EpochReport(job=job, epoch=n, metrics={"val_accuracy": score, "lr": 0.1}, seconds=0.5) for n in (1, 2)
        ]
        return TrainResult(
            job=job,
            score=score,
            metrics={"val_accuracy": score},
            best_epoch=2,
            epochs=2,
            seconds=1.0,
            history=History.of(history),
            environment={"device": "cpu"},
        )

    return make


@pytest.fixture
def stage(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return Stage(database, monkeypatch, tmp_path)


@pytest.fixture
def finishing(result: Callable[..., TrainResult]) -> Script:
    """Every job ends well, all at once."""
    return lambda puppet: [result(job) for job in puppet.has]


@pytest.fixture
def machine(database: Database, tmp_path: Path) -> Machine:
    return Machine(database, tmp_path)
