"""What a user does to a sweep: pause, cancel, resume, retry, priority, limit.

Each locks the sweep's row before it changes jobs, as all moves do that depend on the sweep's state.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, case, func, null, select, update
from sqlalchemy.orm import Session

from db.clock import now
from db.models import Job, Sweep, literal
from db.rows import execute_update, some_at_once, table
from jobs.errors import InputError, NotFound
from jobs.params import follows_epochs
from jobs.states import FailureReason, JobState, SweepState, standing

# Sweeps whose jobs of this state may be made ready again; a retry does not bring back what was cancelled or paused.
REOPENED = {
    JobState.CANCELLED: {SweepState.OPEN, SweepState.PAUSED, SweepState.CANCELLED, SweepState.FINISHED},
    JobState.FAILED: {SweepState.OPEN, SweepState.FINISHED},
}
STEERED = (SweepState.OPEN, SweepState.PAUSED, SweepState.CANCELLED, SweepState.FINISHED)

# When a job ended that has not succeeded. What has a result keeps the moment of it.
ENDED_AT = case((table(Job).c.rank_key.is_(None), now()), else_=table(Job).c.finished_at)

# A job that is tried anew, with all its retries. What has a result keeps the moment of it.
FRESH: dict[str, Any] = {
    "state": JobState.READY,
    "finished_at": case((Job.rank_key.is_(None), null()), else_=Job.finished_at),
    "failures": 0,
    "lost": 0,
    "reason": null(),
    "error": null(),
}


def cancel_sweep(session: Session, sweep: int) -> int:
    """Stop a sweep: what has not started is cancelled now, what runs is told at its worker's next heartbeat.

    Returns:
        The number of jobs that will not be finished, running ones included.
    """
    stoppable = Sweep.state.in_([SweepState.OPEN, SweepState.PAUSED])
    values = {"state": SweepState.CANCELLED, "finished_at": now(), "halting": False}
    if not execute_update(session, update(Sweep).where(Sweep.id == sweep, stoppable).values(values)):
        return 0
    running = select(func.count()).where(Job.sweep_id == sweep, Job.state == literal(JobState.RUNNING))
    return cancel_unstarted(session, sweep) + session.scalars(running).one()


def cancel_unstarted(session: Session, sweep: int) -> int:
    """waiting and ready → cancelled; their number. The sweep is cancelled, and its row locked."""
    unstarted = Job.state.in_([JobState.WAITING, JobState.READY])
    values = {"state": JobState.CANCELLED, "finished_at": ENDED_AT, "due_at": null()}
    return execute_update(session, update(Job).where(Job.sweep_id == sweep, unstarted).values(values))


def pause_sweep(session: Session, sweep: int, *, halt: bool = False) -> bool:
    """open → paused: nothing new is claimed, and running jobs finish.

    Args:
        halt: running jobs stop at their checkpoint and are given back, as their workers learn at the next heartbeat;
            also those of a sweep that is paused already.
    """
    states = (SweepState.OPEN, SweepState.PAUSED) if halt else (SweepState.OPEN,)
    guard = (Sweep.id == sweep, Sweep.state.in_(states))
    values = {"state": SweepState.PAUSED, "halting": halt}
    return bool(execute_update(session, update(Sweep).where(*guard).values(values)))


def resume_sweep(session: Session, sweep: int) -> int:
    """Carry a paused or cancelled sweep on: its cancelled jobs are ready again. Returns their number."""
    return _reopen(session, sweep, JobState.CANCELLED)


def retry_sweep(
    session: Session, sweep: int, *, reasons: Collection[FailureReason] = (), jobs: Collection[int] = ()
) -> int:
    """Try failed jobs of a sweep again, with all their retries. Returns their number.

    Args:
        reasons: only those that failed for one of these.
        jobs: only these.

    Raises:
        InputError: one of `jobs` is no failed job of the sweep; nothing is changed.
    """
    if not jobs:
        return _reopen(session, sweep, JobState.FAILED, *([Job.reason.in_(reasons)] if reasons else []))
    wanted, tried = sorted(set(jobs)), 0
    for some in some_at_once(wanted):
        _check_failed(session, sweep, some)
        tried += _reopen(session, sweep, JobState.FAILED, Job.id.in_(some))
    return tried


def _check_failed(session: Session, sweep: int, jobs: Sequence[int]) -> None:
    found = {row.id: row for row in session.execute(select(Job.id, Job.sweep_id, Job.state).where(Job.id.in_(jobs)))}
    for job in jobs:
        if job not in found or found[job].sweep_id != sweep:
            raise InputError(f"sweep {sweep} has no job {job}; `gridyard status {sweep}` lists its failed jobs")
        if found[job].state != JobState.FAILED:
            raise InputError(f"job {job} {standing(found[job].state)}; only a job that has failed can be tried again")


def _reopen(session: Session, sweep: int, state: JobState, *which: ColumnElement[bool]) -> int:
    sweep_state = session.scalar(select(Sweep.state).where(Sweep.id == sweep).with_for_update())
    if sweep_state not in REOPENED[state]:
        return 0
    chosen = (Job.sweep_id == sweep, Job.state == literal(state), *which)
    changed = execute_update(session, update(Job).where(*chosen).values(FRESH))
    if changed or sweep_state != SweepState.FINISHED:  # a finished sweep without such jobs stays so
        reopen(session, sweep)
    return changed


def reopen(session: Session, sweep: int) -> None:
    """→ open. The sweep's row is locked."""
    opened: dict[str, Any] = {"state": SweepState.OPEN, "finished_at": null(), "halting": False}
    execute_update(session, update(Sweep).where(Sweep.id == sweep).values(opened))


def prioritise_sweep(session: Session, sweep: int, priority: int) -> None:
    """Whose jobs are claimed first: from the next claim on. What runs is left alone.

    Raises:
        NotFound: there is no such sweep, or it is being submitted or deleted.
    """
    _steer(session, sweep, priority=priority)


def limit_sweep(session: Session, sweep: int, max_running: int | None) -> None:
    """How many of its jobs run at once; None: no limit. What runs beyond it finishes.

    Raises:
        NotFound: there is no such sweep, or it is being submitted or deleted.
    """
    _steer(session, sweep, max_running=max_running)


def _steer(session: Session, sweep: int, **values: int | None) -> None:
    guard = (Sweep.id == sweep, Sweep.state.in_(STEERED))
    if not execute_update(session, update(Sweep).where(*guard).values(**values)):
        raise NotFound(f"there is no sweep {sweep} that could be steered; `gridyard status` lists them")


def prolong(session: Session, jobs: Collection[int]) -> int:
    """succeeded → ready, to train the epochs that their sweep has got. Their results count until they have new ones."""
    chosen = (Job.id.in_(jobs), Job.state == literal(JobState.SUCCEEDED))
    return execute_update(session, update(Job).where(*chosen).values(FRESH))


def trains_on(params: Mapping[str, Any], trained: int, asked: int) -> bool:
    """Whether a job that has trained so many epochs of so many would do otherwise if it might train more.

    One that stopped early would stop there again, unless its learning rate follows the number of epochs.
    """
    return trained >= asked or follows_epochs(params)
