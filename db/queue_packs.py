"""Adapter, to be deleted when db/queue.py claims packs: today's queue behind the interface of the new one."""

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db import queue
from db.clock import now
from db.models import Job, Sweep, literal
from db.queue import fail, release, renew
from jobs.spec import Claim, EpochReport, TrainResult
from jobs.states import JobState, SweepState

__all__ = ["claim", "fail", "finish", "next_sweep", "record_epochs", "release", "renew"]


def next_sweep(session: Session, name: str, first: int | None = None) -> int | None:
    """The sweep whose job a worker of this queue would claim now. Reads only: a look takes no write lock."""
    sweeps = session.scalars(queue._open_sweeps_with_ready_jobs(name)).all()
    return min(sweeps, key=lambda sweep: sweep != first, default=None)


def claim(
    session: Session,
    name: str,
    worker: str,
    lease_seconds: float,
    *,
    limit: int = 1,
    first: int | None = None,
    like: tuple[int, int] | None = None,
) -> list[Claim]:
    if like is None:
        claims = queue.claim(session, name, worker, lease_seconds, limit=1, first=first)
    else:
        claims = _claim_like(session, worker, lease_seconds, limit, like[0])
    return [_told(session, one) for one in claims]


def _claim_like(session: Session, worker: str, lease_seconds: float, limit: int, sweep: int) -> list[Claim]:
    if session.get_one(Sweep, sweep, populate_existing=True).state != SweepState.OPEN:
        return []
    ready = (Job.sweep_id == sweep, Job.state == literal(JobState.READY), Job.failures == 0)
    ids = session.scalars(select(Job.id).where(*ready).order_by(Job.id).limit(limit).with_for_update(skip_locked=True))
    taken = session.execute(
        update(Job)
        .where(Job.id.in_(ids.all()), *ready)
        .values(state=JobState.RUNNING, worker=worker, attempt=Job.attempt + 1, lease_expires_at=now(lease_seconds))
        .returning(Job.id, Job.attempt, Job.params, Job.seed)
        .execution_options(synchronize_session=False)
    )
    return queue._claims(session, sweep, worker, sorted(taken, key=lambda row: row.id))


def _told(session: Session, claim: Claim) -> Claim:
    from dataclasses import replace

    failures = session.scalars(select(Job.failures).where(Job.id == claim.job)).one()
    sweep = claim.spec.sweep
    ready = (Job.sweep_id == sweep, Job.state == literal(JobState.READY), Job.failures == 0)
    more = session.scalars(select(func.count()).select_from(Job).where(*ready)).one()
    most = session.get_one(Sweep, sweep).spec.get("pack", 0)
    return replace(claim, most=1 if failures else most, more=0 if failures else more)


def finish(session: Session, ended: Sequence[tuple[Claim, TrainResult]]) -> set[int]:
    return {claim.job for claim, result in ended if queue.finish(session, claim, result)}


def record_epochs(session: Session, reports: Sequence[tuple[Claim, Sequence[EpochReport]]]) -> set[int]:
    return {claim.job for claim, epochs in reports if queue.record_epochs(session, claim, epochs)}
