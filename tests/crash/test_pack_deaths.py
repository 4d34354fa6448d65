"""A pack is disturbed in the middle: each of its jobs ends once, as if it had trained alone and undisturbed."""

from itertools import pairwise
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from db import steering
from db.models import Job
from jobs.states import JobState
from tests.yards import Yard

PACK: dict[str, Any] = {
    "grid": {"lr": [0.001, 0.003, 0.01]},
    "fixed": {"dropout": 0.3, "scheduler": {"name": "cosine"}, "warmup_epochs": 5},
    "epochs": 900,
    "pack": 3,  # not as many as a busy machine measures
}
MIDDLE = 60  # an epoch in the middle of every job of the pack


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the jobs come to when each trains alone and nothing disturbs it."""
    home = tmp_path_factory.mktemp("singles")
    yard = Yard(home, f"sqlite:///{home}/gridyard.db")
    singles = [yard.submit(**PACK | {"grid": {"lr": [lr]}}) for lr in PACK["grid"]["lr"]]
    yard.start_worker()
    outcomes = []
    for sweep in singles:
        yard.wait_for_end(sweep)
        outcomes += _numbers(yard.outcome(sweep))
    yard.close()
    return outcomes


def _numbers(outcome: list[Any]) -> list[Any]:
    """Without the number of the cell, which tells only its place in the grid."""
    return [({**job, "cell": None}, history, model) for job, history, model in outcome]


def _wait_for_the_pack(yard: Yard, sweep: int) -> list[dict[str, Any]]:
    """The sweep's jobs, when all of them are in the middle."""
    yard.wait_until("all jobs are in the middle", lambda: all(job["epoch"] >= MIDDLE for job in yard.jobs(sweep)))
    return yard.jobs(sweep)


def _outcomes(yard: Yard, sweep: int) -> list[list[str | None]]:
    return [[attempt.outcome for attempt in yard.attempts(job["id"])] for job in yard.jobs(sweep)]


def test_jobs_of_a_pack_come_to_the_same_as_each_alone_and_are_cancelled_together(
    yard: Yard, undisturbed: list[Any]
) -> None:
    sweep = yard.submit(**PACK)
    worker = yard.start_worker()
    jobs = yard.wait_for_end(sweep)
    attempts = [yard.attempts(job["id"])[0] for job in jobs]
    assert max(one.started_at for one in attempts) < min(
        one.finished_at for one in attempts if one.finished_at
    )  # they were together
    assert _numbers(yard.outcome(sweep)) == undisturbed
    assert _outcomes(yard, sweep) == [["succeeded"]] * 3

    trainer, unwanted = yard.trainer_of(worker), yard.submit(**PACK | {"epochs": 8000})
    _wait_for_the_pack(yard, unwanted)
    with yard.database.writing() as session:
        assert steering.cancel_sweep(session, unwanted) == 3
    assert [job["state"] for job in yard.wait_for_end(unwanted)] == [JobState.CANCELLED] * 3
    assert max(job["epoch"] for job in yard.jobs(unwanted)) < 8000
    assert trainer.is_running()  # it was asked, not killed


def test_a_killed_trainers_jobs_go_on_from_their_checkpoints_one_by_one(yard: Yard, undisturbed: list[Any]) -> None:
    sweep = yard.submit(**PACK)
    worker = yard.start_worker()
    _wait_for_the_pack(yard, sweep)
    yard.trainer_of(worker).kill()
    jobs = yard.wait_for_end(sweep)
    assert _outcomes(yard, sweep) == [["crashed", "succeeded"]] * 3
    again = [yard.attempts(job["id"])[1] for job in jobs]
    assert all((one.resumed_from or 0) > 0 for one in again)
    assert all(before.finished_at <= after.started_at for before, after in pairwise(again))  # type: ignore[operator]
    assert _numbers(yard.outcome(sweep)) == undisturbed


def test_a_killed_workers_pack_is_rescued(yard: Yard, undisturbed: list[Any]) -> None:
    sweep = yard.submit(**PACK)
    worker = yard.start_worker()
    _wait_for_the_pack(yard, sweep)
    trainer = yard.trainer_of(worker)
    worker.kill()
    gone, _ = psutil.wait_procs([trainer], timeout=10)
    assert gone == [trainer]
    with yard.scheduler():
        yard.start_worker(slots=2)
        yard.wait_for_end(sweep)
    assert _outcomes(yard, sweep) == [["lost", "succeeded"]] * 3
    assert _numbers(yard.outcome(sweep)) == undisturbed


def test_a_worker_that_is_told_to_stop_gives_its_pack_back(yard: Yard, undisturbed: list[Any]) -> None:
    sweep = yard.submit(**PACK, retries=0)
    worker = yard.start_worker()
    _wait_for_the_pack(yard, sweep)
    worker.terminate()
    assert worker.wait(timeout=yard.settings.grace_seconds) == 0
    given_back = yard.jobs(sweep)
    assert [(job["state"], job["failures"]) for job in given_back] == [(JobState.READY, 0)] * 3
    yard.start_worker()
    jobs = yard.wait_for_end(sweep)
    resumed = [yard.attempts(job["id"])[1].resumed_from for job in jobs]
    assert resumed == [job["epoch"] for job in given_back]  # not one epoch was trained twice
    assert _outcomes(yard, sweep) == [["preempted", "succeeded"]] * 3
    assert _numbers(yard.outcome(sweep)) == undisturbed


def test_a_row_that_lost_its_claim_leaves_the_pack_and_touches_no_other(yard: Yard, undisturbed: list[Any]) -> None:
    sweep = yard.submit(**PACK)
    yard.start_worker()
    lost, *_ = _wait_for_the_pack(yard, sweep)
    with yard.database.writing() as session:  # as if it had been rescued and another worker had it
        session.execute(update(Job).where(Job.id == lost["id"]).values(worker="another", attempt=2, epoch=0))
    others = yard.wait_until("the others have ended", lambda: _succeeded(yard, sweep, 2))
    (left,) = [job for job in yard.jobs(sweep) if job["id"] not in others]
    assert (left["id"], left["worker"], left["attempt"]) == (lost["id"], "another", 2)
    assert (left["state"], left["epoch"]) == (JobState.RUNNING, 0)
    assert _numbers(yard.outcome(sweep))[1:] == undisturbed[1:]


def _succeeded(yard: Yard, sweep: int, count: int) -> list[int] | None:
    done = [job["id"] for job in yard.jobs(sweep) if job["state"] == JobState.SUCCEEDED]
    return done if len(done) == count else None
