"""The life of a job in the database: claim, heartbeat, end, rescue, and the fence around each."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import claiming, ending, history, leases, steering, turns, upkeep
from db.clock import now
from db.models import Job, Model
from db.session import Database
from jobs.errors import DatabaseError
from jobs.spec import Answer, BestModel, Claim, EpochReport, Failure, TrainResult
from jobs.states import FailureReason, JobState
from tests.moves import LEASE, attempts, claim, claim_one, failure, let_go, write

AddSweep = Callable[..., int]
Row = Callable[[int], dict[str, Any]]
Result = Callable[..., TrainResult]


class TestClaim:
    def test_a_claim_says_all_that_a_trainer_needs(self, database: Database, add_sweep: AddSweep, row: Row) -> None:
        sweep = add_sweep(seeds=[7], time_limit=30.0)
        claimed = claim_one(database)
        assert claimed.spec.params == {"batch_size": 16, "lr": 0.1}
        assert (claimed.spec.sweep, claimed.spec.seed, claimed.spec.epochs) == (sweep, 7, 10)
        assert (claimed.worker, claimed.attempt, claimed.time_limit) == ("w1", 1, 30.0)
        job = row(claimed.job)
        assert (job["state"], job["worker"], job["attempt"]) == (JobState.RUNNING, "w1", 1)
        assert job["lease_expires_at"] is not None

    def test_jobs_are_claimed_in_order_and_each_once(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(3)
        taken = [claim_one(database).job for _ in range(3)]
        assert taken == sorted(taken)
        assert len(set(taken)) == 3
        assert claim(database) == []

    def test_the_sweep_of_higher_priority_comes_first(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(1)
        urgent = add_sweep(1, priority=5)
        assert claim_one(database).spec.sweep == urgent

    def test_a_worker_may_put_one_sweep_before_all_others(self, database: Database, add_sweep: AddSweep) -> None:
        urgent = add_sweep(1, priority=5)
        own = add_sweep(1)
        with database.writing() as session:
            taken = [claiming.claim(session, "cpu", "w1", LEASE, first=own)[0].spec.sweep for _ in range(2)]
        assert taken == [own, urgent]

    def test_a_worker_claims_from_its_queue_only(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(1, queue="gpu")
        assert claim(database) == []
        assert claim_one(database, queue_name="gpu").attempt == 1

    def test_jobs_of_a_sweep_that_is_not_open_are_not_claimed(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(1, opened=False)
        paused = add_sweep(1)
        write(database, steering.pause_sweep, paused)
        assert claim(database) == []
        with database.reading() as session:
            assert not turns.has_ready(session, "cpu")

    def test_several_jobs_of_one_sweep_are_claimed_at_once(self, database: Database, add_sweep: AddSweep) -> None:
        first = add_sweep(3)
        add_sweep(3)
        claims = claim(database, limit=5)
        assert [one.spec.sweep for one in claims] == [first] * 3

    def test_ready_jobs_are_counted_no_further_than_asked(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(4)
        with database.reading() as session:
            assert turns.count_ready(session, "cpu", at_most=3) == 3
            assert turns.count_ready(session, "cpu", at_most=9) == 4
            assert turns.count_ready(session, "gpu", at_most=9) == 0


class TestEnds:
    def test_a_result_is_recorded_once_and_whole(
        self, database: Database, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep()
        claimed = claim_one(database)
        assert write(database, ending.finish, [(claimed, result(claimed.job, 0.8))]) == {claimed.job}
        assert write(database, ending.finish, [(claimed, result(claimed.job, 0.1))]) == set()
        job = row(claimed.job)
        assert (job["state"], job["score"], job["rank_key"], job["worker"]) == (JobState.SUCCEEDED, 0.8, -0.8, None)
        assert job["finished_at"] is not None
        with database.reading() as session:
            assert [epoch["epoch"] for epoch in history.epochs(session, claimed.job)] == [1, 2]
        assert attempts(database, claimed.job) == [(1, "succeeded")]

    @pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
    def test_a_score_that_is_not_finite_is_stored_as_nothing_and_ranks_last(
        self, database: Database, add_sweep: AddSweep, row: Row, result: Result, score: float
    ) -> None:
        add_sweep()
        claimed = claim_one(database)
        assert write(database, ending.finish, [(claimed, result(claimed.job, score))])
        job = row(claimed.job)
        assert (job["score"], job["metrics"]) == (None, {"val_accuracy": None})
        assert job["rank_key"] > 1e308

    def test_the_best_model_is_kept_with_the_result(
        self, database: Database, add_sweep: AddSweep, result: Result
    ) -> None:
        add_sweep()
        claimed = claim_one(database)
        best = BestModel(sha256="ab", size=3, content=b"\x00\x01\x02")
        finished = result(claimed.job)
        with database.writing() as session:
            ending.finish(session, [(claimed, TrainResult(**{**vars(finished), "best": best}))])
        with database.reading() as session:
            model = session.scalars(select(Model)).one()
            assert (model.job_id, model.content, model.path) == (claimed.job, b"\x00\x01\x02", None)

    def test_the_first_failure_is_tried_again_at_once_and_later_ones_wait(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(retries=2)
        first = claim_one(database)
        assert let_go(database, first, failure(first.job)) is JobState.READY
        second = claim_one(database)
        assert (second.job, second.attempt) == (first.job, 2)
        assert let_go(database, second, failure(first.job)) is JobState.WAITING
        assert row(first.job)["due_at"] is not None
        assert claim(database) == []

    def test_a_job_fails_for_good_when_its_retries_are_spent(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(retries=0)
        claimed = claim_one(database)
        assert let_go(database, claimed, failure(claimed.job, FailureReason.CRASHED)) is JobState.FAILED
        job = row(claimed.job)
        assert (job["state"], job["reason"], job["error"]) == (JobState.FAILED, "crashed", "it broke")

    @pytest.mark.parametrize("reason", [FailureReason.DIVERGED, FailureReason.TIMEOUT])
    def test_what_would_end_the_same_is_not_tried_again(
        self, database: Database, add_sweep: AddSweep, reason: FailureReason
    ) -> None:
        add_sweep(retries=5)
        claimed = claim_one(database)
        assert let_go(database, claimed, failure(claimed.job, reason)) is JobState.FAILED

    def test_an_error_text_with_a_nul_is_stored_without_it(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(retries=0)
        claimed = claim_one(database)
        broken = Failure(job=claimed.job, reason=FailureReason.ERROR, error="binary \0 noise")
        assert let_go(database, claimed, broken) is JobState.FAILED
        assert row(claimed.job)["error"] == "binary  noise"

    def test_a_job_given_back_is_ready_again_and_has_not_failed(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(retries=0)
        claimed = claim_one(database)
        assert let_go(database, claimed) is JobState.READY
        assert row(claimed.job)["failures"] == 0
        assert claim_one(database).attempt == 2
        assert attempts(database, claimed.job) == [(1, "given back"), (2, None)]

    def test_epochs_are_stored_while_the_job_trains(self, database: Database, add_sweep: AddSweep, row: Row) -> None:
        add_sweep()
        claimed = claim_one(database)
        reports = [EpochReport(job=claimed.job, epoch=1, metrics={"val_loss": float("inf")}, seconds=0.1)]
        for _ in range(2):  # the second time as after a commit whose answer was lost
            assert write(database, leases.record_epochs, [(claimed, reports)]) == {claimed.job}
        with database.reading() as session:
            assert history.epochs(session, claimed.job) == [{"epoch": 1, "seconds": 0.1, "val_loss": None}]
        assert row(claimed.job)["epoch"] == 1

    def test_epochs_that_a_later_attempt_trains_again_do_not_count_any_longer(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        add_sweep()

        def train(epochs: list[int], loss: float) -> None:
            claimed = claim_one(database)
            for epoch in epochs:
                report = EpochReport(job=claimed.job, epoch=epoch, metrics={"val_loss": loss}, seconds=0.1)
                write(database, leases.record_epochs, [(claimed, [report])])
            let_go(database, claimed)

        train([1, 2, 3, 4], loss=0.5)
        train([3], loss=0.25)  # from the checkpoint after epoch 2
        with database.reading() as session:
            epochs = history.epochs(session, 1)
        assert [(epoch["epoch"], epoch["val_loss"]) for epoch in epochs] == [(1, 0.5), (2, 0.5), (3, 0.25)]


class TestFence:
    """A worker that was presumed dead comes back: nothing it writes may count."""

    @pytest.fixture
    def zombie(self, database: Database, add_sweep: AddSweep, expire_lease: Callable[[int], None]) -> Claim:
        add_sweep(retries=2)
        claimed = claim_one(database, "zombie")
        expire_lease(claimed.job)
        assert write(database, upkeep.rescue) == 1
        successor = claim_one(database, "successor")
        assert (successor.job, successor.attempt) == (claimed.job, 2)
        return claimed

    def test_it_can_change_nothing(self, database: Database, zombie: Claim, row: Row, result: Result) -> None:
        before = row(zombie.job)
        report = [EpochReport(job=zombie.job, epoch=9, metrics={}, seconds=1.0)]
        assert write(database, ending.finish, [(zombie, result(zombie.job))]) == set()
        assert let_go(database, zombie, failure(zombie.job)) is None
        assert let_go(database, zombie) is None
        assert write(database, leases.record_epochs, [(zombie, report)]) == set()
        assert row(zombie.job) == before
        with database.reading() as session:
            assert history.epochs(session, zombie.job) == []

    def test_its_heartbeat_tells_it_so(self, database: Database, zombie: Claim) -> None:
        told = write(database, leases.renew, "zombie", {(zombie.job, 1)}, LEASE)
        assert told == {(zombie.job, 1): Answer.CLAIM_LOST}

    def test_its_own_later_attempt_is_told_apart_from_the_earlier(self, database: Database, zombie: Claim) -> None:
        told = write(database, leases.renew, "successor", {(zombie.job, 1), (zombie.job, 2)}, LEASE)
        assert told == {(zombie.job, 1): Answer.CLAIM_LOST, (zombie.job, 2): Answer.GO_ON}


class TestHeartbeatAndRescue:
    def test_a_heartbeat_renews_the_leases_of_what_is_held_only(
        self, database: Database, add_sweep: AddSweep, expire_lease: Callable[[int], None]
    ) -> None:
        add_sweep(2)
        held, forgotten = claim_one(database), claim_one(database)
        expire_lease(held.job)
        expire_lease(forgotten.job)
        assert write(database, leases.renew, "w1", {(held.job, 1)}, LEASE) == {(held.job, 1): Answer.GO_ON}
        assert write(database, upkeep.rescue) == 1
        assert attempts(database, held.job) == [(1, None)]
        assert attempts(database, forgotten.job) == [(1, "lost")]

    def test_a_living_workers_job_is_not_rescued(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep()
        claim_one(database)
        assert write(database, upkeep.rescue) == 0

    def test_a_worker_known_to_be_dead_loses_its_jobs_at_once(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(2)
        dead, alive = claim_one(database, "dead"), claim_one(database, "alive")
        assert write(database, upkeep.rescue, "dead") == 1
        assert claim_one(database, "alive").job == dead.job
        assert attempts(database, alive.job) == [(1, None)]

    def test_a_waiting_job_becomes_ready_when_it_is_due(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep()
        for _ in range(2):
            claimed = claim_one(database)
            let_go(database, claimed, failure(claimed.job))
        assert row(claimed.job)["state"] == JobState.WAITING
        assert write(database, upkeep.make_due_ready) == 0
        with database.writing() as session:
            session.execute(update(Job).values(due_at=now(-1.0)))
        assert write(database, upkeep.make_due_ready) == 1
        assert claim_one(database).attempt == 3


def _claim_all(url: str, worker: str, results: Any) -> None:
    database = Database(url)
    taken: list[int] = []
    error = None
    idle_since = time.monotonic()
    try:
        while time.monotonic() - idle_since < 1.0:  # others may hold the last ones locked
            claims = claim(database, worker, limit=3)
            for one in claims:
                let_go(database, one) if one.attempt == 1 and one.job % 7 == 0 else taken.append(one.job)
                idle_since = time.monotonic()
    except DatabaseError as raised:  # "database is locked" is one
        error = str(raised)
    database.close()
    results.put((taken, error))


def test_processes_that_claim_at_the_same_time_never_take_a_job_twice(
    database: Database, database_url: str, add_sweep: AddSweep
) -> None:
    """Eight processes, 1,000 jobs, some of them given back once: each ends up held by exactly one.

    `benchmarks.yard.claim_all` does it with 20,000.
    """
    add_sweep(1_000)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    claimers = [context.Process(target=_claim_all, args=(database_url, f"w{n}", results)) for n in range(8)]
    for claimer in claimers:
        claimer.start()
    told = [results.get(timeout=120) for _ in claimers]
    for claimer in claimers:
        claimer.join()
    assert [error for _, error in told] == [None] * 8
    taken = Counter(job for jobs, _ in told for job in jobs)
    assert len(taken) == 1_000
    assert set(taken.values()) == {1}
    with database.reading() as session:
        running = session.scalars(select(func.count()).where(Job.state == JobState.RUNNING)).one()
    assert running == 1_000


def test_several_late_results_count_together(
    database: Database, add_sweep: AddSweep, row: Row, result: Callable[..., TrainResult]
) -> None:
    add_sweep(3)
    with database.writing() as session:
        lost = claiming.claim(session, "cpu", "w", 60.0, limit=3)
        assert upkeep.rescue(session, "w") == 3
        assert ending.finish(session, [(one, result(one.job)) for one in lost]) == {one.job for one in lost}
    assert {row(one.job)["state"] for one in lost} == {JobState.SUCCEEDED}
