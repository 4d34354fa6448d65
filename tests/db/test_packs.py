"""Jobs that may train together are claimed, reported and finished together; each claim counts for itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from db import claiming, ending, history, leases, steering, upkeep, workers
from db.models import Attempt, Model
from db.session import Database
from jobs.spec import Answer, BestModel, Claim, EpochReport, Failure, TrainResult
from jobs.states import FailureReason, JobState

AddSweep = Callable[..., int]
Row = Callable[[int], dict[str, Any]]
Result = Callable[..., TrainResult]


def claim(database: Database, limit: int, like: tuple[int, int] | None = None, queue_name: str = "cpu") -> list[Claim]:
    with database.writing() as session:
        return claiming.claim(session, queue_name, "w1", 60.0, limit=limit, like=like)


def write(database: Database, function: Callable[..., Any], *args: Any) -> Any:
    with database.writing() as session:
        return function(session, *args)


def crash(database: Database, claimed: Claim) -> None:
    failure = Failure(job=claimed.job, reason=FailureReason.CRASHED, error="killed")
    assert write(database, ending.let_go, [(claimed, failure)]) == {claimed.job: JobState.READY}


def register(database: Database, *slots: int) -> None:
    """Workers of the queue that live, with so many slots each."""
    with database.writing() as session:
        for number, count in enumerate(slots):
            workers.register(session, f"w{number}", "cpu", count, {})


class TestClaim:
    def test_jobs_of_another_pack_wait_for_a_claim_of_their_own(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(5, packs=[1, 0, 1, 0, 1])
        assert [(one.job, one.pack, one.more) for one in claim(database, limit=2)] == [(2, 0, 0), (4, 0, 0)]
        assert [(one.job, one.pack, one.more) for one in claim(database, limit=2)] == [(1, 1, 1), (3, 1, 1)]

    def test_a_job_that_has_failed_is_claimed_alone(self, database: Database, add_sweep: AddSweep) -> None:
        """It may be the one that killed its trainer; of a killed pack, each goes on alone."""
        add_sweep(4)
        for one in claim(database, limit=4):
            crash(database, one)
        assert [[one.job for one in claim(database, limit=4)] for _ in range(4)] == [[1], [2], [3], [4]]

    def test_a_job_that_has_failed_joins_no_others(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(4)
        crash(database, claim(database, limit=2)[1])
        assert [one.job for one in claim(database, limit=9, like=(1, 0))] == [3, 4]
        assert [one.job for one in claim(database, limit=9)] == [2]

    def test_a_pack_is_filled_up_with_its_like_only(self, database: Database, add_sweep: AddSweep) -> None:
        sweep = add_sweep(4, packs=[0, 1, 0, 1])
        add_sweep(2, priority=9)
        assert [(one.job, one.pack, one.more) for one in claim(database, 1, like=(sweep, 1))] == [(2, 1, 1)]
        assert [one.job for one in claim(database, limit=9, like=(sweep, 1))] == [4]
        assert claim(database, limit=9, like=(sweep, 1)) == []
        assert claim(database, limit=9, like=(sweep, 0), queue_name="gpu") == []
        write(database, steering.pause_sweep, sweep)
        assert claim(database, limit=9, like=(sweep, 0)) == []

    @pytest.mark.parametrize(
        ("slots", "taken", "joining"),
        [
            ((), [7], [7]),
            ((1,), [7], [7]),
            ((2,), [4, 3], [4, 2, 1]),
            ((3,), [3, 3, 1], [3, 2, 1, 1]),
            ((3, 5), [1] * 7, [1] * 7),
        ],
    )
    @pytest.mark.parametrize("like", [False, True])
    def test_of_a_pack_each_slot_gets_its_part(
        self,
        database: Database,
        add_sweep: AddSweep,
        slots: tuple[int, ...],
        taken: list[int],
        joining: list[int],
        like: bool,
    ) -> None:
        """Of all that is ready or trains; of what joins others, of all that is ready, to keep all slots fed.

        A worker that stopped, and one of another queue, take no part.
        """
        sweep = add_sweep(7)
        register(database, *slots)
        with database.writing() as session:
            workers.register(session, "another", "gpu", 4, {})
            workers.register(session, "stopped", "cpu", 4, {})
            workers.stop(session, "stopped")
        of = (sweep, 0) if like else None
        expected = joining if like else taken
        assert [len(claim(database, limit=9, like=of)) for _ in expected] == expected

    def test_512_jobs_come_to_two_slots_in_two_halves_also_where_each_claims_one_first(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        sweep = add_sweep(512)
        register(database, 1, 1)
        for _ in range(2):
            with database.writing() as session:
                (one,) = claiming.claim(session, "cpu", "w0", 60.0)
                others = claiming.claim(session, "cpu", "w0", 60.0, limit=500, like=(sweep, 0), beside_one=True)
            assert len([one, *others]) == 256
        assert others[-1].more == 0

    def test_what_completes_a_share_is_no_more_than_was_asked_for(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        sweep = add_sweep(9)
        register(database, 2)
        with database.writing() as session:
            claiming.claim(session, "cpu", "w0", 60.0)
            assert len(claiming.claim(session, "cpu", "w0", 60.0, limit=3, like=(sweep, 0), beside_one=True)) == 3

    @pytest.mark.parametrize(("pack", "taken"), [(0, 5), (1, 1), (2, 2), (9, 5)])
    def test_no_more_jobs_are_claimed_at_once_than_the_sweep_lets_train_together(
        self, database: Database, add_sweep: AddSweep, pack: int, taken: int
    ) -> None:
        add_sweep(6, pack=pack)
        claims = claim(database, limit=5)
        assert len(claims) == taken
        assert {(one.most, one.more) for one in claims} == {(pack, 0 if pack == 1 else 6 - taken)}


class TestEnds:
    def test_many_results_are_recorded_each_with_its_own_numbers_and_model(
        self, database: Database, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep(3)
        claims = claim(database, limit=3)
        ended = [(one, with_model(result(one.job, one.job / 10))) for one in claims]
        assert write(database, ending.finish, list(reversed(ended))) == {1, 2, 3}
        assert [(row(job)["state"], row(job)["score"]) for job in (1, 2, 3)] == [
            ("succeeded", 0.1),
            ("succeeded", 0.2),
            ("succeeded", 0.3),
        ]
        with database.reading() as session:
            assert [epoch["val_accuracy"] for job in (1, 2, 3) for epoch in history.epochs(session, job)] == [
                *(0.1, 0.1, 0.2, 0.2, 0.3, 0.3)
            ]
            models = session.execute(select(Model.job_id, Model.content).order_by(Model.job_id)).all()
            assert models == [(1, b"1"), (2, b"2"), (3, b"3")]
            assert set(session.execute(select(Attempt.outcome, Attempt.environment["device"].as_string()))) == {
                ("succeeded", "cpu")
            }

    def test_of_many_ends_only_those_count_whose_claim_holds(
        self, database: Database, add_sweep: AddSweep, row: Row, result: Result, expire_lease: Callable[[int], None]
    ) -> None:
        add_sweep(4)
        claims = claim(database, limit=4)
        expire_lease(2)
        write(database, upkeep.rescue)
        (successor,) = claim(database, limit=1)
        assert successor.job == 2
        stranger = replace(claims[2], worker="another")
        mixed = [claims[0], claims[1], stranger, claims[3]]
        reports = [(one, [EpochReport(job=one.job, epoch=5, metrics={}, seconds=1.0)]) for one in mixed]
        assert write(database, leases.record_epochs, reports) == {1, 4}
        assert [row(job)["epoch"] for job in (1, 2, 3, 4)] == [5, 0, 0, 5]
        assert write(database, ending.finish, [(one, result(one.job)) for one in mixed]) == {1, 4}
        assert [row(job)["state"] for job in (1, 2, 3, 4)] == ["succeeded", "running", "running", "succeeded"]
        with database.reading() as session:
            assert [history.epochs(session, job) for job in (2, 3)] == [[], []]

    def test_of_many_that_are_let_go_each_moves_its_own_way_if_its_claim_holds(
        self, database: Database, add_sweep: AddSweep, row: Row
    ) -> None:
        add_sweep(4, retries=1)
        add_sweep(1, retries=0)
        claims = claim(database, limit=4) + claim(database, limit=1)
        stranger = replace(claims[2], worker="another")
        failures = [
            None,
            Failure(job=2, reason=FailureReason.CRASHED, error="killed"),
            Failure(job=3, reason=FailureReason.CRASHED, error="killed"),
            Failure(job=4, reason=FailureReason.DIVERGED, error="nan"),
            Failure(job=5, reason=FailureReason.ERROR, error="no\0NUL"),
        ]
        ended = list(zip([*claims[:2], stranger, *claims[3:]], failures, strict=True))
        assert write(database, ending.let_go, list(reversed(ended))) == {
            1: JobState.READY,
            2: JobState.READY,
            4: JobState.FAILED,
            5: JobState.FAILED,
        }
        found = [row(job) for job in range(1, 6)]
        assert [(one["state"], one["failures"], one["error"]) for one in found] == [
            ("ready", 0, None),
            ("ready", 1, "killed"),
            ("running", 0, None),
            ("failed", 1, "nan"),
            ("failed", 1, "noNUL"),
        ]
        with database.reading() as session:
            told = session.execute(select(Attempt.outcome, Attempt.error).order_by(Attempt.job_id)).all()
        assert told == [
            ("given back", None),
            ("crashed", "killed"),
            (None, None),
            ("diverged", "nan"),
            ("error", "noNUL"),
        ]

    def test_ends_without_a_claim_that_holds_change_nothing(
        self, database: Database, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep()
        (lost,) = claim(database, limit=1)
        write(database, ending.let_go, [(lost, None)])
        before = row(lost.job)
        assert write(database, ending.finish, [(lost, result(lost.job))]) == set()
        assert write(database, leases.record_epochs, []) == set()
        assert row(lost.job) == before

    def test_a_thousand_held_jobs_are_renewed_at_once(self, database: Database, add_sweep: AddSweep) -> None:
        add_sweep(1_000)
        held = {(one.job, one.attempt) for one in claim(database, limit=1_000)}
        assert len(held) == 1_000
        assert set(write(database, leases.renew, "w1", held, 60.0).items()) == {(one, Answer.GO_ON) for one in held}


def with_model(result: TrainResult) -> TrainResult:
    """The result with a model that is its own."""
    content = str(result.job).encode()
    return replace(result, best=BestModel(sha256=str(result.job), size=len(content), content=content))
