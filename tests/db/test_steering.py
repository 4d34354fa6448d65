"""Steering a sweep while it runs: pause, retry, priority, limit, and how sweeps share the slots."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from db import claiming, ending, leases, status, steering, turns, upkeep
from db.models import Job, Sweep
from db.session import Database
from jobs.errors import InputError, NotFound
from jobs.spec import Answer, Claim, Failure, TrainResult
from jobs.states import FailureReason, JobState, SweepState

AddSweep = Callable[..., int]
Row = Callable[[int], dict[str, Any]]
Result = Callable[..., TrainResult]


def write(database: Database, action: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with database.writing() as session:
        return action(session, *args, **options)


def claim(database: Database, slot: int = 0, worker: str = "w", **options: Any) -> list[Claim]:
    claims: list[Claim] = write(database, claiming.claim, "cpu", worker, 60.0, slot=slot, **options)
    return claims


def answers(database: Database, claims: list[Claim], worker: str = "w") -> set[Answer]:
    held = {(one.job, one.attempt) for one in claims}
    return set(write(database, leases.renew, worker, held, 60.0).values())


def failed(claim: Claim, reason: FailureReason = FailureReason.DIVERGED) -> Failure:
    return Failure(job=claim.job, reason=reason, error="it broke", again=False)


def stand(database: Database, sweep: int) -> status.SweepStatus:
    with database.reading() as session:
        return status.sweep_status(session, sweep)


class TestPause:
    def test_running_jobs_go_on_unless_they_are_to_stop_at_once(self, database: Database, add_sweep: AddSweep) -> None:
        sweep = add_sweep(2)
        running = claim(database)
        assert write(database, steering.pause_sweep, sweep)
        assert answers(database, running) == {Answer.GO_ON}
        assert write(database, steering.pause_sweep, sweep, halt=True)  # also when it is paused already
        assert answers(database, running) == {Answer.GIVE_BACK}
        assert stand(database, sweep).halting

    def test_what_is_given_back_is_ready_and_has_not_failed(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        sweep = add_sweep()
        (running,) = claim(database)
        write(database, steering.pause_sweep, sweep, halt=True)
        assert write(database, ending.let_go, [(running, None)]) == {running.job: JobState.READY}
        assert (row(running.job)["failures"], row(running.job)["slot"]) == (0, None)
        assert claim(database) == []

    @pytest.mark.parametrize("move", [steering.resume_sweep, steering.cancel_sweep])
    def test_resume_and_cancel_take_the_wish_back(
        self, database: Database, add_sweep: AddSweep, move: Callable[..., int]
    ) -> None:
        sweep = add_sweep(2)
        running = claim(database)
        write(database, steering.pause_sweep, sweep, halt=True)
        write(database, move, sweep)
        assert not stand(database, sweep).halting
        expected = Answer.GO_ON if move is steering.resume_sweep else Answer.CANCELLED
        assert answers(database, running) == {expected}

    def test_only_the_paused_sweeps_jobs_stop(self, database: Database, add_sweep: AddSweep) -> None:
        sweep, _ = add_sweep(), add_sweep()
        claims = claim(database) + claim(database)
        write(database, steering.pause_sweep, sweep, halt=True)
        assert answers(database, claims[:1]) == {Answer.GIVE_BACK}
        assert answers(database, claims[1:]) == {Answer.GO_ON}

    def test_a_sweep_that_has_ended_is_not_paused(
        self, database: Database, add_sweep: AddSweep, result: Result
    ) -> None:
        sweep = add_sweep()
        (running,) = claim(database)
        write(database, ending.finish, [(running, result(running.job))])
        write(database, upkeep.close_finished)
        assert not write(database, steering.pause_sweep, sweep, halt=True)


class TestRetry:
    def sweep(self, database: Database, add_sweep: AddSweep) -> tuple[int, list[int]]:
        """A sweep with jobs that failed for diverged, timeout, timeout, and one that is ready."""
        sweep = add_sweep(4, retries=0)
        claims = [claim(database)[0] for _ in range(3)]
        reasons = (FailureReason.DIVERGED, FailureReason.TIMEOUT, FailureReason.TIMEOUT)
        for one, reason in zip(claims, reasons, strict=True):
            write(database, ending.let_go, [(one, failed(one, reason))])
        return sweep, [one.job for one in claims]

    def test_only_those_of_a_reason(self, database: Database, add_sweep: AddSweep, row: Row) -> None:
        sweep, jobs = self.sweep(database, add_sweep)
        assert write(database, steering.retry_sweep, sweep, reasons=[FailureReason.TIMEOUT]) == 2
        assert [row(job)["state"] for job in jobs] == [JobState.FAILED, JobState.READY, JobState.READY]
        assert row(jobs[1])["reason"] is None

    def test_only_those_named(self, database: Database, add_sweep: AddSweep, row: Row) -> None:
        sweep, jobs = self.sweep(database, add_sweep)
        assert write(database, steering.retry_sweep, sweep, jobs=[jobs[2], jobs[2]]) == 1
        assert [row(job)["state"] for job in jobs] == [JobState.FAILED, JobState.FAILED, JobState.READY]

    def test_a_job_that_cannot_be_tried_again_is_named_and_nothing_is_changed(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        sweep, jobs = self.sweep(database, add_sweep)
        other = add_sweep()
        for wrong, message in (
            (jobs[2] + 1, f"job {jobs[2] + 1} is ready; only a job that has failed"),
            (jobs[2] + 2, f"sweep {sweep} has no job {jobs[2] + 2}"),  # it is one of another sweep
            (10**9, f"sweep {sweep} has no job 1000000000"),
        ):
            with pytest.raises(InputError, match=message):
                write(database, steering.retry_sweep, sweep, jobs=[jobs[0], wrong])
        assert row(jobs[0])["state"] == JobState.FAILED
        assert stand(database, other).jobs["ready"] == 1

    def test_a_finished_sweep_is_open_again(self, database: Database, add_sweep: AddSweep, result: Result) -> None:
        sweep, jobs = self.sweep(database, add_sweep)
        (last,) = claim(database)
        write(database, ending.finish, [(last, result(last.job))])
        write(database, upkeep.close_finished)
        assert stand(database, sweep).state == SweepState.FINISHED
        assert write(database, steering.retry_sweep, sweep, reasons=[FailureReason.ERROR]) == 0
        assert stand(database, sweep).state == SweepState.FINISHED
        assert write(database, steering.retry_sweep, sweep, jobs=jobs) == 3
        assert stand(database, sweep).state == SweepState.OPEN


class TestPriority:
    def test_it_counts_from_the_next_claim_on(self, database: Database, add_sweep: AddSweep) -> None:
        first, second = add_sweep(3), add_sweep(3)
        assert claim(database)[0].spec.sweep == first
        write(database, steering.prioritise_sweep, second, 1)
        assert [claim(database)[0].spec.sweep for _ in range(3)] == [second] * 3
        assert stand(database, second).priority == 1

    def test_of_a_sweep_that_is_not_there_it_cannot_be_set(self, database: Database, add_sweep: AddSweep) -> None:
        for sweep in (7, add_sweep(opened=False)):
            with pytest.raises(NotFound, match=f"there is no sweep {sweep}"):
                write(database, steering.prioritise_sweep, sweep, 1)


class TestLimit:
    def test_no_more_of_its_jobs_run_at_once(self, database: Database, add_sweep: AddSweep, result: Result) -> None:
        sweep = add_sweep(5, max_running=2)
        claims = [claim(database, slot) for slot in range(3)]
        assert [len(one) for one in claims] == [1, 1, 0]
        with database.reading() as session:
            assert not turns.has_ready(session, "cpu")  # a look finds nothing, a bell is not rung
            assert turns.count_ready(session, "cpu", at_most=5) == 0
            assert turns.next_sweep(session, "cpu") is None
        (done,) = claims[0]
        write(database, ending.finish, [(done, result(done.job))])
        assert claim(database)[0].spec.sweep == sweep
        assert claim(database) == []

    def test_it_holds_for_packs_and_for_what_joins_them(self, database: Database, add_sweep: AddSweep) -> None:
        sweep = add_sweep(20, max_running=6)
        assert len(claim(database, limit=4)) == 4
        assert len(claim(database, limit=9, like=(sweep, 0))) == 2
        assert claim(database, limit=9, like=(sweep, 0)) == []
        assert claim(database, limit=9, like=(sweep, 0), beside_one=True) == []

    def test_a_sweep_at_its_limit_leaves_the_slots_to_others(self, database: Database, add_sweep: AddSweep) -> None:
        limited, other = add_sweep(5, max_running=1, priority=5), add_sweep(5)
        taken = [claim(database, slot)[0].spec.sweep for slot in range(4)]
        assert taken == [limited, other, other, other]
        with database.reading() as session:  # which may fill their packs up
            assert turns.next_sweep(session, "cpu", leaving=other) == other

    def test_it_may_be_changed_while_the_sweep_runs(self, database: Database, add_sweep: AddSweep) -> None:
        sweep = add_sweep(10)
        running = [claim(database, slot) for slot in range(3)]
        write(database, steering.limit_sweep, sweep, 2)
        assert claim(database) == []
        assert answers(database, [one for (one,) in running]) == {Answer.GO_ON}  # what runs beyond it finishes
        write(database, steering.limit_sweep, sweep, 4)
        assert len(claim(database)) == 1
        assert claim(database) == []
        write(database, steering.limit_sweep, sweep, None)
        assert len(claim(database)) == 1


class TestFairShares:
    def held(self, database: Database) -> dict[int, int]:
        """sweep -> slots."""
        with database.reading() as session:
            rows = session.execute(select(Job.sweep_id, Job.worker, Job.slot).where(Job.state == "running").distinct())
            return dict(Counter(row.sweep_id for row in rows))

    def test_equal_sweeps_share_the_slots(self, database: Database, add_sweep: AddSweep) -> None:
        first, second, third = (add_sweep(20) for _ in range(3))
        taken = [claim(database, slot)[0].spec.sweep for slot in range(7)]
        assert taken == [first, second, third, first, second, third, first]

    def test_a_pack_counts_as_the_one_slot_it_holds(self, database: Database, add_sweep: AddSweep) -> None:
        first, second = add_sweep(40), add_sweep(40, pack=1)
        assert len(claim(database, 0, limit=8)) == 8
        for slot in range(1, 6):
            claim(database, slot, limit=8)
        assert self.held(database) == {first: 3, second: 3}

    def test_slots_of_two_workers_are_two(self, database: Database, add_sweep: AddSweep) -> None:
        first, second = add_sweep(9), add_sweep(9)
        for worker in ("a", "b", "c", "d"):
            claim(database, 0, worker)
        assert self.held(database) == {first: 2, second: 2}

    def test_who_comes_later_gets_the_next_slots(self, database: Database, add_sweep: AddSweep) -> None:
        first = add_sweep(20)
        for slot in range(4):
            claim(database, slot)
        second = add_sweep(20)
        assert [claim(database, slot)[0].spec.sweep for slot in range(4, 9)] == [second] * 4 + [first]

    def test_a_higher_priority_does_not_share(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(5)
        better = add_sweep(5, priority=1)
        assert [claim(database, slot)[0].spec.sweep for slot in range(5)] == [better] * 5

    def test_a_workers_own_sweep_does_not_share_with_others(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(5)
        own = add_sweep(5)
        assert [claim(database, slot, first=own)[0].spec.sweep for slot in range(5)] == [own] * 5

    def test_a_pack_is_not_filled_up_while_an_equal_sweep_would_get_its_slot(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        def may_fill_up(sweep: int) -> bool:
            with database.reading() as session:
                return turns.next_sweep(session, "cpu", leaving=sweep) == sweep

        first = add_sweep(20)
        for slot in range(2):
            claim(database, slot)
        assert may_fill_up(first)
        second = add_sweep(20)
        assert not may_fill_up(first)  # it has both slots
        claim(database, 2)
        assert may_fill_up(first)  # 2 and 1: a slot that became idle would be the first's again
        assert may_fill_up(second)

    def test_it_is_told_which_sweep_a_slot_would_get(self, database: Database, add_sweep: AddSweep) -> None:
        first, second = add_sweep(3), add_sweep(3)
        with database.reading() as session:
            assert turns.next_sweep(session, "cpu") == first
        claim(database)
        with database.reading() as session:
            assert turns.next_sweep(session, "cpu") == second
            assert session.get_one(Sweep, second).max_running is None
