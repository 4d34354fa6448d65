"""What became of a job, attempt by attempt, in words."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Row, ScalarSelect, func, select
from sqlalchemy.orm import Session

from db.models import Attempt, History


def epoch_reached() -> ScalarSelect[int | None]:
    """The last epoch that an attempt has reported, beside a statement on attempts."""
    own = (History.job_id == Attempt.job_id, History.attempt == Attempt.attempt)
    return select(func.max(History.last_epoch)).where(*own).correlate(Attempt).scalar_subquery()


def of_jobs(session: Session, jobs: Collection[int]) -> dict[int, str]:
    """A line for each attempt at these jobs: worker, when, last epoch, how it ended."""
    if not jobs:
        return {}
    columns: list[Any] = [Attempt.job_id, Attempt.attempt, Attempt.worker, Attempt.started_at, Attempt.finished_at]
    reached = func.coalesce(Attempt.epoch, epoch_reached()).label("epoch")
    columns += [Attempt.outcome, Attempt.error, reached]
    query = select(*columns).where(Attempt.job_id.in_(jobs))
    told = defaultdict[int, list[str]](list)
    for row in session.execute(query.order_by(Attempt.job_id, Attempt.attempt)):
        told[row.job_id].append(_line(row))
    return {job: "\n".join(lines) for job, lines in told.items()}


def _line(row: Row[Any]) -> str:
    began, ended = _moment(row.started_at), row.finished_at and _moment(row.finished_at)
    when = f"{began} to {ended}" if ended else f"since {began}"
    epoch = "no epoch reported" if row.epoch is None else f"last epoch {row.epoch}"
    message = (row.error or "").partition("\n")[0]
    how = f"{row.outcome}: {message}" if message else row.outcome or "its worker went silent or died"
    return f"attempt {row.attempt} ({when} UTC, worker {row.worker}, {epoch}) {how}"


def _moment(moment: datetime | None) -> str:
    return "–" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")
