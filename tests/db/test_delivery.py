"""Ends that wait on disk reach the database once, and only where they still count; on both databases."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from db import claiming, ending, history, leases, results, steering, upkeep
from db.clock import now
from db.models import Job
from db.session import Database
from jobs.errors import DatabaseAway, RowDamaged
from jobs.spec import Answer, EpochReport, Failure, Stopped, TrainResult
from jobs.states import FailureReason, JobState
from tests.machines import Machine
from workers import delivery
from workers.delivery import AGAIN_SECONDS, Delivery
from workers.holdings import Holdings
from workers.spool import Spool
from workers.watch import Watch
from workers.writing import write_ends

AddSweep = Callable[..., int]
Row = Callable[[int], dict[str, Any]]
Result = Callable[..., TrainResult]


class TestDelivered:
    def test_a_result_of_a_dead_worker_is_recorded_as_if_it_lived(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep()
        claimed = machine.ended(result, 0.8)
        assert machine.delivery.round() == 1
        job = row(claimed.job)
        assert (job["state"], job["score"], job["worker"], job["attempt"]) == (JobState.SUCCEEDED, 0.8, None, 1)
        assert machine.attempts(claimed.job) == [("succeeded", None)]
        assert (machine.spool.waiting(), machine.delivery.round()) == ([], 0)
        assert machine.holdings.outcomes.counted() == {"succeeded": 1}

    def test_one_that_the_database_does_not_take_is_told_with_the_reason_until_it_does(
        self, machine: Machine, add_sweep: AddSweep, result: Result, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_sweep()
        machine.ended(result)

        def refuse(*_: Any) -> None:
            raise DatabaseAway("no such table: histories")

        with monkeypatch.context() as patch:
            patch.setattr(delivery, "together", refuse)
            machine.delivery._try_round()
        assert machine.holdings.troubles.lasting() == {"ends": "1 end waits: no such table: histories"}
        assert machine.delivery.round() == 1
        assert machine.holdings.troubles.lasting() == {}

    def test_one_that_lies_there_again_changes_nothing_and_keeps_its_model(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        """As after a death between the commit and the removal of the file."""
        add_sweep()
        claimed = machine.claim()
        watch = Watch(claimed, outcome=machine.large(result(claimed.job), attempt=1))
        machine.spool.put(watch)
        machine.delivery.round()
        before = row(claimed.job)
        machine.spool.put(watch)
        assert machine.delivery.round() == 1
        assert (row(claimed.job), machine.spool.waiting()) == (before, [])
        assert machine.store.read("1/1/best.safetensors") == b"large"
        assert machine.holdings.outcomes.counted() == {"succeeded": 1}

    def test_two_workers_that_deliver_the_same_at_once_record_it_once(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep(8)
        for _ in range(8):
            claimed = machine.claim()
            machine.spool.put(Watch(claimed, outcome=machine.large(result(claimed.job), attempt=1)))
        both = [Delivery(machine.database, machine.settings, Holdings()) for _ in range(2)]
        start, errors = threading.Barrier(2), []

        def deliver(delivery: Delivery) -> None:
            start.wait()
            try:
                delivery.round()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=deliver, args=(one,)) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (errors, machine.spool.waiting()) == ([], [])
        assert {row(job)["state"] for job in range(1, 9)} == {JobState.SUCCEEDED}
        assert {machine.attempts(job)[0][0] for job in range(1, 9)} == {"succeeded"}
        assert all(machine.store.exists(f"{job}/1/best.safetensors") for job in range(1, 9))
        assert [path.name for path in machine.spool.folder.iterdir()] == []  # and none was taken for broken

    def test_a_failure_and_a_job_given_back_are_recorded_with_their_epochs(
        self, machine: Machine, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(2, retries=0)
        failed, given_back = machine.claim(), machine.claim()
        report = EpochReport(job=failed.job, epoch=4, metrics={"val_loss": 0.5}, seconds=0.1)
        failure = Failure(job=failed.job, reason=FailureReason.DIVERGED, error="it did")
        machine.spool.put(Watch(failed, outcome=failure, reports=[report]))
        stopped = Stopped(job=given_back.job, answer=Answer.GIVE_BACK, epoch=0)
        machine.spool.put(Watch(given_back, outcome=stopped, reports=[]))
        assert machine.delivery.round() == 2
        assert (row(failed.job)["state"], row(failed.job)["reason"]) == (JobState.FAILED, "diverged")
        assert (row(given_back.job)["state"], row(given_back.job)["failures"]) == (JobState.READY, 0)
        with database.reading() as session:
            assert [epoch["epoch"] for epoch in history.epochs(session, failed.job)] == [4]

    def test_what_a_slot_of_this_worker_is_about_to_record_is_left_to_it(
        self, machine: Machine, add_sweep: AddSweep, result: Result
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        machine.holdings.hold(claimed)
        machine.spool.put(Watch(claimed, outcome=result(claimed.job)))
        assert machine.delivery.round() == 0
        machine.holdings.let_go(claimed)
        assert machine.delivery.round() == 1

    def test_while_the_database_is_away_everything_stays(
        self, machine: Machine, add_sweep: AddSweep, result: Result, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_sweep()
        machine.ended(result)

        def away(*_: object) -> None:
            raise DatabaseAway("away")

        with monkeypatch.context() as patch:
            patch.setattr(ending, "finish", away)
            with pytest.raises(DatabaseAway):
                machine.delivery.round()
        assert len(machine.spool.waiting()) == 1
        assert machine.delivery.round() == 1

    def test_an_end_that_the_database_is_away_for_each_time_keeps_no_other_one_waiting(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some errors of the server read as if it were away, and are of one statement only."""
        add_sweep(3)
        for _ in range(3):
            machine.ended(result)
        finish = ending.finish

        def picky(session: Any, ended: Any) -> set[int]:
            if ended[0][0].job < 3:
                raise DatabaseAway("out of memory")
            return finish(session, ended)

        monkeypatch.setattr(ending, "finish", picky)
        for _ in range(3):
            with pytest.raises(DatabaseAway):
                machine.delivery.round()
        assert row(3)["state"] == JobState.SUCCEEDED
        monkeypatch.undo()
        assert machine.delivery.round() == 2

    @pytest.mark.parametrize("why", ["a disk that stutters", "a damaged row of its sweep"])
    def test_a_good_end_is_not_set_aside_for_what_may_pass(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result, monkeypatch: pytest.MonkeyPatch, why: str
    ) -> None:
        add_sweep(2)
        for _ in range(2):
            machine.ended(result)
        owner, name, error = (
            (Spool, "read", OSError(24, "Too many open files"))
            if why == "a disk that stutters"
            else (results, "job_spec", RowDamaged("the spec of sweep 1 in the database cannot be read"))
        )
        work: Callable[..., Any] = getattr(owner, name)

        def failing(at: Any, what: Any) -> Any:
            if 1 in (what, getattr(what, "job", None)):
                raise error
            return work(at, what)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            assert [machine.delivery.round() for _ in range(2)] == [1, 0]
        assert [row(job)["state"] for job in (1, 2)] == [JobState.RUNNING, JobState.SUCCEEDED]
        assert machine.delivery.round() == 0  # it is left in peace for a while
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + AGAIN_SECONDS)
        assert machine.delivery.round() == 1
        assert row(1)["state"] == JobState.SUCCEEDED


class TestLate:
    """The attempt was taken for lost while its result waited."""

    def test_it_counts_while_nobody_has_claimed_the_job_since(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        """The newest attempt is still its own: there is no other result, and never will be."""
        add_sweep()
        claimed = machine.ended(result, 0.8)
        machine.rescue(claimed.job)
        assert row(claimed.job)["state"] == JobState.READY
        machine.delivery.round()
        job = row(claimed.job)
        assert (job["state"], job["score"], job["reason"], job["error"]) == (JobState.SUCCEEDED, 0.8, None, None)
        assert machine.attempts(claimed.job) == [("succeeded", None)]
        with machine.database.writing() as session:
            assert claiming.claim(session, "cpu", "w2", 60.0) == []
            assert upkeep.close_finished(session) == 1

    def test_it_counts_also_while_the_job_waits_for_its_next_retry(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep(retries=5)
        first = machine.claim()
        machine.rescue(first.job)
        second = machine.ended(result)
        machine.rescue(second.job)
        with machine.database.writing() as session:  # whatever the delay of a second failure is
            session.execute(update(Job).values(state=JobState.WAITING, due_at=now(3600.0)))
        machine.delivery.round()
        assert (row(second.job)["state"], row(second.job)["due_at"]) == (JobState.SUCCEEDED, None)
        assert [outcome for outcome, _ in machine.attempts(second.job)] == ["lost", "succeeded"]

    @pytest.mark.parametrize("end", ["running", "succeeded"])
    def test_it_is_dropped_and_its_files_are_freed_once_another_attempt_has_begun(
        self,
        machine: Machine,
        add_sweep: AddSweep,
        row: Row,
        result: Result,
        caplog: pytest.LogCaptureFixture,
        end: str,
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        machine.spool.put(Watch(claimed, outcome=machine.large(result(claimed.job, 0.1), attempt=1)))
        machine.rescue(claimed.job)
        successor = machine.claim("w2")
        if end == "succeeded":
            with machine.database.writing() as session:
                better = machine.large(result(claimed.job, 0.9), attempt=2)
                assert ending.finish(session, [(successor, better)]) == {claimed.job}
        before = row(claimed.job)
        with caplog.at_level(logging.INFO):
            machine.delivery.round()
        assert (row(claimed.job), machine.spool.waiting()) == (before, [])
        told = "job 1: attempt 1, from the spool: its result (0.1 after 2 epochs) counts no longer"
        assert [record.levelname for record in caplog.records if told in record.getMessage()] == ["WARNING"]
        assert not machine.store.exists("1/1/best.safetensors")
        assert machine.store.exists("1/1/last.safetensors")  # the successor may have started from it
        assert machine.store.exists("1/2/best.safetensors") == (end == "succeeded")

    def test_one_that_is_dropped_is_told_with_its_attempt_and_counted_once(
        self, machine: Machine, add_sweep: AddSweep, result: Result
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        machine.rescue(claimed.job)
        machine.claim("w2")
        for _ in range(2):  # the second time as after a death between the database and the removal of the file
            machine.spool.put(Watch(claimed, outcome=result(claimed.job)))
            assert machine.delivery.round() == 1
        story = "worker w1 went silent, and its end came too late to count"
        assert machine.attempts(claimed.job) == [("lost", story), (None, None)]
        assert machine.holdings.outcomes.counted() == {"claim lost": 1}

    def test_a_worker_whose_end_came_too_late_has_still_come_back_only_once(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        machine.rescue(claimed.job)
        machine.claim("w2")
        for back in (1, 0):
            with machine.database.writing() as session:
                assert leases.came_back(session, "w1", [(claimed.job, claimed.attempt)]) == back
            machine.spool.put(Watch(claimed, outcome=result(claimed.job)))
            machine.delivery.round()
        assert row(claimed.job)["lost"] == 0

    def test_that_it_came_too_late_is_new_only_once_whatever_else_is_told_after_it(
        self, machine: Machine, add_sweep: AddSweep
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        machine.rescue(claimed.job)
        machine.claim("w2")
        with machine.database.writing() as session:
            late = [leases.came_late(session, claimed) for _ in range(2)]
            assert leases.came_back(session, "w1", [(claimed.job, claimed.attempt)]) == 1
            assert [*late, leases.came_late(session, claimed)] == [True, False, False]

    def test_of_a_job_that_was_set_aside_it_is_told_in_the_line_that_is_shown(
        self, machine: Machine, add_sweep: AddSweep
    ) -> None:
        """Its story, below, says the same of an earlier attempt."""
        add_sweep()
        first = machine.claim()
        machine.rescue(first.job)
        second = machine.claim("w2")
        with machine.database.writing() as session:
            assert leases.came_late(session, first)
        machine.rescue(second.job, most_lost=2)
        with machine.database.writing() as session:
            assert leases.came_late(session, second)
            assert leases.came_back(session, "w2", [(second.job, second.attempt)]) == 0, "it is final"
        shown, story = (machine.attempts(second.job)[1][1] or "").split("\n\n")
        assert shown.endswith("tries it again, and its end came too late to count, and came back")
        assert story.count("came too late") == 1
        assert story.splitlines()[0].endswith("lost: worker w1 went silent, and its end came too late to count")

    def test_it_does_not_count_for_a_job_that_was_finished_and_made_ready_again(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        """As by more epochs for finished jobs: the same attempt number, but its result is recorded already."""
        add_sweep()
        claimed = machine.claim()
        watch = Watch(claimed, outcome=result(claimed.job, 0.8))
        machine.spool.put(watch)
        machine.delivery.round()
        with machine.database.writing() as session:
            fresh = {"state": JobState.READY, "finished_at": None, "rank_key": None, "score": None}
            session.execute(update(Job).values(fresh))
        machine.spool.put(watch)
        machine.delivery.round()
        assert (row(claimed.job)["state"], row(claimed.job)["score"]) == (JobState.READY, None)
        assert list(machine.spool.folder.iterdir()) == []  # nor was it taken for broken

    @pytest.mark.parametrize(("most_lost", "state"), [(1, JobState.FAILED), (3, JobState.CANCELLED)])
    def test_it_does_not_count_when_the_job_is_final(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result, most_lost: int, state: JobState
    ) -> None:
        sweep = add_sweep()
        claimed = machine.ended(result)
        machine.rescue(claimed.job, most_lost=most_lost)  # set aside, if that was one loss too many
        with machine.database.writing() as session:
            steering.cancel_sweep(session, sweep)
        before = row(claimed.job)
        assert before["state"] == state
        machine.delivery.round()
        assert (row(claimed.job), machine.spool.waiting()) == (before, [])

    def test_only_a_result_does_what_failed_or_was_stopped_was_taken_back_already(
        self, machine: Machine, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        failure = Failure(job=claimed.job, reason=FailureReason.DIVERGED, error="it did")
        machine.spool.put(Watch(claimed, outcome=failure))
        machine.rescue(claimed.job)
        before = row(claimed.job)
        machine.delivery.round()
        assert (row(claimed.job), machine.spool.waiting()) == (before, [])

    def test_a_slots_own_late_result_counts_in_the_same_way(
        self, machine: Machine, add_sweep: AddSweep, result: Result
    ) -> None:
        add_sweep(2)
        lost, held = machine.claim(), machine.claim()
        machine.rescue(lost.job)
        ended = [(claimed, result(claimed.job)) for claimed in (lost, held)]
        with machine.database.writing() as session:
            assert ending.finish(session, ended) == {lost.job, held.job}
            assert ending.finish(session, ended) == set()


def test_of_two_attempts_at_a_job_that_end_together_each_is_told_its_own_end(
    database: Database, add_sweep: AddSweep
) -> None:
    """A worker froze, lost a job and got it again."""
    add_sweep(1)
    watches = []
    for _ in range(2):
        with database.writing() as session:
            upkeep.rescue(session, "w")
            (claim,) = claiming.claim(session, "cpu", "w", 60.0)
        watches.append(Watch(claim))
    earlier, later = watches
    earlier.end(Failure(job=earlier.claim.job, reason=FailureReason.ERROR, error="it broke"))
    later.end(Stopped(job=later.claim.job, answer=Answer.GIVE_BACK, epoch=0))
    write_ends(database, watches)
    assert (earlier.became, later.became) == (None, "stopped; the job is now ready")
