"""Rows that a worker cannot read: set aside with a reason, so that they keep it from no other job."""

import logging
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, bindparam, update

from db.ending import END_ATTEMPT
from db.fence import FENCED, RELEASED, fenced
from db.models import Job, Sweep, literal
from db.rows import table
from db.steering import ENDED_AT
from jobs.errors import RowDamaged
from jobs.states import FailureReason, JobState, SweepState

logger = logging.getLogger(__name__)
JOBS, SWEEPS = table(Job), table(Sweep)
_WHY = {"reason": FailureReason.ERROR, "error": bindparam("told"), "failures": JOBS.c.failures + 1}
_FAIL = FENCED.values(RELEASED | _WHY | {"state": JobState.FAILED, "finished_at": ENDED_AT})


def fail(connection: Connection, taken: Collection[Row[Any]], worker: str, damage: RowDamaged) -> None:
    """running → failed, of jobs that this worker has just claimed: no attempt could end otherwise."""
    logger.error("%d jobs are set aside: %s", len(taken), damage)
    told = str(damage)
    connection.execute(_FAIL, [fenced(row.id, worker, row.attempt) | {"told": told} for row in taken])
    ended = {"came_to": FailureReason.ERROR, "told": told}
    connection.execute(END_ATTEMPT, [{"by_job": row.id, "by_attempt": row.attempt, **ended} for row in taken])


def pause(connection: Connection, sweep: int) -> None:
    """open → paused: none of its jobs can be read. Whoever puts the row in order resumes it."""
    is_open = (SWEEPS.c.id == sweep, SWEEPS.c.state == literal(SweepState.OPEN))
    if connection.execute(update(SWEEPS).where(*is_open).values(state=SweepState.PAUSED)).rowcount:
        logger.error("sweep %d is paused: its row is damaged", sweep)
