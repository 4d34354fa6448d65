"""Rows that somebody else has written: a claim sets aside what it cannot read, and readers read the rest."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import diagnosis, gauges, history, leaderboard, queue, results, status, workers
from db.models import Attempt, History, Job, Sweep, Worker
from db.session import Database
from jobs.spec import Claim, TrainResult
from jobs.states import FailureReason, JobState, SweepState
from tests.db.conftest import AddSweep, Row

WORKER = "host:1:abc"
DEEP: Any = "end"
for _ in range(900):
    DEEP = [DEEP]
DOCUMENTS: list[Any] = [[], [1, [2]], "text", 7, True, {"fixed": []}, {"": {"": {}}}, DEEP, {"a": DEEP}]
SPECS = [*DOCUMENTS, {"task": "iris"}, {"task": ["os:system"], "epochs": "many", "objective": 7}]


def change(database: Database, statement: Any) -> None:
    with database.writing() as session:
        session.execute(statement)


def claim(database: Database, **options: Any) -> list[Claim]:
    with database.writing() as session:
        return queue.claim(session, "cpu", WORKER, 60.0, **options)


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


def test_readers_show_what_can_be_read(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    add_sweep(1)
    (claimed,) = claim(database)
    with database.writing() as session:
        assert queue.finish(session, [(claimed, result(1))])
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
    good = {"attempts": {"succeeded": 7}, "out_of_service": {"0": "it is full"}}
    with database.writing() as session:
        workers.register(session, "bad", "cpu", 2, {})
        workers.register(session, "good", "cpu", 2, good)
    parts = ("attempts", "out_of_service", "clock")
    nested = [dict.fromkeys(parts, document) for document in DOCUMENTS]
    counts = {"succeeded": "7", "failed": -1, "lost": 1.5, "error": True, "crashed": 1 << 70}
    for document in [*DOCUMENTS, *nested, {"attempts": counts, "out_of_service": {"1": ["why"]}}]:
        change(database, update(Worker).where(Worker.id == "bad").values(info=document))
        with database.reading() as session:
            found = gauges.look(session)
            assert (found.workers, found.tallies["good"], found.tallies["bad"]) == ({"cpu": 2}, {"succeeded": 7}, {})
            assert [(one.worker, one.why) for one in workers.out_of_service(session)] == [("good", "it is full")]
            assert {one.worker for one in diagnosis.workers(session)} == {"bad", "good"}


def test_a_history_of_other_bytes_is_no_history(
    database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]
) -> None:
    add_sweep(1)
    (claimed,) = claim(database)
    with database.writing() as session:
        assert queue.finish(session, [(claimed, result(1))])
    infinite = b"\x00\x00\x00\x00\x00\x00\xf0\x7f"
    for content in (b"", b"x", b"\xff" * 8 * 4, b"\x00" * 8 * 4_000, infinite * 4):
        change(database, update(History).values(content=content))
        with database.reading() as session:
            assert all(isinstance(epoch["epoch"], int) for epoch in history.epochs(session, 1))


def test_text_in_a_column_of_json_is_read_as_nothing(database: Database, add_sweep: AddSweep) -> None:
    if database.dialect != "sqlite":
        pytest.skip("PostgreSQL takes JSON only")
    add_sweep(1)
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE jobs SET params = '{\"a\": ', metrics = '[[['")
    with database.reading() as session:
        assert results.job_details(session, 1).metrics == {}
