"""What becomes of a job whose attempt failed: by its reason, by what the sweep says, and by who else was there."""

from collections.abc import Callable, Sequence
from operator import eq
from typing import Any

import pytest
from sqlalchemy import update

from db import claiming, ending, history, leases, results, status, steering, upkeep
from db.clock import now
from db.models import Job
from db.session import Database
from jobs.retry import MOST_LOST, SUSPECT
from jobs.settings import Settings
from jobs.spec import Answer, Claim, EpochReport, Failure, TrainResult
from jobs.states import RETRIED, FailureReason, JobState
from workers.heartbeat import Heartbeat
from workers.holdings import Holdings
from workers.slots import Slots

AddSweep = Callable[..., int]
Row = Callable[[int], dict[str, Any]]
Result = Callable[..., TrainResult]


def claim(database: Database, worker: str = "w1", **how: Any) -> list[Claim]:
    with database.writing() as session:
        return claiming.claim(session, "cpu", worker, 60.0, **how)


def let_go(database: Database, claimed: Claim, reason: FailureReason, **facts: Any) -> JobState:
    failure = Failure(job=claimed.job, reason=reason, error="it broke", **facts)
    with database.writing() as session:
        return ending.let_go(session, [(claimed, failure)])[claimed.job]


def rescue(database: Database, worker: str, **how: Any) -> int:
    with database.writing() as session:
        return upkeep.rescue(session, worker, **how)


def make_due(database: Database) -> None:
    with database.writing() as session:
        session.execute(update(Job).where(Job.state == JobState.WAITING).values(due_at=now(-1.0)))
        upkeep.make_due_ready(session)


def lose(database: Database, times: int) -> None:
    """So many workers die, one after the other, each with all the jobs there are."""
    for number in range(times):
        make_due(database)
        while claim(database, f"dead {number}"):
            pass
        rescue(database, f"dead {number}")
    make_due(database)


class TestWhatIsTriedAgain:
    @pytest.mark.parametrize("reason", FailureReason)
    def test_crashes_losses_and_errors_are_unless_the_sweep_says_otherwise(
        self, database: Database, add_sweep: AddSweep, reason: FailureReason
    ) -> None:
        add_sweep(retries=5)
        (claimed,) = claim(database)
        again = reason in {"crashed", "lost", "error"}
        assert let_go(database, claimed, reason) is (JobState.READY if again else JobState.FAILED)
        assert again == (reason in RETRIED)

    @pytest.mark.parametrize("reason", FailureReason)
    def test_what_the_sweep_names_is(self, database: Database, add_sweep: AddSweep, reason: FailureReason) -> None:
        for named in ([reason], [other for other in FailureReason if other != reason], []):
            add_sweep(retries=5, retry_on=named)
            (claimed,) = claim(database)
            expected = JobState.READY if reason in named else JobState.FAILED
            assert let_go(database, claimed, reason) is expected
            if expected is JobState.READY:
                (claimed,) = claim(database)  # out of the way of the next sweep
                assert let_go(database, claimed, reason, again=False) is JobState.FAILED

    def test_a_job_that_failed_beside_others_is_tried_alone_whatever_the_sweep_says(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(2, retries=0, retry_on=[])
        together = claim(database, limit=2)
        for claimed in together:
            assert let_go(database, claimed, FailureReason.CRASHED, beside=True) is JobState.READY
        (alone,) = claim(database, limit=2)
        assert let_go(database, alone, FailureReason.CRASHED) is JobState.FAILED


class TestLosses:
    def test_a_job_that_takes_three_workers_along_is_set_aside_with_its_story(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(retries=100)
        for number in range(MOST_LOST):
            (claimed,) = claim(database, f"w{number}")
            report = EpochReport(job=claimed.job, epoch=7 + number, metrics={}, seconds=0.1)
            with database.writing() as session:
                leases.record_epochs(session, [(claimed, [report])])
            assert rescue(database, f"w{number}") == 1
            make_due(database)
        job = row(1)
        assert (job["state"], job["reason"], job["lost"]) == (JobState.FAILED, "lost", 3)
        message, _, *lines = job["error"].splitlines()
        assert message.startswith("3 workers were lost with it, so it is set aside")
        assert [line[:9] for line in lines] == ["attempt 1", "attempt 2", "attempt 3"]
        for number, line in enumerate(lines):
            assert f"worker w{number}, last epoch {7 + number})" in line
        assert "lost: worker w0 died" in lines[0]

    def test_losses_use_up_no_retry_but_failures_do(self, database: Database, add_sweep: AddSweep, row: Row) -> None:
        add_sweep(retries=1)
        lose(database, MOST_LOST - 1)
        (claimed,) = claim(database)
        assert let_go(database, claimed, FailureReason.ERROR) is JobState.WAITING
        make_due(database)
        (claimed,) = claim(database)
        assert let_go(database, claimed, FailureReason.ERROR) is JobState.FAILED

    def test_a_sweep_that_does_not_try_lost_jobs_again_fails_them_at_once(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(retries=5, retry_on=["error"])
        lose(database, 1)
        assert (row(1)["state"], row(1)["error"]) == (JobState.FAILED, "worker dead 0 died")

    def test_how_many_are_too_many_can_be_said(self, database: Database, add_sweep: AddSweep, row: Row) -> None:
        add_sweep(2)
        claim(database)
        rescue(database, "w1", most_lost=1)
        assert row(1)["error"].startswith("1 worker was lost with it, so it is set aside")
        claim(database)
        rescue(database, "w1", most_lost=2)
        assert row(2)["state"] == JobState.READY

    def test_a_retry_forgets_them(self, database: Database, add_sweep: AddSweep, row: Row) -> None:
        sweep = add_sweep()
        lose(database, MOST_LOST)
        with database.writing() as session:
            assert steering.retry_sweep(session, sweep) == 1
        assert (row(1)["state"], row(1)["lost"]) == (JobState.READY, 0)

    def test_a_suspect_goes_only_to_a_worker_that_holds_nothing_else(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        add_sweep(2)
        lose(database, SUSPECT)
        add_sweep(priority=1)
        assert [one.job for one in claim(database, alone=False)] == [3]
        assert claim(database, alone=False) == []
        (suspect,) = claim(database, alone=True)
        assert (suspect.job, suspect.suspect) == (1, True)

    def test_a_worker_gets_nothing_less_urgent_than_a_suspect_until_somebody_has_that(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        """Or one with two slots would always hold something else, and the suspect wait for ever."""
        add_sweep()
        lose(database, SUSPECT)
        add_sweep(2)
        add_sweep(2, priority=-1)
        for limit in (1, 8):
            assert claim(database, alone=False, limit=limit) == []
        assert [one.job for one in claim(database, "w2", alone=True)] == [1]
        assert [one.job for _ in range(4) for one in claim(database, alone=False)] == [2, 3, 4, 5]

    def test_the_other_jobs_of_a_suspects_sweep_are_not_held_up(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(3)
        with database.writing() as session:
            session.execute(update(Job).where(Job.id == 1).values(lost=SUSPECT, attempt=SUSPECT))
        assert [one.job for _ in range(2) for one in claim(database, alone=False)] == [2, 3]

    def test_a_suspect_whose_sweep_may_have_no_more_holds_up_nobody(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        add_sweep(2, max_running=1)
        with database.writing() as session:
            session.execute(update(Job).where(Job.id == 1).values(lost=SUSPECT, attempt=SUSPECT))
        add_sweep()
        assert [one.job for _ in range(2) for one in claim(database, alone=False)] == [2, 3]

    def test_a_job_with_which_one_worker_was_lost_is_no_suspect_yet(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        add_sweep()
        lose(database, SUSPECT - 1)
        (claimed,) = claim(database, alone=False)
        assert not claimed.suspect

    def test_a_worker_that_comes_back_was_not_killed_by_any_job(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        """Its silence uses up nothing, however often: it was frozen, or the database was away."""
        add_sweep(2, retries=0)
        for number in range(2 * MOST_LOST):
            claims = [claim(database, "w1")[0] for _ in range(2)]
            held = [(one.job, one.attempt) for one in claims]
            rescue(database, "w1")
            assert row(1)["lost"] == 1
            with database.writing() as session:
                assert leases.came_back(session, "another", held) == 0
                assert leases.came_back(session, "w1", held) == 2
                assert leases.came_back(session, "w1", held) == 0
            assert [(row(job)["lost"], row(job)["failures"]) for job in (1, 2)] == [(0, 0), (0, 0)], number
        with database.reading() as session:
            attempt, *_ = results.job_details(session, 1).attempts
        assert (attempt.outcome, attempt.error) == ("lost", "worker w1 died, and came back")

    def test_what_it_gave_up_while_it_was_alone_is_not_renewed(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        """The trainer has been told that the claim is lost: an end of it will never come."""
        add_sweep(2)
        lost, other = claim(database)[0], claim(database)[0]
        holdings = Holdings()
        holdings.hold(lost)
        heartbeat = Heartbeat("w1", database, Settings(offline_seconds=0.0), holdings, Slots([], stop=lambda: None), {})
        heartbeat._give_up_if_alone_for_long(holdings.attempts())
        holdings.hold(other)
        before = [row(one.job)["lease_expires_at"] for one in (lost, other)]
        holdings.tell(heartbeat._beat(holdings.attempts()))
        assert [holdings.answer(one) for one in (lost, other)] == [Answer.CLAIM_LOST, Answer.GO_ON]
        after = [row(one.job)["lease_expires_at"] for one in (lost, other)]
        assert list(map(eq, before, after)) == [True, False]

    def test_its_heartbeat_tells_that_it_has_come_back(self, database: Database, add_sweep: AddSweep, row: Row) -> None:
        add_sweep()
        claim(database, "w1")
        rescue(database, "w1")
        heartbeat = Heartbeat("w1", database, Settings(), Holdings(), Slots([], stop=lambda: None), {})
        assert heartbeat._beat({(1, 1)}) == {(1, 1): Answer.CLAIM_LOST}
        assert (row(1)["lost"], row(1)["failures"]) == (0, 0)

    def test_a_job_that_was_tried_again_meanwhile_owes_nothing(
        self, database: Database, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep()
        (claimed,) = claim(database, "w1")
        rescue(database, "w1")
        (again,) = claim(database, "w2")
        with database.writing() as session:
            ending.finish(session, [(again, result(1))])
            assert leases.came_back(session, "w1", [(1, claimed.attempt)]) == 0
        assert (row(1)["state"], row(1)["lost"]) == (JobState.SUCCEEDED, 1)


class TestRecords:
    def test_each_attempt_tells_how_far_it_came(self, database: Database, add_sweep: AddSweep, result: Result) -> None:
        add_sweep()
        for reports in ((1, 2, 3), (3, 4), ()):
            (claimed,) = claim(database)
            metrics = {"val_loss": 0.5}
            epochs = [EpochReport(job=1, epoch=number, metrics=metrics, seconds=0.1) for number in reports]
            with database.writing() as session:
                if epochs:
                    leases.record_epochs(session, [(claimed, epochs)])
                ending.let_go(session, [(claimed, None)])
        (claimed,) = claim(database)
        with database.writing() as session:
            ending.finish(session, [(claimed, result(1))])
        with database.reading() as session:
            assert [one.epoch for one in results.job_details(session, 1).attempts] == [3, 4, None, 2]

    def test_what_an_attempt_trains_again_replaces_what_it_said_before(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        """Its pack was scattered after the sixth epoch, and it went on from a checkpoint of the third."""
        add_sweep()
        (claimed,) = claim(database)

        def report(epochs: Sequence[int], loss: float) -> None:
            said = [EpochReport(job=1, epoch=number, metrics={"val_loss": loss}, seconds=0.1) for number in epochs]
            with database.writing() as session:
                leases.record_epochs(session, [(claimed, said)])

        report((1, 2), 0.5)
        report((3, 4), 0.5)
        report((5, 6), 0.5)
        report((4,), 0.25)
        with database.reading() as session:
            epochs = [(epoch["epoch"], epoch["val_loss"]) for epoch in history.epochs(session, 1)]
        assert epochs == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.25)]

    def test_a_status_counts_failed_jobs_by_their_reasons(self, database: Database, add_sweep: AddSweep) -> None:
        sweep, other = add_sweep(4, retries=0), add_sweep(1, retries=0)
        for reason in (FailureReason.DIVERGED, FailureReason.OUT_OF_MEMORY, FailureReason.DIVERGED):
            (claimed,) = claim(database)
            let_go(database, claimed, reason)
        with database.reading() as session:
            found = {one.sweep: one.reasons for one in status.sweeps(session)}
        assert found == {sweep: {"diverged": 2, "out_of_memory": 1}, other: {}}
