"""Epochs of a job in compact rows: each holds some epochs, column by column."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from db.models import History
from db.rows import execute_update, finite_or_none
from jobs.spec import EpochReport, Json


def add(session: Session, job: int, attempt: int, reports: Sequence[EpochReport]) -> None:
    """Store some epochs of a running job; storing the same ones again changes nothing."""
    session.merge(_row(job, attempt, reports))


def replace(session: Session, job: int, attempt: int, reports: Sequence[EpochReport]) -> None:
    """Store the whole history of a finished job in one row, in place of all it had."""
    execute_update(session, delete(History).where(History.job_id == job))
    if reports:
        session.add(_row(job, attempt, reports))


def epochs(session: Session, job: int) -> list[Json]:
    """The history of a job, one object per epoch: epoch, seconds and every metric; not finite: None.

    What a later attempt trains again counts no longer, from the first epoch it has reported.
    """
    rows = session.scalars(select(History).where(History.job_id == job).order_by(History.attempt, History.first_epoch))
    merged: dict[int, Json] = {}
    for row in rows:
        merged = {number: epoch for number, epoch in merged.items() if number < row.first_epoch}
        for values in zip(*row.columns.values(), strict=True):
            epoch = dict(zip(row.columns, values, strict=True))
            merged[epoch["epoch"]] = epoch
    return list(merged.values())


def _row(job: int, attempt: int, reports: Sequence[EpochReport]) -> History:
    columns: Json = {
        "epoch": [report.epoch for report in reports],
        "seconds": [round(report.seconds, 6) for report in reports],
    }
    for name in dict.fromkeys(name for report in reports for name in report.metrics):
        columns[name] = [finite_or_none(report.metrics.get(name, float("nan"))) for report in reports]
    return History(
        job_id=job,
        attempt=attempt,
        first_epoch=reports[0].epoch,
        last_epoch=reports[-1].epoch,
        columns=columns,
    )
