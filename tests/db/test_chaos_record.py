"""The record that the chaos harness keeps by triggers of its own: on both databases it finds what should not be."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db import claiming, ending, upkeep
from db.session import Database
from jobs.spec import BestModel, Claim, TrainResult
from tests.chaos import verdict
from tests.chaos.audit import Records
from tests.chaos.timeline import Timeline

AddSweep = Callable[..., int]
Result = Callable[..., TrainResult]


@pytest.fixture
def records(database_url: str, add_sweep: AddSweep) -> Iterator[Records]:
    """The record of a database with one job."""
    add_sweep()
    records = Records(database_url)
    records.watch()
    yield records
    records.close()


def complaints(records: Records, store: Path) -> list[str]:
    timeline = Timeline(records.changes())
    return [one.text for one in [*verdict.of_record(timeline, records), *verdict.of_models(records, store)]]


def write(database: Database, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    with database.writing() as session:
        return function(session, *args, **named)


def taken_twice(database: Database) -> tuple[Claim, Claim]:
    """One job, claimed by a worker that went silent, and then by another."""
    (lost,) = write(database, claiming.claim, "cpu", "w1", 60.0)
    write(database, upkeep.rescue, "w1")
    (held,) = write(database, claiming.claim, "cpu", "w2", 60.0)
    return lost, held


def test_it_is_content_with_a_job_that_was_rescued_and_finished(
    database: Database, records: Records, result: Result, tmp_path: Path
) -> None:
    lost, held = taken_twice(database)
    write(database, ending.finish, [(lost, result(lost.job))])  # refused
    best = BestModel(sha256=hashlib.sha256(b"abc").hexdigest(), size=3, content=b"abc")
    write(database, ending.finish, [(held, replace(result(held.job), best=best))])
    assert complaints(records, tmp_path) == []
    (first, second) = Timeline(records.changes()).held
    assert [(one.worker, one.attempt, one.became) for one in (first, second)] == [
        ("w1", 1, "ready"),
        ("w2", 2, "succeeded"),
    ]


def test_it_finds_writes_past_the_fence(database: Database, records: Records, result: Result, tmp_path: Path) -> None:
    lost, held = taken_twice(database)
    write(database, ending.finish, [(held, result(held.job))])
    with database.writing() as session:  # as if the fence did not name the attempt
        session.execute(text("UPDATE jobs SET score = 0.25"))
        content = {"job": lost.job, "sha": "0" * 64, "content": b"abc"}
        insert = "INSERT INTO models (job_id, attempt, sha256, size, content) VALUES (:job, 1, :sha, 3, :content)"
        session.execute(text(insert), content)
    told = complaints(records, tmp_path)
    assert any("its final row was changed" in text for text in told)
    assert "its model is of attempt 1, its row of 2" in told
    assert "its model is not the one that was recorded" in told
