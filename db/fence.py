"""The fence: a worker writes only to a job that its attempt still holds, and to no other's.

Every write of a worker carries `state = 'running' AND worker = … AND attempt = …`: one that was presumed dead can never
overwrite its successor.

Where a move depends on the sweep's state too, the sweep's row is locked first and read, then the jobs are changed,
always in this order: so a cancel, a resume or a close comes before such a move or after it, never between. PostgreSQL
needs that: after a wait for a row it looks again at that row only, not at the others that the statement has read.
SQLite's writers come one after the other anyway.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, Select, Update, bindparam, null, select, update
from sqlalchemy.orm import Session

from db.models import Job, Sweep, literal
from db.rows import table
from jobs.spec import Claim
from jobs.states import JobState

Key = tuple[int, str, int]  # job, worker, attempt

JOBS, SWEEPS = table(Job), table(Sweep)

# What a job loses when it stops running.
RELEASED: dict[str, Any] = {"worker": null(), "slot": null(), "lease_expires_at": null()}

# Any change of a job that is true only while this attempt holds it; its values are those of `fenced`.
FENCED: Update = update(JOBS).where(
    JOBS.c.id == bindparam("by_job"),
    JOBS.c.state == literal(JobState.RUNNING),
    JOBS.c.worker == bindparam("by_worker"),
    JOBS.c.attempt == bindparam("by_attempt"),
)
_HELD_COLUMNS = ("id", "state", "worker", "attempt", "failures", "lost", "sweep_id", "rank_key")
HELD: Select[Any] = select(*(JOBS.c[name] for name in _HELD_COLUMNS))


def fenced(job: int, worker: str, attempt: int) -> dict[str, Any]:
    """Values of `FENCED` for who holds this job."""
    return {"by_job": job, "by_worker": worker, "by_attempt": attempt}


def key(claim: Claim) -> Key:
    return claim.job, claim.worker, claim.attempt


def change(session: Session, move: Update, values: list[dict[str, Any]]) -> None:
    """Make a guarded move of jobs that are locked, and were found as the guard wants them."""
    changed = session.connection().execute(move, values).rowcount
    assert changed == len(values), "their rows are locked, and were found held"


def lock(session: Session, claims: Sequence[Claim]) -> None:
    """Lock what a transaction writes that ends jobs in several ways: all sweeps, then all jobs, lowest id first.

    Each way alone locks so; one after the other they would not.
    """
    lock_sweeps(session, {claim.spec.sweep for claim in claims})
    lock_held(session, claims)


def lock_held(session: Session, claims: Sequence[Claim]) -> dict[Key, Row[Any]]:
    """Which of these claims hold. All their jobs stay locked, lowest id first, so that nobody waits in a circle."""
    rows = HELD.where(JOBS.c.id.in_([claim.job for claim in claims])).order_by(JOBS.c.id).with_for_update()
    locked = session.connection().execute(rows)
    return {(row.id, row.worker, row.attempt): row for row in locked if row.state == JobState.RUNNING}


def lock_sweeps(session: Session, sweeps: Collection[int]) -> dict[int, Row[Any]]:
    """These sweeps, which nobody changes until we commit."""
    columns = (SWEEPS.c.id, SWEEPS.c.state, SWEEPS.c.retries, SWEEPS.c.retry_on)
    wanted: Select[Any] = select(*columns).where(SWEEPS.c.id.in_(sweeps))
    locked = wanted.order_by(SWEEPS.c.id).with_for_update(read=True)
    return {row.id: row for row in session.connection().execute(locked)}
