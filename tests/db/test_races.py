"""Two connections at the same time, each in the middle of a transaction: what one is about to do, the other has undone.

On PostgreSQL the second waits for the first; on SQLite it cannot even begin, so there is nothing to race.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text, update

from db import claiming, ending, fence, leases, retention, steering, submission, upkeep
from db.clock import now
from db.models import Job, Kept, Model, Sweep
from db.session import Database
from jobs.spec import BestModel, Claim, EpochReport, Failure, TrainResult
from jobs.states import FailureReason, JobState, SweepState
from scheduler import extend as extending
from scheduler import sweep_file
from scheduler.extend import extend
from scheduler.submit import submit

AddSweep = Callable[..., int]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.close()


def claim(database: Database) -> Claim:
    with database.writing() as session:
        (claimed,) = claiming.claim(session, "cpu", "w", 60.0)
    return claimed


def race(database: Database, first: Callable[[Any], Any], second: Callable[[Any], Any]) -> None:
    """`second` begins while `first` has done its work and not yet committed, and waits for it."""
    errors: list[BaseException] = []

    def run_second() -> None:
        try:
            with database.writing() as session:
                second(session)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run_second)
    with database.writing() as session:
        first(session)
        thread.start()
        wait_until_blocked(database, thread)
    thread.join()
    assert errors == []


def wait_until_blocked(database: Database, thread: threading.Thread) -> None:
    """Return when a statement waits for a lock, or when the thread needed none and has ended."""
    while thread.is_alive():
        with database.reading() as session:
            blocked = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            if session.scalar(text(blocked)):
                return


def states(database: Database, sweep: int) -> tuple[str, list[str]]:
    with database.reading() as session:
        jobs = session.query(Job.state).where(Job.sweep_id == sweep).order_by(Job.id)
        return session.get_one(Sweep, sweep).state, [row.state for row in jobs]


def failed(claimed: Claim) -> Failure:
    return Failure(job=claimed.job, reason=FailureReason.ERROR, error="it broke")


@pytest.mark.parametrize("end", ["fail", "release", "rescue"])
def test_a_job_that_ends_while_its_sweep_is_cancelled_is_cancelled_with_it(
    database: Database, add_sweep: AddSweep, end: str
) -> None:
    ends: dict[str, Callable[[Claim], Callable[[Any], Any]]] = {
        "fail": lambda claimed: lambda session: ending.let_go(session, [(claimed, failed(claimed))]),
        "release": lambda claimed: lambda session: ending.let_go(session, [(claimed, None)]),
        "rescue": lambda claimed: lambda session: upkeep.rescue(session, "w"),
    }
    for cancel_first in (True, False):
        sweep = add_sweep()
        the_end, cancel = ends[end](claim(database)), lambda session, sweep=sweep: steering.cancel_sweep(session, sweep)
        race(database, *((cancel, the_end) if cancel_first else (the_end, cancel)))
        assert states(database, sweep) == (SweepState.CANCELLED, [JobState.CANCELLED])


@pytest.mark.parametrize("claim_first", [True, False])
def test_a_late_result_counts_or_the_job_is_claimed_again_and_never_both(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult], claim_first: bool
) -> None:
    """The job was taken from a worker that was thought dead, and its result and the next claim come together."""
    sweep = add_sweep()
    lost = claim(database)
    with database.writing() as session:
        assert upkeep.rescue(session, "w") == 1
    claimed: list[Claim] = []
    finished: list[set[int]] = []

    def next_claim(session: Any) -> None:
        claimed.extend(claiming.claim(session, "cpu", "w2", 60.0))

    def late_result(session: Any) -> None:
        finished.append(ending.finish(session, [(lost, result(lost.job))]))

    race(database, *((next_claim, late_result) if claim_first else (late_result, next_claim)))
    assert (len(claimed), finished) == ((1, [set()]) if claim_first else (0, [{lost.job}]))
    assert states(database, sweep)[1] == [JobState.RUNNING if claim_first else JobState.SUCCEEDED]


@pytest.mark.parametrize("reopen_first", [True, False])
def test_a_sweep_that_is_retried_while_it_is_closed_ends_up_open(
    database: Database, add_sweep: AddSweep, reopen_first: bool
) -> None:
    sweep = add_sweep(retries=0)
    claimed = claim(database)
    with database.writing() as session:
        ending.let_go(session, [(claimed, failed(claimed))])

    def retry(session: Any) -> None:
        assert steering.retry_sweep(session, sweep) == 1

    race(database, *((retry, upkeep.close_finished) if reopen_first else (upkeep.close_finished, retry)))
    assert states(database, sweep) == (SweepState.OPEN, [JobState.READY])


def test_a_sweep_is_not_opened_while_it_is_removed(database: Database, add_sweep: AddSweep) -> None:
    sweep = add_sweep(3, opened=False)
    opened: list[bool] = []

    def remove_jobs(session: Any) -> None:
        session.get(Sweep, sweep, with_for_update=True)
        session.query(Job).where(Job.sweep_id == sweep).delete()

    race(database, remove_jobs, lambda session: opened.append(submission.open_sweep(session, sweep)))
    assert opened == [False]


def test_of_two_who_submit_the_same_once_one_finds_the_others(database: Database, add_sweep: AddSweep) -> None:
    found: list[Any] = []

    def submit_once(session: Any) -> None:
        found.append(submission.find_same(session, "h"))
        if found[-1] is None:
            session.execute(text("UPDATE sweeps SET spec_hash = 'h'"))

    add_sweep(opened=False)
    race(database, submit_once, submit_once)
    assert found[0] is None
    assert found[1] is not None


def test_all_who_write_of_one_pack_at_the_same_time_take_turns_and_never_wait_in_a_circle(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    """Heartbeat, epochs, ends, jobs given back and a rescue: whatever order they name the jobs in."""
    sweep = add_sweep(200)
    with database.writing() as session:
        claims = claiming.claim(session, "cpu", "w", 60.0, limit=200)
    held = {(claim.job, claim.attempt) for claim in claims}
    report = EpochReport(job=0, epoch=1, metrics={}, seconds=1.0)
    writers: list[Callable[[Any], Any]] = [
        lambda session: leases.renew(session, "w", held, 60.0),
        lambda session: leases.record_epochs(session, [(one, [report]) for one in random.sample(claims, 100)]),
        lambda session: leases.record_epochs(session, [(one, [report]) for one in random.sample(claims, 100)]),
        lambda session: ending.finish(session, [(one, result(one.job)) for one in random.sample(claims, 4)]),
        lambda session: ending.let_go(session, [(one, None) for one in random.sample(claims, 2)]),
        lambda session: ending.let_go(session, [(one, failed(one)) for one in random.sample(claims, 2)]),
        upkeep.rescue,
    ]
    together(database, writers, rounds=15)
    counted = Counter(states(database, sweep)[1])
    assert counted.total() == 200
    assert counted[JobState.RUNNING] < 200 - 50


@pytest.mark.parametrize("limit", [1, 4])
def test_many_who_claim_at_once_keep_a_limit(database: Database, add_sweep: AddSweep, limit: int) -> None:
    sweep, free = add_sweep(60, max_running=5), add_sweep(3, priority=-1)
    most: list[int] = []

    def take(session: Any) -> None:
        claims = claiming.claim(session, "cpu", "w", 60.0, limit=limit)
        most.append(states_counted(session, sweep)[JobState.RUNNING])
        if claims and random.random() < 0.7:
            ending.let_go(session, [(one, None) for one in claims])

    together(database, [take] * 6, rounds=25)
    assert max(most) == 5  # each has seen its own claims and those committed before
    assert states(database, free)[1].count(JobState.RUNNING) <= 3


def states_counted(session: Any, sweep: int) -> Counter[str]:
    return Counter(session.scalars(select(Job.state).where(Job.sweep_id == sweep)))


def test_of_two_who_claim_at_once_each_takes_of_another_sweep(database: Database, add_sweep: AddSweep) -> None:
    """The second counts the slots only when it sees what the first has taken."""
    first, second = add_sweep(5), add_sweep(5)
    race(
        database,
        lambda session: claiming.claim(session, "cpu", "w", 60.0, slot=0),
        lambda session: claiming.claim(session, "cpu", "w", 60.0, slot=1),
    )
    assert [states(database, sweep)[1].count(JobState.RUNNING) for sweep in (first, second)] == [1, 1]


def test_two_who_extend_a_sweep_at_once_both_get_what_they_asked_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extending, "CHUNK", 3)
    sweep = submit(database, sweep_file.parse({"task": "iris", "grid": {"lr": [0.1, 0.2]}, "seeds": 2})).sweep
    asked: list[dict[str, Any]] = [{"grid": {"lr": [0.3, 0.4]}}, {"seeds": 5}, {"grid": {"lr": [0.4, 0.5]}}] * 2
    gates = threading.Barrier(len(asked))
    errors: list[BaseException] = []

    def work(keys: dict[str, Any]) -> None:
        try:
            gates.wait()
            extend(database, sweep, keys)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(keys,)) for keys in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with database.reading() as session:
        jobs = session.query(Job.cell, Job.seed, Job.params).where(Job.sweep_id == sweep).all()
        assert session.get_one(Sweep, sweep).extending is None
    assert {(job.params["lr"], job.seed) for job in jobs} == {
        (lr, seed) for lr in (0.1, 0.2, 0.3, 0.4, 0.5) for seed in range(5)
    }
    assert len(jobs) == 25


def test_who_claims_of_one_sweep_alone_waits_for_nobody(database: Database, add_sweep: AddSweep) -> None:
    add_sweep(5)
    with database.writing() as one, database.writing() as other:
        assert claiming.claim(one, "cpu", "w", 60.0)
        assert claiming.claim(other, "cpu", "w", 60.0)


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("held_first", [True, False])
def test_a_job_that_ends_while_its_sweep_gets_more_epochs_trains_on(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult], held_first: bool, lost: bool
) -> None:
    """Whichever comes first: a result that knew nothing of more epochs is found, one that comes later asks.

    So does a late result, of an attempt that was taken for lost.
    """
    sweep = submit(database, sweep_file.parse({"task": "iris", "epochs": 2})).sweep
    claimed = claim(database)
    ended = result(claimed.job)
    if lost:
        with database.writing() as session:
            assert upkeep.rescue(session, "w") == 1
    extender = threading.Thread(target=extend, args=(database, sweep, {"epochs": 5}))
    if held_first:
        with database.writing() as session:
            assert ending.finish(session, [(claimed, ended)])
            extender.start()
            wait_until_blocked(database, extender)
    else:
        extender.start()
        with database.writing() as session:
            assert ending.finish(session, [(claimed, ended)])
    extender.join()
    assert states(database, sweep) == (SweepState.OPEN, [JobState.READY])
    assert claim(database).spec.epochs == 5


def test_a_model_is_not_freed_of_a_job_that_succeeds_again_at_that_moment(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    """It ranked below the best with the epochs it had; with more of them it may be the best."""

    def finish(session: Any, claimed: Claim, score: float) -> None:
        best = BestModel(sha256="0", size=1, content=b"x")
        assert ending.finish(session, [(claimed, replace(result(claimed.job, score), best=best))])

    sweep = add_sweep(2)
    worse, better = claim(database), claim(database)
    with database.writing() as session:
        finish(session, worse, 0.1)
        finish(session, better, 0.5)
        assert steering.prolong(session, [worse.job]) == 1
    again, freed = claim(database), []
    assert (again.job, again.attempt) == (worse.job, 2)
    race(
        database,
        lambda session: finish(session, again, 0.9),
        lambda session: freed.extend(retention.free(session, sweep, 1)),
    )
    assert freed == []
    with database.writing() as session:
        assert session.scalars(select(Model.freed_at)).all() == [None, None]
        assert session.scalars(select(Kept.rank_key).order_by(Kept.rank_key)).all() == [-0.9, -0.5]
        assert retention.free(session, sweep, 1) == [better.job]


def test_ends_of_several_kinds_lock_their_jobs_before_they_change_any(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    """The later job has a result, the earlier one has failed; a heartbeat, lowest id first, comes between the two."""
    add_sweep(2)
    earlier, later = claim(database), claim(database)
    held = {(one.job, one.attempt) for one in (earlier, later)}
    errors: list[BaseException] = []

    def beat() -> None:
        try:
            with database.writing() as session:
                leases.renew(session, "w", held, 60.0)
        except BaseException as error:
            errors.append(error)

    heartbeat = threading.Thread(target=beat)
    with database.writing() as session:
        fence.lock(session, [later, earlier])
        ending.finish(session, [(later, result(later.job))])
        heartbeat.start()
        wait_until_blocked(database, heartbeat)
        assert ending.let_go(session, [(earlier, failed(earlier))]) == {earlier.job: JobState.READY}
    heartbeat.join()
    assert errors == []


def test_who_comes_back_waits_for_a_late_result_and_not_in_a_circle(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    """Of a worker presumed dead: all lock jobs before attempts; what it lost and what it holds, in one order."""
    add_sweep(40)
    with database.writing() as session:
        claims = claiming.claim(session, "cpu", "w", 60.0, limit=40)
        session.execute(update(Job).where(Job.id % 2 == 0).values(lease_expires_at=now(-1.0)))
        assert upkeep.rescue(session) == 20
    held = [(one.job, one.attempt) for one in claims]

    def ends(session: Any) -> None:
        ending.finish(session, [(one, result(one.job)) for one in random.sample(claims, 8)])

    def lives(session: Any) -> None:
        leases.came_back(session, "w", random.sample(held, 40))

    together(database, [ends, ends, ends, lives, lives, lives], rounds=10)


def together(database: Database, writers: Sequence[Callable[[Any], Any]], rounds: int) -> None:
    """Each writer in a thread of its own, so many transactions each."""
    errors: list[BaseException] = []

    def work(write: Callable[[Any], Any]) -> None:
        try:
            for _ in range(rounds):
                with database.writing() as session:
                    write(session)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(write,)) for write in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
