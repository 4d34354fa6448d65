"""Whatever dies in the middle of a job, the job ends once, and with the numbers of a job that nothing disturbed."""

import signal
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from db import steering
from jobs.states import JobState
from tests.yards import Yard

MIDDLE = 100  # an epoch in the middle of the long job

# What the databases do differently is tested in tests/db; on both run the deaths that a race in the database settles.
# Workers are killed on PostgreSQL in test_points.py, and over a whole sweep in tests/acceptance/test_iris_grid.py.
on_both_databases = pytest.mark.parametrize("yard", ["sqlite", "postgresql"], indirect=True)


def test_a_killed_trainers_job_goes_on_at_once_from_its_last_checkpoint(yard: Yard, undisturbed: list[Any]) -> None:
    """No scheduler runs: its own worker notices, and any worker with a warm trainer may take the job."""
    sweep = yard.submit()
    worker = yard.start_worker()
    job = yard.wait_for_epoch(sweep, MIDDLE)
    trainer = yard.trainer_of(worker)
    killed = datetime.now(UTC)
    trainer.kill()
    yard.wait_for_end(sweep)
    first, second = yard.attempts(job["id"])
    assert (first.outcome, second.outcome) == ("crashed", "succeeded")
    assert "signal 9" in (first.error or "")
    assert (first.finished_at - killed).total_seconds() < 1.0  # type: ignore[operator]
    assert second.resumed_from is not None
    assert second.resumed_from > 0
    assert yard.outcome(sweep) == undisturbed


def test_a_killed_workers_job_goes_on_after_its_lease_and_no_trainer_outlives_it(
    yard: Yard, undisturbed: list[Any]
) -> None:
    sweep = yard.submit()
    worker = yard.start_worker()
    job = yard.wait_for_epoch(sweep, MIDDLE)
    trainer = yard.trainer_of(worker)
    worker.kill()
    gone, alive = psutil.wait_procs([trainer], timeout=10)
    assert (gone, alive) == ([trainer], [])
    with yard.scheduler():
        yard.start_worker()
        yard.wait_for_end(sweep)
    first, second = yard.attempts(job["id"])
    assert (first.outcome, second.outcome) == ("lost", "succeeded")
    assert second.resumed_from is not None
    assert second.resumed_from > 0
    assert yard.outcome(sweep) == undisturbed


def test_a_worker_that_is_told_to_stop_gives_its_job_back(yard: Yard, undisturbed: list[Any]) -> None:
    """SIGTERM: the last checkpoint is written, no retry is used up, and the next worker goes on at once."""
    sweep = yard.submit(retries=0)
    worker = yard.start_worker()
    job = yard.wait_for_epoch(sweep, MIDDLE)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=yard.settings.grace_seconds) == 0
    (given_back,) = yard.jobs(sweep)
    assert (given_back["state"], given_back["failures"]) == (JobState.READY, 0)
    yard.start_worker()
    yard.wait_for_end(sweep)
    first, second = yard.attempts(job["id"])
    assert (first.outcome, second.outcome) == ("preempted", "succeeded")
    assert second.resumed_from == given_back["epoch"]  # not one epoch was trained twice
    assert yard.outcome(sweep) == undisturbed


@on_both_databases
def test_a_worker_that_freezes_longer_than_its_lease_changes_nothing_when_it_comes_back(
    yard: Yard, undisturbed: list[Any]
) -> None:
    sweep = yard.submit()
    zombie = yard.start_worker()
    job = yard.wait_for_epoch(sweep, MIDDLE)
    trainer = yard.trainer_of(zombie)
    for process in (zombie, trainer):
        process.send_signal(signal.SIGSTOP)
    with yard.scheduler():
        yard.start_worker()
        yard.wait_until("another worker has it", lambda: yard.jobs(sweep)[0]["attempt"] == 2)
        for process in (zombie, trainer):
            process.send_signal(signal.SIGCONT)
        yard.wait_for_end(sweep)
        # It lives on, and serves again.
        again = yard.submit(epochs=2)
        yard.wait_for_end(again)
    assert zombie.poll() is None
    first, second = yard.attempts(job["id"])
    assert (first.outcome, second.outcome) == ("lost", "succeeded")
    assert yard.outcome(sweep) == undisturbed


@on_both_databases
def test_a_worker_that_froze_may_take_its_own_lost_job_again_and_mixes_nothing_up(yard: Yard) -> None:
    """Its idle slot claims the job that its other slot still trains, without knowing that the claim is lost."""
    sweep = yard.submit(epochs=1500)
    worker = yard.start_worker(slots=2)
    yard.wait_for_epoch(sweep, 1)
    frozen = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    with yard.scheduler():
        yard.wait_until("it is rescued", lambda: yard.jobs(sweep)[0]["state"] == JobState.READY)
        for process in frozen:
            process.send_signal(signal.SIGCONT)
        yard.wait_until("it has it again", lambda: yard.jobs(sweep)[0]["attempt"] == 2)
        others = yard.submit(task="sine", grid={"degree": [3]}, fixed={}, objective=None, seeds=4, epochs=3)
        ended = yard.wait_for_end(others)
        yard.wait_for_end(sweep)
    assert {job["state"] for job in ended} == {JobState.SUCCEEDED}
    assert {(job["epochs"], "val_r2" in job["metrics"]) for job in ended} == {(3, True)}
    (job,) = yard.jobs(sweep)
    assert (job["epochs"], "val_accuracy" in job["metrics"]) == (1500, True)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["lost", "succeeded"]
    assert worker.poll() is None


def test_a_trainer_whose_pipe_is_garbled_is_ended_and_its_job_goes_on(yard: Yard, undisturbed: list[Any]) -> None:
    sweep = yard.submit()
    worker = yard.start_worker()
    job = yard.wait_for_epoch(sweep, MIDDLE)
    outbox = _pipe_to_the_worker(yard.trainer_of(worker))
    with outbox.open("wb") as pipe:
        pipe.write(b"something a library printed\n")
    yard.wait_for_end(sweep)
    first, second = yard.attempts(job["id"])
    assert (first.outcome, second.outcome) == ("crashed", "succeeded")
    assert yard.outcome(sweep) == undisturbed


def _pipe_to_the_worker(trainer: psutil.Process) -> Path:
    """The trainer's end of the pipe that its messages go through."""
    pipes = [path for path in Path(f"/proc/{trainer.pid}/fd").iterdir() if str(path.readlink()).startswith("pipe:")]
    written = {str(path.readlink()): path for path in pipes if path.name not in ("0", "1", "2")}
    errors = str(Path(f"/proc/{trainer.pid}/fd/2").readlink())
    (outbox,) = [path for pipe, path in written.items() if pipe != errors]
    return outbox


def test_a_worker_that_cannot_start_a_trainer_says_why_and_takes_no_job(yard: Yard) -> None:
    sweep = yard.submit()
    worker = yard.start_worker(device="cuda:7")
    assert worker.wait(timeout=60) == 2
    assert "cannot start a trainer" in yard.log.read_text()
    assert "cuda:7" in yard.log.read_text()
    (job,) = yard.jobs(sweep)
    assert (job["state"], job["attempt"]) == (JobState.READY, 0)


def test_a_trainer_that_is_killed_before_it_is_ready_is_replaced(yard: Yard) -> None:
    sweep = yard.submit(epochs=2)
    worker = yard.start_worker()
    yard.trainer_of(worker).kill()
    (job,) = yard.wait_for_end(sweep)
    assert (job["state"], job["attempt"], worker.poll()) == (JobState.SUCCEEDED, 1, None)


def test_a_job_that_kills_its_trainer_each_time_fails_and_leaves_the_others_alone(yard: Yard) -> None:
    sweep = yard.submit(retries=1)
    others = yard.submit(epochs=3, seeds=2)
    worker = yard.start_worker()

    for attempt in (1, 2):
        yard.wait_until(f"attempt {attempt} is running", partial(_has_attempt, yard, sweep, attempt))
        yard.trainer_of(worker).kill()
    (job,) = yard.wait_for_end(sweep)
    assert (job["state"], job["reason"], job["failures"]) == (JobState.FAILED, "crashed", 2)
    assert {other["state"] for other in yard.wait_for_end(others)} == {JobState.SUCCEEDED}


def _has_attempt(yard: Yard, sweep: int, attempt: int) -> bool:
    return bool(yard.jobs(sweep)[0]["attempt"] == attempt)


def test_a_sweep_of_many_jobs_comes_to_the_same_with_a_worker_killed_in_the_middle(yard: Yard) -> None:
    """The leaderboard of a disturbed sweep equals that of an undisturbed one, to the last digit."""
    grid = {"lr": [0.003, 0.01, 0.03], "dropout": [0.0, 0.2]}
    changes: dict[str, Any] = {"grid": grid, "fixed": {}, "seeds": 2, "epochs": 60}
    quiet = yard.submit(**changes)
    with yard.scheduler():
        worker = yard.start_worker(slots=2)
        yard.wait_for_end(quiet)
        disturbed = yard.submit(**changes)
        yard.wait_until("some jobs are done", lambda: _count(yard, disturbed, JobState.SUCCEEDED) >= 3)
        worker.kill()
        yard.start_worker(slots=2)
        yard.wait_for_end(disturbed)
    assert {job["state"] for job in yard.jobs(disturbed)} == {JobState.SUCCEEDED}
    assert yard.outcome(disturbed) == yard.outcome(quiet)
    for job in yard.jobs(disturbed):  # exactly one attempt of each succeeded
        assert [attempt.outcome for attempt in yard.attempts(job["id"])].count("succeeded") == 1


def _count(yard: Yard, sweep: int, state: JobState) -> int:
    return sum(job["state"] == state for job in yard.jobs(sweep))


def test_cancelling_stops_a_running_job(yard: Yard) -> None:
    sweep = yard.submit()
    yard.start_worker()
    yard.wait_for_epoch(sweep, 1)
    with yard.database.writing() as session:
        assert steering.cancel_sweep(session, sweep) == 1
    (job,) = yard.wait_for_end(sweep)
    assert job["state"] == JobState.CANCELLED
    assert job["epoch"] < 800


@pytest.mark.parametrize("which", ["worker", "trainer"])
def test_nothing_is_left_behind_when_a_worker_stops(yard: Yard, which: str) -> None:
    sweep = yard.submit(epochs=2)
    worker = yard.start_worker()
    yard.wait_for_end(sweep)
    trainer = yard.trainer_of(worker)
    if which == "trainer":  # an idle one that dies is replaced when there is work
        trainer.kill()
        yard.wait_for_end(yard.submit(epochs=2))
        trainer = yard.trainer_of(worker)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    assert not trainer.is_running()
