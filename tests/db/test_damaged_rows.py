"""Rows that somebody else has written: a claim sets aside what it cannot read, and readers read the rest."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from db import (
    claiming,
    clock,
    diagnosis,
    ending,
    extension,
    gauges,
    history,
    leaderboard,
    results,
    rows,
    status,
    steering,
    strangers,
    upkeep,
    workers,
)
from db.clock import now
from db.models import Attempt, History, Job, Kept, Model, Sweep, Worker
from db.session import Database
from jobs.errors import RowDamaged
from jobs.settings import Settings
from jobs.spec import BestModel, Claim, Failure, TrainResult
from jobs.states import FailureReason, JobState, SweepState
from scheduler.service import Service
from tests.db.conftest import AddSweep, Row

WORKER = "host:1:abc"
DEEP: Any = "end"
for _ in range(900):
    DEEP = [DEEP]
NO_TIMES = ["x", "", 7, b"x", "now", "23:59", "9999-99-99 00:00:00.000", "2999-02-30 00:00:00.000"]
# PostgreSQL takes nothing into these columns that is no time, and no JSON.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
DOCUMENTS: list[Any] = [[], [1, [2]], "text", 7, True, {"fixed": []}, {"": {"": {}}}, DEEP, {"a": DEEP}]
SPECS = [*DOCUMENTS, {"task": "iris"}, {"task": ["os:system"], "epochs": "many", "objective": 7}]


def change(database: Database, statement: Any) -> None:
    with database.writing() as session:
        session.execute(statement)


def claim(database: Database, *, lease_seconds: float = 60.0, **options: Any) -> list[Claim]:
    with database.writing() as session:
        return claiming.claim(session, "cpu", WORKER, lease_seconds, **options)


def add_succeeded(database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]) -> None:
    """Job 1, which has succeeded."""
    add_sweep(1)
    (claimed,) = claim(database)
    with database.writing() as session:
        assert ending.finish(session, [(claimed, result(claimed.job))])


@pytest.mark.parametrize("limit", [1, 8])
def test_a_sweep_that_cannot_be_read_is_paused_and_keeps_no_worker_from_the_next(
    limit: int, database: Database, add_sweep: AddSweep, row: Row
) -> None:
    for spec in SPECS:
        hostile, good = add_sweep(3, priority=9), add_sweep(1)
        change(database, update(Sweep).where(Sweep.id == hostile).values(spec=spec))
        (claimed,) = claim(database, limit=limit)
        assert claimed.spec.sweep == good
        job = claimed.job - 3  # the first of the three before it
        first = row(job)
        assert (first["state"], first["reason"], first["worker"]) == (JobState.FAILED, FailureReason.ERROR, None)
        assert f"the spec of sweep {hostile} in the database cannot be read" in first["error"]
        assert row(job + 1)["state"] == JobState.READY, "the others wait for whoever puts the row in order"
        with database.reading() as session:
            assert status.sweep_status(session, hostile).state == SweepState.PAUSED
            (attempt,) = results.job_details(session, job).attempts
        assert (attempt.outcome, attempt.error) == (FailureReason.ERROR, first["error"])


@pytest.mark.parametrize("limit", [1, 8])
def test_a_job_whose_parameters_cannot_be_read_fails_alone(
    limit: int, database: Database, add_sweep: AddSweep, row: Row
) -> None:
    for params in DOCUMENTS:
        add_sweep(2)
        with database.reading() as session:
            bad = (session.scalar(select(func.max(Job.id))) or 0) - 1
        change(database, update(Job).where(Job.id == bad).values(params=params))
        claimed = {one.job for _ in range(2) for one in claim(database, limit=limit)}
        assert bad + 1 in claimed
        if bad not in claimed:  # else they are an object, for the trainer to judge
            assert (row(bad)["state"], row(bad)["reason"]) == (JobState.FAILED, FailureReason.ERROR)


def test_a_sweep_whose_reasons_for_a_retry_cannot_be_read_is_rescued_as_the_others(
    database: Database, add_sweep: AddSweep, row: Row
) -> None:
    for reasons in ("text", 7, True, {"lost": 1}, DEEP):
        hostile, good = add_sweep(2), add_sweep(1)
        lost, failed, other = claim(database, limit=2, first=hostile) + claim(database, first=good)
        change(database, update(Sweep).where(Sweep.id == hostile).values(retry_on=reasons))
        failure = Failure(job=failed.job, reason=FailureReason.LOST, error="it broke")
        with database.writing() as session:
            assert ending.let_go(session, [(failed, failure)]) == {failed.job: JobState.READY}
            assert upkeep.rescue(session, WORKER) == 2
            steering.cancel_sweep(session, hostile)
            steering.cancel_sweep(session, good)
        assert {row(one.job)["state"] for one in (lost, failed, other)} == {JobState.CANCELLED}, "all were ready again"


def test_a_damaged_sweep_stops_no_round_of_the_scheduler(
    database: Database,
    add_sweep: AddSweep,
    result: Callable[..., TrainResult],
    row: Row,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One whose files are due and one that is being extended; the jobs of others are rescued meanwhile."""
    tidied, extended, good = add_sweep(1), add_sweep(1), add_sweep(4)
    (claimed,) = claim(database, first=tidied)
    best = BestModel(sha256="0", size=1, content=b"x")
    with database.writing() as session:
        assert ending.finish(session, [(claimed, replace(result(claimed.job), best=best))])
    scheduler = Service(database, Settings(home=tmp_path))
    monkeypatch.setattr(clock, "seconds_up", lambda session: math.inf)  # of the database's server
    for spec in SPECS[-4:]:
        rows._specs.clear()  # as another process
        change(database, update(Sweep).where(Sweep.id == tidied).values(spec=spec))
        change(
            database, update(Sweep).where(Sweep.id == extended).values(spec=spec, extending={}, touched_at=now(-999))
        )
        change(database, update(Kept).values(due=True))
        (lost,) = claim(database, first=good, lease_seconds=-1.0)
        assert scheduler.tick().rescued == 1
        assert row(lost.job)["state"] in (JobState.READY, JobState.WAITING)
    with database.reading() as session, pytest.raises(RowDamaged, match=f"the spec of sweep {extended} in the"):
        extension.stand(session, extended)
    with database.reading() as session:
        assert session.scalars(select(Model.freed_at)).all() == [None]


def test_readers_show_what_can_be_read(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    add_succeeded(database, add_sweep, result)
    with database.writing() as session:
        workers.register(session, "w", "cpu", 1, {})
        good = session.scalars(select(Sweep.spec)).one()
    for document in DOCUMENTS:
        change(database, update(Sweep).values(spec=good))
        change(database, update(Job).values(params=document, metrics=document))
        change(database, update(Attempt).values(environment=document))
        change(database, update(History).values(names=document))
        change(database, update(Worker).values(info={"pid": document, "host": document}))
        with database.reading() as session:
            assert results.job_details(session, 1).job == 1
            assert len(leaderboard.top(session)) == 1
            assert len(leaderboard.by_cell(session, sweep=1)) == 1
            assert [one.worker for one in workers.alive(session, "cpu")] == ["w"]
        change(database, update(Worker).values(info=document))
        change(database, update(Sweep).values(spec=document))
        with database.reading() as session:
            assert results.job_details(session, 1).params is not None
            assert len(leaderboard.top(session)) == 1
            assert workers.alive(session, "cpu")[0].pid is None


def test_a_worker_that_tells_nonsense_of_itself_keeps_nobody_from_the_others(database: Database) -> None:
    good = {"attempts": {"succeeded": 7}, "out_of_service": {"0": "it is full"}, "troubles": {"ends": "2 wait"}}
    with database.writing() as session:
        workers.register(session, "bad", "cpu", 2, {})
        workers.register(session, "good", "cpu", 2, good)
    parts = ("attempts", "out_of_service", "clock", "troubles")
    nested = [dict.fromkeys(parts, document) for document in DOCUMENTS]
    counts = {"succeeded": "7", "failed": -1, "lost": 1.5, "error": True, "crashed": 1 << 70}
    for document in [*DOCUMENTS, *nested, {"attempts": counts, "out_of_service": {"1": ["why"]}, "troubles": {"x": 1}}]:
        change(database, update(Worker).where(Worker.id == "bad").values(info=document))
        with database.reading() as session:
            found = gauges.look(session)
            assert (found.workers, found.tallies["good"], found.tallies["bad"]) == ({"cpu": 2}, {"succeeded": 7}, {})
            assert [(one.worker, one.why) for one in workers.out_of_service(session)] == [("good", "it is full")]
            assert [str(one) for one in workers.troubles(session)] == ["worker good: 2 wait"]
            assert {one.worker for one in diagnosis.workers(session)} == {"bad", "good"}


def test_a_history_of_other_bytes_is_no_history(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    add_succeeded(database, add_sweep, result)
    infinite = b"\x00\x00\x00\x00\x00\x00\xf0\x7f"
    for content in (b"", b"x", b"\xff" * 8 * 4, b"\x00" * 8 * 4_000, infinite * 4):
        change(database, update(History).values(content=content))
        with database.reading() as session:
            assert all(isinstance(epoch["epoch"], int) for epoch in history.epochs(session, 1))


@on_sqlite
def test_text_in_a_column_of_json_is_read_as_nothing(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    add_succeeded(database, add_sweep, result)
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE jobs SET params = '{\"a\": ', metrics = '[[['")
        session.connection().exec_driver_sql("UPDATE sweeps SET spec = '{\"fixed\": '")
        workers.register(session, "good", "cpu", 1, {"host": "here", "pid": 7})
        workers.register(session, "bad", "cpu", 1, {})
        session.connection().exec_driver_sql("UPDATE workers SET info = '{' WHERE id = 'bad'")
    with database.reading() as session:
        assert results.job_details(session, 1).metrics == {}
        assert len(leaderboard.top(session)) == len(leaderboard.by_cell(session)) == 1
        assert leaderboard.top(session, sweep=1, where={"lr": 0.1, "scheduler.name": "step"}) == []
        assert workers.of_process(session, "here", 7) == ["good"]


@pytest.mark.parametrize("spec", [None, 7, "text", {"task": "iris"}])
def test_what_a_damaged_spec_lacks_is_told_in_words_of_ours(spec: Any, database: Database, add_sweep: AddSweep) -> None:
    sweep = add_sweep(1, task="no_task_of_this_machine")
    change(database, update(Sweep).values(spec=text("'null'") if spec is None else spec))
    with database.reading() as session:
        with pytest.raises(RowDamaged) as told:
            extension.stand(session, sweep)
        assert strangers.parameters_of(session, sweep, None) == set()
    assert not re.search("Input should|SweepSpec|Field required", str(told.value))


@on_sqlite
@pytest.mark.parametrize("value", NO_TIMES)
def test_a_job_whose_lease_cannot_be_read_is_overdue_and_rescued(
    value: Any, database: Database, add_sweep: AddSweep, row: Row
) -> None:
    add_sweep(2)
    (damaged,), (other,) = claim(database), claim(database)
    with database.writing() as session:
        statement = "UPDATE jobs SET lease_expires_at = ? WHERE id = ?"
        session.connection().exec_driver_sql(statement, (value, damaged.job))
        assert diagnosis.overdue(session, 60.0) == 1
        assert upkeep.rescue(session) == 1
    assert row(damaged.job)["state"] in (JobState.READY, JobState.WAITING)
    assert row(other.job)["state"] == JobState.RUNNING


@on_sqlite
@pytest.mark.parametrize("value", NO_TIMES)
def test_a_job_that_waits_for_a_time_that_cannot_be_read_is_ready(
    value: Any, database: Database, add_sweep: AddSweep, row: Row
) -> None:
    add_sweep(2)
    change(database, update(Job).values(state=JobState.WAITING, due_at=now(3_600.0)))
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE jobs SET due_at = ? WHERE id = 1", (value,))
        assert diagnosis.overdue(session, 60.0) == 1
        assert upkeep.make_due_ready(session) == 1
    assert (row(1)["state"], row(2)["state"]) == (JobState.READY, JobState.WAITING)


@on_sqlite
@pytest.mark.parametrize("value", NO_TIMES)
def test_a_worker_whose_last_sign_cannot_be_read_is_not_counted(value: Any, database: Database) -> None:
    with database.writing() as session:
        for name in ("bad", "good"):
            workers.register(session, name, "cpu", 2, {"troubles": {"store": "it is full"}})
        session.flush()
        session.connection().exec_driver_sql("UPDATE workers SET heartbeat_at = ? WHERE id = 'bad'", (value,))
    with database.reading() as session:
        assert workers.count_slots(session, "cpu") == 2
        assert workers.idle_slots(session) == {"cpu": 2}
        assert [one.worker for one in workers.troubles(session)] == ["good"]
        assert [one.worker for one in diagnosis.workers(session) if one.alive] == ["good"]
