"""The only changer of a job's state. Each move is one guarded UPDATE that says whether it happened.

The claim itself lies in `db.claims`.

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

from sqlalchemy import Update, and_, bindparam, exists, func, insert, null, select, update
from sqlalchemy.orm import Session

from db import history
from db.claims import claim, count_ready, has_ready, next_sweep
from db.clock import now
from db.models import Attempt, Job, Model, Sweep, literal
from db.rows import execute_update, finite_or_none, rank_key, table
from jobs.retry import delay_seconds
from jobs.spec import Answer, Claim, EpochReport, Failure, TrainResult
from jobs.states import RETRIED, UNFINISHED, FailureReason, JobState, SweepState

__all__ = [
    "cancel_sweep",
    "claim",
    "close_finished",
    "count_ready",
    "fail",
    "finish",
    "has_ready",
    "make_due_ready",
    "next_sweep",
    "pause_sweep",
    "record_epochs",
    "release",
    "renew",
    "rescue",
    "resume_sweep",
    "retry_sweep",
]

JOBS, ATTEMPTS, MODELS = table(Job), table(Attempt), table(Model)

# What a job loses when it stops running.
RELEASED: dict[str, Any] = {"worker": null(), "lease_expires_at": null()}

# The fence: true only while this attempt holds the job.
_FENCE = (
    JOBS.c.id == bindparam("by_job"),
    JOBS.c.state == literal(JobState.RUNNING),
    JOBS.c.worker == bindparam("by_worker"),
    JOBS.c.attempt == bindparam("by_attempt"),
)
_REPORT = update(JOBS).where(*_FENCE)
_FINISH = _REPORT.values(
    RELEASED | {"state": JobState.SUCCEEDED, "finished_at": now(), "reason": null(), "error": null()}
)
_FINISH_ATTEMPT = (
    update(ATTEMPTS)
    .where(ATTEMPTS.c.job_id == bindparam("by_job"), ATTEMPTS.c.attempt == bindparam("by_attempt"))
    .values(finished_at=now(), outcome=JobState.SUCCEEDED)
)

# Sweeps whose jobs of this state may be made ready again; a retry does not bring back what was cancelled or paused.
REOPENED = {
    JobState.CANCELLED: {SweepState.OPEN, SweepState.PAUSED, SweepState.CANCELLED, SweepState.FINISHED},
    JobState.FAILED: {SweepState.OPEN, SweepState.FINISHED},
}

Held = tuple[int, int]  # (job, attempt) that a worker holds


def renew(session: Session, worker: str, held: Collection[Held], lease_seconds: float) -> dict[Held, Answer]:
    """Renew the leases of what a worker holds, and say for each how to go on.

    Only what the worker says it holds is renewed: a claim whose answer never reached it must run out.
    """
    if not held:
        return {}
    ours = (JOBS.c.worker == worker, JOBS.c.state == literal(JobState.RUNNING), JOBS.c.id.in_({job for job, _ in held}))
    # Locked as `finish` locks them, lowest id first: a heartbeat and an end of one pack do not wait in a circle.
    locked = select(JOBS.c.id).where(*ours).order_by(JOBS.c.id).with_for_update().cte("locked")
    renewed = (
        session.connection()
        .execute(
            update(JOBS)
            .where(JOBS.c.id == locked.c.id)
            .values(lease_expires_at=now(lease_seconds))
            .returning(JOBS.c.id, JOBS.c.attempt, JOBS.c.sweep_id)
        )
        .all()
    )
    sweeps = {row.sweep_id for row in renewed}
    wanted = select(Sweep.id).where(Sweep.id.in_(sweeps), Sweep.state == literal(SweepState.CANCELLED))
    cancelled = set(session.scalars(wanted))
    answers = dict.fromkeys(held, Answer.CLAIM_LOST)
    for row in renewed:
        if (row.id, row.attempt) in answers:
            answers[row.id, row.attempt] = Answer.CANCELLED if row.sweep_id in cancelled else Answer.GO_ON
    return answers


def record_epochs(session: Session, reports: Sequence[tuple[Claim, Sequence[EpochReport]]]) -> set[int]:
    """Store epochs of running jobs. Returns the jobs whose claim holds; of the others nothing is stored."""
    held = _lock_held(session, [claim for claim, _ in reports])
    ours = [(claim, epochs) for claim, epochs in reports if _key(claim) in held]
    if ours:
        _change_held(session, _REPORT, [_fenced(claim) | {"epoch": epochs[-1].epoch} for claim, epochs in ours])
        history.add(session, ours)
    return {claim.job for claim, _ in ours}


def finish(session: Session, ended: Sequence[tuple[Claim, TrainResult]]) -> set[int]:
    """running → succeeded, each with score, history and best model, all or nothing.

    Returns:
        The jobs whose claim held; the others are as they were.
    """
    held = _lock_held(session, [claim for claim, _ in ended])
    ours = [(claim, result) for claim, result in ended if _key(claim) in held]
    if ours:
        _change_held(session, _FINISH, [_fenced(claim) | _outcome(claim, result) for claim, result in ours])
        session.connection().execute(_FINISH_ATTEMPT, [_tried(claim, result) for claim, result in ours])
        history.replace(session, [(claim, result.history) for claim, result in ours])
        _keep_models(session, ours)
    return {claim.job for claim, _ in ours}


def _lock_held(session: Session, claims: Sequence[Claim]) -> set[tuple[int, str, int]]:
    """Which of these claims hold. Their rows stay locked, lowest id first, so that nobody waits in a circle."""
    rows = select(JOBS.c.id, JOBS.c.worker, JOBS.c.attempt).where(JOBS.c.id.in_([claim.job for claim in claims]))
    locked = rows.where(JOBS.c.state == literal(JobState.RUNNING)).order_by(JOBS.c.id).with_for_update()
    return {(row.id, row.worker, row.attempt) for row in session.connection().execute(locked)}


def _key(claim: Claim) -> tuple[int, str, int]:
    return claim.job, claim.worker, claim.attempt


def _fenced(claim: Claim) -> dict[str, Any]:
    """Values of `_FENCE`."""
    return {"by_job": claim.job, "by_worker": claim.worker, "by_attempt": claim.attempt}


def _change_held(session: Session, move: Update, values: list[dict[str, Any]]) -> None:
    changed = session.connection().execute(move, values).rowcount
    assert changed == len(values), "their rows are locked, and were found held"


def _outcome(claim: Claim, result: TrainResult) -> dict[str, Any]:
    return {
        "epoch": result.epochs,
        "score": finite_or_none(result.score),
        "rank_key": rank_key(result.score, claim.spec.objective.mode),
        "metrics": {name: finite_or_none(value) for name, value in result.metrics.items()},
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "seconds": result.seconds,
    }


def _tried(claim: Claim, result: TrainResult) -> dict[str, Any]:
    facts = {"resumed_from": result.resumed_from, "environment": result.environment}
    return {"by_job": claim.job, "by_attempt": claim.attempt, **facts}


def _keep_models(session: Session, ended: Sequence[tuple[Claim, TrainResult]]) -> None:
    kept = [
        {
            "job_id": claim.job,
            "attempt": claim.attempt,
            "sha256": result.best.sha256,
            "size": result.best.size,
            "content": result.best.content,
            "path": result.best.path,
            "samples": result.samples or None,
        }
        for claim, result in ended
        if result.best is not None
    ]
    if kept:
        session.connection().execute(insert(MODELS), kept)


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
    for job, attempt, silent, failures in sorted(lost):  # lowest id first, as all lock them
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
