"""The moves of a job, each in a transaction of its own."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from db import claiming, ending
from db.models import Attempt
from db.session import Database
from jobs.spec import Claim, Failure
from jobs.states import FailureReason, JobState

LEASE = 60.0


def claim_one(database: Database, worker: str = "w1", queue_name: str = "cpu") -> Claim:
    claims = claim(database, worker, queue_name)
    assert len(claims) == 1
    return claims[0]


def claim(database: Database, worker: str = "w1", queue_name: str = "cpu", limit: int = 1) -> list[Claim]:
    with database.writing() as session:
        return claiming.claim(session, queue_name, worker, LEASE, limit=limit)


def write(database: Database, function: Callable[..., Any], *args: Any) -> Any:
    with database.writing() as session:
        return function(session, *args)


def failure(job: int, reason: FailureReason = FailureReason.ERROR) -> Failure:
    return Failure(job=job, reason=reason, error="it broke")


def let_go(database: Database, claimed: Claim, failure: Failure | None = None) -> JobState | None:
    """The new state of one job that has not succeeded; None when its claim is lost."""
    moved: dict[int, JobState] = write(database, ending.let_go, [(claimed, failure)])
    return moved.get(claimed.job)


def attempts(database: Database, job: int) -> list[tuple[int, str | None]]:
    with database.reading() as session:
        query = select(Attempt.attempt, Attempt.outcome).where(Attempt.job_id == job).order_by(Attempt.attempt)
        return [(row.attempt, row.outcome) for row in session.execute(query)]
