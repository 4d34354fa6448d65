"""Rows that a worker cannot read: set aside with a reason, so that they keep it from no other job."""

import logging
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, null, update

from db.clock import now
from db.models import Attempt, Job, Sweep, literal
from db.rows import table
from db.steering import ENDED_AT
from jobs.errors import RowDamaged
from jobs.states import FailureReason, JobState, SweepState

logger = logging.getLogger(__name__)
JOBS, ATTEMPTS, SWEEPS = table(Job), table(Attempt), table(Sweep)


def fail(connection: Connection, taken: Collection[Row[Any]], worker: str, damage: RowDamaged) -> None:
    """running → failed, of jobs that this worker has just claimed: no attempt could end otherwise."""
    logger.error("%d jobs are set aside: %s", len(taken), damage)
    why = {"reason": FailureReason.ERROR, "error": str(damage), "failures": JOBS.c.failures + 1}
    end = {"worker": null(), "slot": null(), "lease_expires_at": null(), "finished_at": ENDED_AT}
    for row in taken:
        fence = (JOBS.c.id == row.id, JOBS.c.state == literal(JobState.RUNNING), JOBS.c.worker == worker)
        failed = update(JOBS).where(*fence, JOBS.c.attempt == row.attempt)
        connection.execute(failed.values(state=JobState.FAILED, **why, **end))
        attempt = update(ATTEMPTS).where(ATTEMPTS.c.job_id == row.id, ATTEMPTS.c.attempt == row.attempt)
        connection.execute(attempt.values(finished_at=now(), outcome=FailureReason.ERROR, error=str(damage)))


def pause(connection: Connection, sweep: int) -> None:
    """open → paused: none of its jobs can be read. Whoever puts the row in order resumes it."""
    is_open = (SWEEPS.c.id == sweep, SWEEPS.c.state == literal(SweepState.OPEN))
    if connection.execute(update(SWEEPS).where(*is_open).values(state=SweepState.PAUSED)).rowcount:
        logger.error("sweep %d is paused: its row is damaged", sweep)
