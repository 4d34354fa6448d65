"""The counts per state are those of the table, whatever happened to it; every other test here compares them too."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update

from db import claiming, counts, ending, steering, upkeep
from db.models import Count, Job, Sweep
from db.session import Database
from jobs.spec import Claim, Failure, TrainResult
from jobs.states import FailureReason, JobState
from tests.db.conftest import assert_counts_are_right

AddSweep = Callable[..., int]
MakeResult = Callable[..., TrainResult]


def moves(session: Any, sweep: int, claims: list[Claim], result: MakeResult) -> list[Callable[[], object]]:
    """Each move of the queue that there is."""

    def ended(act: Callable[[Claim], object]) -> Callable[[], object]:
        return lambda: act(claims.pop()) if claims else None

    def fail(claim: Claim) -> object:
        reason = random.choice(list(FailureReason))
        return ending.let_go(session, [(claim, Failure(job=claim.job, reason=reason, error="it broke"))])

    return [
        lambda: claims.extend(claiming.claim(session, "cpu", "w", 60.0, limit=random.randint(1, 5))),
        lambda: claims.extend(claiming.claim(session, "cpu", "w", 60.0, limit=random.randint(1, 5))),
        ended(lambda claim: ending.finish(session, [(claim, result(claim.job))])),
        ended(fail),
        ended(lambda claim: ending.let_go(session, [(claim, None)])),
        lambda: upkeep.rescue(session, "w"),
        lambda: session.execute(update(Job).where(Job.state == "waiting").values(state="ready", due_at=None)),
        lambda: steering.cancel_sweep(session, sweep),
        lambda: steering.resume_sweep(session, sweep),
        lambda: steering.retry_sweep(session, sweep),
        lambda: upkeep.close_finished(session),
        lambda: session.execute(delete(Job).where(Job.sweep_id == sweep, Job.state == "cancelled", Job.id % 7 == 0)),
        lambda: counts.gather(session),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_after_each_of_many_random_moves_the_counts_are_those_of_the_table(
    database: Database, add_sweep: AddSweep, result: MakeResult, seed: int
) -> None:
    random.seed(seed)
    sweep, claims = add_sweep(40, retries=1), list[Claim]()
    add_sweep(3)
    for _ in range(60):
        with database.writing() as session:
            random.choice(moves(session, sweep, claims, result))()
        assert_counts_are_right(database)


def test_what_is_rolled_back_is_not_counted(database: Database, add_sweep: AddSweep) -> None:
    sweep = add_sweep(3)
    with database.writing() as session:
        assert len(claiming.claim(session, "cpu", "w", 60.0, limit=2)) == 2
        assert counts.of_sweeps(session, [sweep])[sweep]["running"] == 2
        session.rollback()
    with database.reading() as session:
        assert counts.of_sweeps(session, [sweep])[sweep]["ready"] == 3


def test_a_sweep_without_jobs_has_none_in_any_state(database: Database) -> None:
    with database.reading() as session:
        assert counts.of_sweeps(session, [7]) == {7: dict.fromkeys(map(str, JobState), 0)}


@pytest.fixture
def postgresql(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.close()


class TestWithManySessions:
    """PostgreSQL: each session counts in rows of its own."""

    @pytest.fixture
    def database(self, postgresql: Database) -> Database:
        return postgresql

    def test_claimers_and_gatherers_at_the_same_time_lose_no_count(
        self, database: Database, add_sweep: AddSweep, result: MakeResult
    ) -> None:
        sweep, errors = add_sweep(200), list[BaseException]()
        done = threading.Event()

        def work(name: str) -> None:
            try:
                while claims := _claim(database, name):
                    with database.writing() as session:
                        for claim in claims:
                            assert ending.finish(session, [(claim, result(claim.job))])
            except BaseException as error:
                errors.append(error)

        def gather() -> None:
            try:
                while not done.is_set():
                    with database.writing() as session:
                        session.execute(update(Sweep).values(state="paused"))  # so that living sessions' rows go too
                        counts.gather(session)
                        session.execute(update(Sweep).values(state="open"))
            except BaseException as error:
                errors.append(error)

        claimers = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
        gatherers = [threading.Thread(target=gather) for _ in range(2)]
        for thread in (*claimers, *gatherers):
            thread.start()
        for thread in claimers:
            thread.join()
        done.set()
        for thread in gatherers:
            thread.join()
        assert errors == []
        with database.reading() as session:
            assert counts.of_sweeps(session, [sweep])[sweep]["succeeded"] == 200

    def test_the_rows_of_sessions_that_ended_are_gathered_into_one_per_state(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        sweep = add_sweep(5)
        with database.writing() as session:
            claiming.claim(session, "cpu", "w", 60.0, limit=2)
        assert _parts(database) != {0}
        with database.writing() as session:
            session.execute(text("UPDATE counts SET part = -part"))  # no process has such an id
            assert counts.gather(session) == 2
            assert counts.gather(session) == 0
        assert _parts(database) == {0}
        with database.reading() as session:
            found = counts.of_sweeps(session, [sweep])[sweep]
        assert (found["ready"], found["running"]) == (3, 2)

    def test_the_rows_of_a_session_that_may_go_on_counting_are_left_to_it(
        self, database: Database, add_sweep: AddSweep
    ) -> None:
        add_sweep(5)
        _claim(database, "w")
        with database.writing() as session:
            assert counts.gather(session) == 0
        assert _parts(database) != {0}


def _claim(database: Database, worker: str) -> list[Claim]:
    with database.writing() as session:
        return claiming.claim(session, "cpu", worker, 60.0, limit=3)


def _parts(database: Database) -> set[int]:
    with database.reading() as session:
        return set(session.scalars(select(Count.part)))


def test_the_counts_of_a_large_sweep_are_read_from_few_rows(database: Database, add_sweep: AddSweep) -> None:
    add_sweep(500)
    with database.reading() as session:
        assert session.scalars(select(func.count()).select_from(Count)).one() == 1
