"""Sweeps that are cancelled, resumed and tried again, and when they are finished."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from db import ending, leases, steering, upkeep
from db.models import Job, Sweep
from db.session import Database
from jobs.spec import Answer, TrainResult
from jobs.states import JobState, SweepState
from tests.moves import LEASE, claim, claim_one, failure, let_go, write

AddSweep = Callable[..., int]
Row = Callable[[int], dict[str, Any]]
Result = Callable[..., TrainResult]


class TestSteering:
    def test_a_cancelled_sweep_ends_and_its_running_jobs_are_told(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        sweep = add_sweep(3)
        running = claim_one(database)
        assert write(database, steering.cancel_sweep, sweep) == 3
        assert claim(database) == []
        assert write(database, leases.renew, "w1", {(running.job, 1)}, LEASE) == {(running.job, 1): Answer.CANCELLED}
        assert let_go(database, running) is JobState.CANCELLED
        with database.reading() as session:
            assert set(session.scalars(select(Job.state))) == {JobState.CANCELLED}

    def test_a_job_of_a_cancelled_sweep_that_fails_is_cancelled(self, database: Database, add_sweep: AddSweep) -> None:
        sweep = add_sweep()
        running = claim_one(database)
        write(database, steering.cancel_sweep, sweep)
        assert let_go(database, running, failure(running.job)) is JobState.CANCELLED

    def test_a_job_that_stops_after_its_sweep_was_resumed_is_ready_again(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        """Its trainer was told of the cancel, and stops; what counts is what the sweep is by then."""
        sweep = add_sweep()
        running = claim_one(database)
        write(database, steering.cancel_sweep, sweep)
        write(database, steering.resume_sweep, sweep)
        assert let_go(database, running) is JobState.READY
        assert write(database, upkeep.close_finished) == 0
        assert claim_one(database).attempt == 2

    def test_resuming_or_retrying_a_finished_sweep_without_such_jobs_leaves_it_finished(
        self, database: Database, add_sweep: AddSweep, result: Result
    ) -> None:
        sweep = add_sweep()
        done = claim_one(database)
        write(database, ending.finish, [(done, result(done.job))])
        write(database, upkeep.close_finished)
        assert write(database, steering.resume_sweep, sweep) == 0
        assert write(database, steering.retry_sweep, sweep) == 0
        with database.reading() as session:
            assert session.get_one(Sweep, sweep).state == SweepState.FINISHED

    def test_a_resumed_sweep_carries_on(self, database: Database, add_sweep: AddSweep, result: Result) -> None:
        sweep = add_sweep(3)
        done = claim_one(database)
        write(database, ending.finish, [(done, result(done.job))])
        write(database, steering.cancel_sweep, sweep)
        assert write(database, steering.resume_sweep, sweep) == 2
        assert len(claim(database, limit=9)) == 2

    def test_a_retry_tries_only_what_failed_and_with_all_retries(
        self, database: Database, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        sweep = add_sweep(2, retries=0)
        done, failed = claim_one(database), claim_one(database)
        write(database, ending.finish, [(done, result(done.job))])
        let_go(database, failed, failure(failed.job))
        assert write(database, upkeep.close_finished) == 1
        assert write(database, steering.retry_sweep, sweep) == 1
        again = claim_one(database)
        assert (again.job, again.attempt, row(again.job)["failures"]) == (failed.job, 2, 0)

    def test_a_retry_does_not_bring_a_cancelled_sweep_back(self, database: Database, add_sweep: AddSweep) -> None:
        sweep = add_sweep(2, retries=0)
        failed = claim_one(database)
        let_go(database, failed, failure(failed.job))
        write(database, steering.cancel_sweep, sweep)
        assert write(database, steering.retry_sweep, sweep) == 0
        assert claim(database) == []

    def test_a_sweep_is_finished_when_its_last_job_is_final(
        self, database: Database, add_sweep: AddSweep, result: Result
    ) -> None:
        sweep = add_sweep(2)
        first, second = claim_one(database), claim_one(database)
        write(database, ending.finish, [(first, result(first.job))])
        assert write(database, upkeep.close_finished) == 0
        write(database, ending.finish, [(second, result(second.job))])
        assert write(database, upkeep.close_finished) == 1
        with database.reading() as session:
            found = session.get_one(Sweep, sweep)
            assert (found.state, found.finished_at is not None) == (SweepState.FINISHED, True)
