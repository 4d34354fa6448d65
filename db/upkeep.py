"""What the scheduler does to jobs and sweeps, again and again: rescue, make ready what is due, close what has ended."""

from typing import Any

from sqlalchemy import Row, exists, null, select, update
from sqlalchemy.orm import Session

from db import ending, fence, story
from db.clock import is_damaged, is_past, now
from db.fence import HELD
from db.models import Job, Sweep, literal
from db.rows import execute_update, some_at_once, table
from jobs.retry import MOST_LOST
from jobs.spec import Failure
from jobs.states import UNFINISHED, FailureReason, JobState, SweepState

JOBS = table(Job)


def rescue(session: Session, worker: str | None = None, *, most_lost: int = MOST_LOST) -> int:
    """Take jobs back from workers that went silent: running and lease expired → ready, waiting or failed.

    A lease that cannot be read has expired: a worker that lives would renew it.

    Args:
        worker: this worker is known to be dead; its leases need not run out.
        most_lost: a job with which so many workers were lost is set aside: failed, with its story.

    Returns:
        The number of jobs taken back.
    """
    gone = is_past(JOBS.c.lease_expires_at) if worker is None else JOBS.c.worker == worker
    lost = (JOBS.c.state == literal(JobState.RUNNING), gone)
    found = session.connection().execute(select(JOBS.c.id, JOBS.c.sweep_id).where(*lost)).all()
    sweeps, jobs = fence.lock_sweeps(session, {row.sweep_id for row in found}), sorted(row.id for row in found)
    rescued = 0
    for some in some_at_once(jobs):
        locked = HELD.where(JOBS.c.id.in_(some), *lost).order_by(JOBS.c.id).with_for_update()
        rows = session.connection().execute(locked).all()
        set_aside = story.of_jobs(session, [row.id for row in rows if row.lost + 1 >= most_lost])
        how = "went silent" if worker is None else "died"
        rescued += len(ending.move_on(session, sweeps, [(row, _lost(row, how, set_aside.get(row.id))) for row in rows]))
    return rescued


def _lost(job: Row[Any], how: str, told: str | None) -> Failure:
    """The loss of its worker; with its story, if the job is to be set aside."""
    error = f"worker {job.worker} {how}"
    if told is not None:
        lost = "1 worker was" if job.lost == 0 else f"{job.lost + 1} workers were"
        error = f"{lost} lost with it, so it is set aside; `gridyard retry` tries it again\n\n{told}"
    return Failure(job=job.id, reason=FailureReason.LOST, error=error, again=told is None)


def make_due_ready(session: Session) -> int:
    """waiting and due → ready; the number of jobs."""
    due = [Job.due_at <= now()]
    if session.get_bind().dialect.name == "sqlite":
        due.append(is_damaged(Job.due_at))  # a statement of its own: with OR, all that wait would be read
    ready = update(Job).where(Job.state == literal(JobState.WAITING)).values(state=JobState.READY, due_at=null())
    return sum(execute_update(session, ready.where(one)) for one in due)


def close_finished(session: Session) -> int:
    """open → finished for sweeps that are whole and whose jobs are all final; the number of sweeps."""
    is_open = Sweep.state == literal(SweepState.OPEN)
    locked = session.scalars(select(Sweep.id).where(is_open).with_for_update(skip_locked=True)).all()
    unfinished = exists().where(Job.sweep_id == Sweep.id, Job.state.in_(UNFINISHED))
    values = {"state": SweepState.FINISHED, "finished_at": now()}
    whole = (is_open, Sweep.extending.is_(None), ~unfinished)
    return execute_update(session, update(Sweep).where(Sweep.id.in_(locked), *whole).values(values))
