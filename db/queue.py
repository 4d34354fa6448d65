"""The only changer of a job's state. Each move is one guarded UPDATE that says whether it happened.

Every write of a worker is fenced by `state = 'running' AND worker = … AND attempt = …`: one that was presumed dead can
never overwrite its successor. All times are the database's own.

Where a move depends on the sweep's state too, the sweep's row is locked first and read, then the jobs are changed,
always in this order: so a cancel, a resume or a close comes before such a move or after it, never between. PostgreSQL
needs that: after a wait for a row it looks again at that row only, not at the others that the statement has read.
SQLite's writers come one after the other anyway.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, Select, and_, exists, func, null, select, update
from sqlalchemy.orm import Session

from db import history
from db.clock import now
from db.models import Attempt, Job, Model, Sweep, literal
from db.rows import execute_update, finite_or_none, job_spec, rank_key, sweep_spec
from jobs.retry import delay_seconds
from jobs.spec import Answer, Claim, EpochReport, Failure, TrainResult
from jobs.states import RETRIED, UNFINISHED, FailureReason, JobState, SweepState

# What a job loses when it stops running.
RELEASED: dict[str, Any] = {"worker": null(), "lease_expires_at": null()}

# Sweeps whose jobs of this state may be made ready again; a retry does not bring back what was cancelled or paused.
REOPENED = {
    JobState.CANCELLED: {SweepState.OPEN, SweepState.PAUSED, SweepState.CANCELLED, SweepState.FINISHED},
    JobState.FAILED: {SweepState.OPEN, SweepState.FINISHED},
}

Held = tuple[int, int]  # (job, attempt) that a worker holds


def has_ready(session: Session, queue: str) -> bool:
    """Whether a worker of this queue would find a job. Reads only: a look takes no write lock."""
    return session.scalar(_open_sweeps_with_ready_jobs(queue).limit(1)) is not None


def count_ready(session: Session, queue: str, at_most: int) -> int:
    """How many jobs of open sweeps are ready, counted no further than `at_most`."""
    ready = select(Job.id).join(Sweep, Job.sweep_id == Sweep.id).where(Sweep.queue == queue)
    some = ready.where(Sweep.state == literal(SweepState.OPEN), Job.state == literal(JobState.READY)).limit(at_most)
    return session.scalars(select(func.count()).select_from(some.subquery())).one()


def claim(
    session: Session, queue: str, worker: str, lease_seconds: float, limit: int = 1, first: int | None = None
) -> list[Claim]:
    """Take the best ready jobs, at most `limit`, all of one sweep: highest priority first, then oldest first.

    ready → running, attempt + 1, with a lease.

    Args:
        first: the sweep that comes before all others.
    """
    sweeps = session.scalars(_open_sweeps_with_ready_jobs(queue)).all()
    for sweep in sorted(sweeps, key=lambda sweep: sweep != first):
        rows = _take_ready(session, sweep, worker, lease_seconds, limit)
        if rows:  # none: others took them between our look and our claim
            return _claims(session, sweep, worker, rows)
    return []


def _open_sweeps_with_ready_jobs(queue: str) -> Select[int]:
    has_ready_job = exists().where(Job.sweep_id == Sweep.id, Job.state == literal(JobState.READY))
    return (
        select(Sweep.id)
        .where(Sweep.queue == queue, Sweep.state == literal(SweepState.OPEN), has_ready_job)
        .order_by(Sweep.priority.desc(), Sweep.id)
    )


def _take_ready(session: Session, sweep: int, worker: str, lease_seconds: float, limit: int) -> list[Row[Any]]:
    # A common table expression keeps the planner from evaluating LIMIT more than once; SKIP LOCKED keeps claimers from
    # queueing behind each other. SQLite has neither need: its writers come one after the other.
    chosen = (
        select(Job.id)
        .where(Job.sweep_id == sweep, Job.state == literal(JobState.READY))
        .order_by(Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    taken = session.execute(
        update(Job)
        .where(Job.id == chosen.c.id, Job.state == literal(JobState.READY))
        .values(
            state=JobState.RUNNING,
            worker=worker,
            attempt=Job.attempt + 1,
            lease_expires_at=now(lease_seconds),
        )
        .returning(Job.id, Job.attempt, Job.params, Job.seed)
        .execution_options(synchronize_session=False)
    )
    return sorted(taken, key=lambda row: row.id)


def _claims(session: Session, sweep_id: int, worker: str, rows: list[Row[Any]]) -> list[Claim]:
    sweep = session.get_one(Sweep, sweep_id)
    spec = sweep_spec(sweep)
    claims = []
    for row in rows:
        session.add(Attempt(job_id=row.id, attempt=row.attempt, worker=worker, started_at=now()))
        trained = job_spec(sweep, spec, row.id, row.params, row.seed)
        claims.append(Claim(spec=trained, worker=worker, attempt=row.attempt, time_limit=spec.time_limit))
    session.flush()
    return claims


def renew(session: Session, worker: str, held: Collection[Held], lease_seconds: float) -> dict[Held, Answer]:
    """Renew the leases of what a worker holds, and say for each how to go on.

    Only what the worker says it holds is renewed: a claim whose answer never reached it must run out.
    """
    renewed = session.execute(
        update(Job)
        .where(Job.id.in_({job for job, _ in held}), Job.worker == worker, Job.state == literal(JobState.RUNNING))
        .values(lease_expires_at=now(lease_seconds))
        .returning(Job.id, Job.attempt, Job.sweep_id)
        .execution_options(synchronize_session=False)
    ).all()
    sweeps = {row.sweep_id for row in renewed}
    wanted = select(Sweep.id).where(Sweep.id.in_(sweeps), Sweep.state == literal(SweepState.CANCELLED))
    cancelled = set(session.scalars(wanted))
    answers = dict.fromkeys(held, Answer.CLAIM_LOST)
    for row in renewed:
        if (row.id, row.attempt) in answers:
            answers[row.id, row.attempt] = Answer.CANCELLED if row.sweep_id in cancelled else Answer.GO_ON
    return answers


def record_epochs(session: Session, claim: Claim, reports: Sequence[EpochReport]) -> bool:
    """Store epochs of a running job; False when the claim is lost."""
    if not execute_update(session, update(Job).where(_held(claim)).values(epoch=reports[-1].epoch)):
        return False
    history.add(session, claim.job, claim.attempt, reports)
    return True


def finish(session: Session, claim: Claim, result: TrainResult) -> bool:
    """running → succeeded, with score, history and best model, all or nothing; False when the claim is lost."""
    values = {
        "state": JobState.SUCCEEDED,
        "finished_at": now(),
        "epoch": result.epochs,
        "score": finite_or_none(result.score),
        "rank_key": rank_key(result.score, claim.spec.objective.mode),
        "metrics": {name: finite_or_none(value) for name, value in result.metrics.items()},
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "seconds": result.seconds,
        "reason": null(),
        "error": null(),
    }
    if not execute_update(session, update(Job).where(_held(claim)).values(RELEASED | values)):
        return False
    _end_attempt(session, claim, JobState.SUCCEEDED, resumed_from=result.resumed_from, environment=result.environment)
    history.replace(session, claim.job, claim.attempt, result.history)
    if result.best is not None:
        best = result.best
        session.merge(
            Model(
                job_id=claim.job,
                attempt=claim.attempt,
                sha256=best.sha256,
                size=best.size,
                content=best.content,
                path=best.path,
                samples=result.samples or None,
            )
        )
    return True


def fail(session: Session, claim: Claim, failure: Failure) -> JobState | None:
    """running → failed, or → ready or waiting when a retry is left; the new state, or None when the claim is lost."""
    sweep = _locked_sweep(session, claim.job)
    failures = session.scalars(select(Job.failures).where(_held(claim))).one_or_none()
    if failures is None:
        return None
    error = failure.error.replace("\0", "")  # PostgreSQL stores no NUL
    state, values = _after_failure(replace(failure, error=error), failures, sweep.retries, sweep.state)
    if not execute_update(session, update(Job).where(_held(claim)).values(values)):
        return None
    _end_attempt(session, claim, failure.reason, error=error)
    return state


def _after_failure(failure: Failure, failures: int, retries: int, sweep_state: str) -> tuple[JobState, dict[str, Any]]:
    """Where a job goes after its attempt failed: tried again at once, later, or not."""
    failures += 1
    values = RELEASED | {"failures": failures, "reason": failure.reason, "error": failure.error}
    if sweep_state == SweepState.CANCELLED:
        return JobState.CANCELLED, values | {"state": JobState.CANCELLED, "finished_at": now()}
    if failure.reason not in RETRIED or not failure.again or failures > retries:
        return JobState.FAILED, values | {"state": JobState.FAILED, "finished_at": now()}
    delay = delay_seconds(failures)
    if delay == 0:
        return JobState.READY, values | {"state": JobState.READY}
    return JobState.WAITING, values | {"state": JobState.WAITING, "due_at": now(delay)}


def release(session: Session, claim: Claim) -> JobState | None:
    """Let go of a job whose trainer has stopped because it was told to; it has not failed.

    running → cancelled when its sweep is, else → ready, whatever was true when the trainer was told.

    Returns:
        The new state, or None when the claim is lost.
    """
    cancelled = _locked_sweep(session, claim.job).state == SweepState.CANCELLED
    state = JobState.CANCELLED if cancelled else JobState.READY
    values = RELEASED | {"state": state, "finished_at": now() if cancelled else null()}
    if not execute_update(session, update(Job).where(_held(claim)).values(values)):
        return None
    _end_attempt(session, claim, JobState.CANCELLED if cancelled else "given back")
    return state


def _locked_sweep(session: Session, job: int) -> Sweep:
    """The job's sweep, which nobody changes until we commit."""
    sweep = select(Job.sweep_id).where(Job.id == job).scalar_subquery()
    query = select(Sweep).where(Sweep.id == sweep).with_for_update(read=True)
    return session.scalars(query, execution_options={"populate_existing": True}).one()


def rescue(session: Session, worker: str | None = None) -> int:
    """Take jobs back from workers that went silent: running and lease expired → ready, waiting or failed.

    Args:
        worker: this worker is known to be dead; its leases need not run out.

    Returns:
        The number of jobs taken back.
    """
    gone = Job.lease_expires_at < now() if worker is None else Job.worker == worker
    lost = session.execute(
        select(Job.id, Job.attempt, Job.worker, Job.failures).where(Job.state == literal(JobState.RUNNING), gone)
    ).all()
    rescued = 0
    for job, attempt, silent, failures in lost:
        sweep, error = _locked_sweep(session, job), f"worker {silent} went silent"
        failure = Failure(job=job, reason=FailureReason.LOST, error=error)
        _, values = _after_failure(failure, failures, sweep.retries, sweep.state)
        fence = (Job.id == job, Job.state == literal(JobState.RUNNING), Job.attempt == attempt, gone)
        if execute_update(session, update(Job).where(*fence).values(values)):
            execute_update(session, _attempt_ends(job, attempt, FailureReason.LOST, error=error))
            rescued += 1
    return rescued


def make_due_ready(session: Session) -> int:
    """waiting and due → ready; the number of jobs."""
    due = (Job.state == literal(JobState.WAITING), Job.due_at <= now())
    return execute_update(session, update(Job).where(*due).values(state=JobState.READY, due_at=null()))


def cancel_sweep(session: Session, sweep: int) -> int:
    """Stop a sweep: what has not started is cancelled now, what runs is told at its worker's next heartbeat.

    Returns:
        The number of jobs that will not be finished, running ones included.
    """
    stoppable = Sweep.state.in_([SweepState.OPEN, SweepState.PAUSED])
    values = {"state": SweepState.CANCELLED, "finished_at": now()}
    if not execute_update(session, update(Sweep).where(Sweep.id == sweep, stoppable).values(values)):
        return 0
    unstarted = Job.state.in_([JobState.WAITING, JobState.READY])
    job_values = {"state": JobState.CANCELLED, "finished_at": now(), "due_at": null()}
    cancelled = execute_update(session, update(Job).where(Job.sweep_id == sweep, unstarted).values(job_values))
    running = select(func.count()).where(Job.sweep_id == sweep, Job.state == literal(JobState.RUNNING))
    return cancelled + session.scalars(running).one()


def pause_sweep(session: Session, sweep: int) -> bool:
    """open → paused: running jobs finish, nothing new is claimed."""
    guard = (Sweep.id == sweep, Sweep.state == literal(SweepState.OPEN))
    return bool(execute_update(session, update(Sweep).where(*guard).values(state=SweepState.PAUSED)))


def resume_sweep(session: Session, sweep: int) -> int:
    """Carry a paused or cancelled sweep on: its cancelled jobs are ready again. Returns their number."""
    return _reopen(session, sweep, JobState.CANCELLED)


def retry_sweep(session: Session, sweep: int) -> int:
    """Try the failed jobs of a sweep again, with all their retries. Returns their number."""
    return _reopen(session, sweep, JobState.FAILED)


def _reopen(session: Session, sweep: int, state: JobState) -> int:
    sweep_state = session.scalar(select(Sweep.state).where(Sweep.id == sweep).with_for_update())
    if sweep_state not in REOPENED[state]:
        return 0
    fresh = {"state": JobState.READY, "finished_at": null(), "failures": 0, "reason": null(), "error": null()}
    changed = execute_update(session, update(Job).where(Job.sweep_id == sweep, Job.state == state).values(fresh))
    if changed or sweep_state != SweepState.FINISHED:  # a finished sweep without such jobs stays so
        opened: dict[str, Any] = {"state": SweepState.OPEN, "finished_at": null()}
        execute_update(session, update(Sweep).where(Sweep.id == sweep).values(opened))
    return changed


def close_finished(session: Session) -> int:
    """open → finished for sweeps whose jobs are all final; the number of sweeps."""
    is_open = Sweep.state == literal(SweepState.OPEN)
    locked = session.scalars(select(Sweep.id).where(is_open).with_for_update(skip_locked=True)).all()
    unfinished = exists().where(Job.sweep_id == Sweep.id, Job.state.in_(UNFINISHED))
    values = {"state": SweepState.FINISHED, "finished_at": now()}
    return execute_update(session, update(Sweep).where(Sweep.id.in_(locked), is_open, ~unfinished).values(values))


def _held(claim: Claim) -> Any:
    """The fence: true only while this attempt holds the job."""
    return and_(
        Job.id == claim.job,
        Job.state == literal(JobState.RUNNING),
        Job.worker == claim.worker,
        Job.attempt == claim.attempt,
    )


def _end_attempt(session: Session, claim: Claim, outcome: str, **values: Any) -> None:
    execute_update(session, _attempt_ends(claim.job, claim.attempt, outcome, **values))


def _attempt_ends(job: int, attempt: int, outcome: str, **values: Any) -> Any:
    this = (Attempt.job_id == job, Attempt.attempt == attempt)
    return update(Attempt).where(*this).values(finished_at=now(), outcome=outcome, **values)
