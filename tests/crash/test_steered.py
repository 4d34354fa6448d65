"""Sweeps that are steered while real workers train them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db import steering
from db.leaderboard import top
from jobs.states import JobState, SweepState
from scheduler.extend import extend
from tests.yards import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(tmp_path, f"sqlite:///{tmp_path}/yard.db")
    yield yard
    yard.close()


def test_a_pause_that_does_not_wait_gives_running_jobs_back_and_a_resume_goes_on_from_there(yard: Yard) -> None:
    quiet = yard.submit(epochs=2000)
    yard.start_worker()
    yard.wait_for_end(quiet)
    paused = yard.submit(epochs=2000)
    yard.wait_for_epoch(paused, 40)
    with yard.database.writing() as session:
        assert steering.pause_sweep(session, paused, halt=True)
    yard.wait_until("it is given back", lambda: yard.jobs(paused)[0]["state"] == JobState.READY)
    (job,) = yard.jobs(paused)
    assert (job["failures"], job["epoch"] < 2000) == (0, True)
    with yard.database.writing() as session:
        steering.resume_sweep(session, paused)
    yard.wait_for_end(paused)
    assert yard.outcome(paused) == yard.outcome(quiet)
    first, second = yard.attempts(job["id"])
    assert (first.outcome, second.outcome, (second.resumed_from or 0) > 0) == ("given back", "succeeded", True)


def test_a_cancelled_job_whose_trainer_does_not_stop_has_ended_within_ten_seconds(tmp_path: Path) -> None:
    """With the default settings. A trainer that is stopped by a signal is in a batch that takes for ever."""
    defaults: dict[str, Any] = {"heartbeat_seconds": 2.0, "lease_seconds": 20.0, "tick_seconds": 1.0}
    yard = Yard(tmp_path, f"sqlite:///{tmp_path}/yard.db", **defaults)
    try:
        sweep = yard.submit()
        worker = yard.start_worker()
        yard.wait_for_epoch(sweep, 1)
        yard.trainer_of(worker).suspend()
        with yard.database.writing() as session:
            assert steering.cancel_sweep(session, sweep) == 1
        began = time.monotonic()
        (job,) = yard.wait_for_end(sweep)
        assert time.monotonic() - began <= 10.0
        assert job["state"] == JobState.CANCELLED
    finally:
        yard.close()


SCHEDULES: list[Any] = [
    None,
    {"name": "step", "step_size": 5, "gamma": 0.7},
    {"name": "plateau", "patience": 1},
    {"name": "cosine"},
    {"name": "one_cycle"},
]


@pytest.mark.parametrize("last", ["is there", "is gone"])
def test_an_extended_job_equals_one_that_was_submitted_with_as_many_epochs(tmp_path: Path, last: str) -> None:
    """It goes on from its last checkpoint, where its learning rates would have been the same, else from the start."""
    yard = Yard(tmp_path, f"sqlite:///{tmp_path}/yard.db", checkpoint_seconds=0)
    keys = {
        "grid": {"scheduler": SCHEDULES},
        "fixed": {"dropout": 0.3, "lr": 0.01, "warmup_epochs": 2},
        "early_stopping": {"patience": 6},
        "keep": {"last": True},
    }
    try:
        extended = yard.submit(epochs=12, **keys)
        yard.start_worker()
        with yard.scheduler():
            yard.wait_for_end(extended)
            if last == "is gone":
                for file in tmp_path.rglob("last.safetensors"):
                    file.unlink()
            assert extend(yard.database, extended, {"epochs": 24}).again >= 3
            with yard.database.reading() as session:
                assert len(top(session, sweep=extended)) == len(SCHEDULES)
            yard.wait_for_end(extended)
            fresh = yard.submit(epochs=24, **keys)
            yard.wait_for_end(fresh)
        assert yard.outcome(extended) == yard.outcome(fresh)
        resumed = [yard.attempts(job["id"])[-1].resumed_from for job in yard.jobs(extended)]
        assert [bool(epoch) for epoch in resumed[:3]] == [last == "is there"] * 3
        assert resumed[3:] == [0, 0]
    finally:
        yard.close()


def test_a_sweep_is_extended_while_it_runs(yard: Yard) -> None:
    sweep = yard.submit(epochs=60, grid={"lr": [0.003, 0.01]}, seeds=1)
    yard.start_worker(slots=2)
    with yard.scheduler():
        yard.wait_for_epoch(sweep, 1)
        given = extend(yard.database, sweep, {"grid": {"lr": [0.03]}, "seeds": 2, "epochs": 80})
        assert (given.cells, given.jobs) == (1, 4)
        yard.wait_until("it is finished", lambda: _state(yard, sweep) == SweepState.FINISHED)
    jobs = yard.jobs(sweep)
    assert {(job["cell"], job["seed"]) for job in jobs} == {(cell, seed) for cell in range(3) for seed in range(2)}
    assert {(job["state"], job["epochs"]) for job in jobs} == {(JobState.SUCCEEDED, 80)}


def _state(yard: Yard, sweep: int) -> str:
    from db import status

    with yard.database.reading() as session:
        return status.sweep_status(session, sweep).state
