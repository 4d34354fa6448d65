"""How far a sweep is, on both databases."""

from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from db import claiming, ending, status, submission, upkeep, workers
from db.clock import now
from db.models import Worker
from db.session import Database
from jobs.errors import NotFound
from jobs.history import History
from jobs.spec import Claim, Failure, Objective, SweepSpec, TrainResult
from jobs.states import FailureReason, JobState

SPEC = SweepSpec(
    name="small", task="iris", fixed={"lr": 0.01}, epochs=5, objective=Objective(metric="val_accuracy", mode="max")
)


def add_sweep(session: Session, jobs: int) -> int:
    sweep = submission.add_sweep(session, SPEC, "hash", jobs)
    submission.add_jobs(session, sweep, [(cell, 0, {"dropout": cell / 10}) for cell in range(jobs)])
    assert submission.open_sweep(session, sweep)
    return sweep


def succeed(session: Session, claim: Claim, score: float) -> None:
    facts: dict[str, Any] = {"metrics": {}, "best_epoch": 1, "epochs": 5, "seconds": 1.0, "history": History.of([])}
    assert ending.finish(session, [(claim, TrainResult(job=claim.job, score=score, **facts))])


def test_a_status_counts_every_state_and_knows_the_best_job(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session, 5)
        first, second, third, _ = claiming.claim(session, "cpu", "w", 20, limit=4)
        succeed(session, first, 0.8)
        succeed(session, second, 0.9)
        failure = Failure(job=third.job, reason=FailureReason.DIVERGED, error="val_loss was nan")
        ending.let_go(session, [(third, failure)])
    with database.reading() as session:
        found = status.sweep_status(session, sweep)
        failed = status.failed_jobs(session, sweep)
    assert found.jobs == {"waiting": 0, "ready": 1, "running": 1, "succeeded": 2, "failed": 1, "cancelled": 0}
    assert (found.total, found.done, found.finished) == (5, 3, False)
    assert (found.name, found.task, found.state, found.queue) == ("small", "iris", "open", "cpu")
    assert (found.metric, found.mode, found.best, found.best_job) == ("val_accuracy", "max", 0.9, second.job)
    assert found.finished_at is None
    assert [(job.job, job.reason, job.error, job.params) for job in failed] == [
        (third.job, "diverged", "val_loss was nan", {"dropout": 0.2})
    ]


def test_a_sweep_is_finished_when_every_job_is_final(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session, 2)
        for claim in claiming.claim(session, "cpu", "w", 20, limit=2):
            succeed(session, claim, 0.5)
        upkeep.close_finished(session)
    with database.reading() as session:
        found = status.sweep_status(session, sweep)
    assert found.finished
    assert found.state == "finished"
    assert found.created_at is not None
    assert found.finished_at is not None
    assert found.finished_at >= found.created_at


def test_sweeps_are_listed_newest_first(database: Database) -> None:
    with database.writing() as session:
        first, second, third = (add_sweep(session, jobs) for jobs in (1, 2, 3))
    with database.reading() as session:
        assert [(found.sweep, found.jobs[JobState.READY]) for found in status.sweeps(session)] == [
            (third, 3),
            (second, 2),
            (first, 1),
        ]
        assert [found.sweep for found in status.sweeps(session, limit=1)] == [third]


def test_only_living_workers_of_the_sweeps_queue_count(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session, 1)
        for worker, queue_name in (("alive", "cpu"), ("other", "gpu"), ("stopped", "cpu"), ("silent", "cpu")):
            workers.register(session, worker, queue_name, 1, {})
        workers.stop(session, "stopped")
        session.execute(update(Worker).where(Worker.id == "silent").values(heartbeat_at=now(-3600)))
    with database.reading() as session:
        assert status.sweep_status(session, sweep).workers == 1


def test_the_living_workers_of_a_queue_tell_their_processes(database: Database) -> None:
    with database.writing() as session:
        workers.register(session, "here", "cpu", 1, {"host": "mine", "pid": 7})
        workers.register(session, "unknown", "cpu", 1, {})
        workers.register(session, "other", "gpu", 1, {"host": "mine", "pid": 8})
        workers.register(session, "stopped", "cpu", 1, {"host": "mine", "pid": 9})
        workers.stop(session, "stopped")
    with database.reading() as session:
        found = workers.alive(session, "cpu")
    assert {worker.worker: (worker.host, worker.pid) for worker in found} == {
        "here": ("mine", 7),
        "unknown": (None, None),
    }


def test_a_sweep_that_is_not_there_is_named(database: Database) -> None:
    with database.reading() as session, pytest.raises(NotFound, match=r"there is no sweep 12; `gridyard status`"):
        status.sweep_status(session, 12)
