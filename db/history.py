"""Epochs of jobs in compact rows: each holds some epochs of one, column by column."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.orm import Session

from db.models import History as Row
from db.rows import finite_or_none, table
from jobs.history import History
from jobs.spec import Claim, EpochReport, Json

logger = logging.getLogger(__name__)

_TABLE = table(Row)
_AGAIN = delete(_TABLE).where(
    _TABLE.c.job_id == bindparam("job"),
    _TABLE.c.attempt == bindparam("try"),
    _TABLE.c.first_epoch >= bindparam("first"),
)


def add(session: Session, reports: Sequence[tuple[Claim, Sequence[EpochReport]]]) -> None:
    """Store some epochs of running jobs; storing the same ones again changes nothing.

    What an attempt reports again, as where its pack was scattered, replaces what it has said of these and later ones.
    """
    rows = [_row(claim, History.of(epochs)) for claim, epochs in reports]
    again = [{"job": row["job_id"], "try": row["attempt"], "first": row["first_epoch"]} for row in rows]
    connection = session.connection()
    connection.execute(_AGAIN, again)
    connection.execute(insert(_TABLE), rows)


def replace(session: Session, whole: Collection[tuple[Claim, History]]) -> None:
    """Store the whole history of each finished job in one row, in place of all it had."""
    connection = session.connection()
    connection.execute(delete(_TABLE).where(_TABLE.c.job_id.in_([claim.job for claim, _ in whole])))
    if rows := [_row(claim, history) for claim, history in whole if len(history)]:
        connection.execute(insert(_TABLE), rows)


def epochs(session: Session, job: int, last_attempt: int | None = None) -> list[Json]:
    """The history of a job as far as it can be read; arguments as those of `read`."""
    return read(session, job, last_attempt)[0]


def read(session: Session, job: int, last_attempt: int | None = None) -> tuple[list[Json], bool]:
    """The history of a job, one object per epoch: epoch, seconds and every metric; not finite: None.

    What a later attempt trains again counts no longer, from the first epoch it has reported.

    Args:
        last_attempt: without those after it; None: all.

    Returns:
        The epochs, and whether all that is stored could be read.
    """
    rows = select(Row).where(Row.job_id == job).order_by(Row.attempt, Row.first_epoch)
    if last_attempt is not None:
        rows = rows.where(Row.attempt <= last_attempt)
    merged, whole = dict[int, Json](), True
    for row in session.scalars(rows):
        found = _epochs(row)
        whole = whole and found is not None
        merged = {number: epoch for number, epoch in merged.items() if number < row.first_epoch}
        merged |= {epoch["epoch"]: epoch for epoch in found or ()}
    return list(merged.values()), whole


def _epochs(row: Row) -> list[Json] | None:
    """Those of a row; None where it holds something else."""
    try:
        return [_shown(epoch) for epoch in History(names=row.names, content=row.content).epochs()]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        logger.warning("job %d: a part of its history cannot be read: %s", row.job_id, error)
        return None


def _shown(epoch: dict[str, float]) -> Json:
    numbers: Json = {name: finite_or_none(value) for name, value in epoch.items()}
    return numbers | {"epoch": int(epoch["epoch"]), "seconds": round(epoch["seconds"], 6)}


def _row(claim: Claim, history: History) -> dict[str, Any]:
    epochs = history.columns()["epoch"]
    return {
        "job_id": claim.job,
        "attempt": claim.attempt,
        "first_epoch": int(epochs[0]),
        "last_epoch": int(epochs[-1]),
        "names": history.names,
        "content": history.content,
    }
