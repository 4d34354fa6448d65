"""The only changer of a job's state. Each move is one guarded UPDATE that says whether it happened.

The claim itself lies in `db.claims`.

Every write of a worker is fenced by `state = 'running' AND worker = … AND attempt = …`: one that was presumed dead can
never overwrite its successor. All times are the database's own.

Where a move depends on the sweep's state too, the sweep's row is locked first and read, then the jobs are changed,
always in this order: so a cancel, a resume or a close comes before such a move or after it, never between. PostgreSQL
needs that: after a wait for a row it looks again at that row only, not at the others that the statement has read.
SQLite's writers come one after the other anyway.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, Update, bindparam, exists, func, insert, null, select, update
from sqlalchemy.orm import Session

from db import history, retention
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
    "let_go",
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

JOBS, ATTEMPTS, MODELS, SWEEPS = table(Job), table(Attempt), table(Model), table(Sweep)

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
_ATTEMPT = (ATTEMPTS.c.job_id == bindparam("by_job"), ATTEMPTS.c.attempt == bindparam("by_attempt"))
_FINISH_ATTEMPT = update(ATTEMPTS).where(*_ATTEMPT).values(finished_at=now(), outcome=JobState.SUCCEEDED)
_END_ATTEMPT = (
    update(ATTEMPTS).where(*_ATTEMPT).values(finished_at=now(), outcome=bindparam("came_to"), error=bindparam("told"))
)
_HELD: Select[Any] = select(JOBS.c.id, JOBS.c.worker, JOBS.c.attempt, JOBS.c.failures, JOBS.c.sweep_id)

# How a job is let go: its new state, and whether it failed → the move.
_FAILED: dict[str, Any] = {"failures": bindparam("failed"), "reason": bindparam("why"), "error": bindparam("told")}
_LET_GO = {
    (state, failed): _REPORT.values(RELEASED | times | {"state": state} | (_FAILED if failed else {}))
    for failed in (True, False)
    for state, times in (
        (JobState.READY, {}),
        (JobState.WAITING, {"due_at": now(bindparam("delay"))}),
        (JobState.FAILED, {"finished_at": now()}),
        (JobState.CANCELLED, {"finished_at": now()}),
    )
}

# Sweeps whose jobs of this state may be made ready again; a retry does not bring back what was cancelled or paused.
REOPENED = {
    JobState.CANCELLED: {SweepState.OPEN, SweepState.PAUSED, SweepState.CANCELLED, SweepState.FINISHED},
    JobState.FAILED: {SweepState.OPEN, SweepState.FINISHED},
}

Held = tuple[int, int]  # (job, attempt) that a worker holds

RESCUED_AT_ONCE = 1_000  # ids that a statement names


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


def _lock_held(session: Session, claims: Sequence[Claim]) -> dict[tuple[int, str, int], Row[Any]]:
    """Which of these claims hold. Their rows stay locked, lowest id first, so that nobody waits in a circle."""
    rows = _HELD.where(JOBS.c.id.in_([claim.job for claim in claims]))
    locked = rows.where(JOBS.c.state == literal(JobState.RUNNING)).order_by(JOBS.c.id).with_for_update()
    return {(row.id, row.worker, row.attempt): row for row in session.connection().execute(locked)}


def lock(session: Session, claims: Sequence[Claim]) -> None:
    """Lock what a transaction writes that ends jobs in several ways: all sweeps, then all jobs, lowest id first.

    Each way alone locks so; one after the other they would not.
    """
    _lock_sweeps(session, {claim.spec.sweep for claim in claims})
    _lock_held(session, claims)


def _key(claim: Claim) -> tuple[int, str, int]:
    return claim.job, claim.worker, claim.attempt


def _fenced(claim: Claim) -> dict[str, Any]:
    """Values of `_FENCE`."""
    return {"by_job": claim.job, "by_worker": claim.worker, "by_attempt": claim.attempt}


def _fence(job: Row[Any]) -> dict[str, Any]:
    """Values of `_FENCE` for whoever holds this job."""
    return {"by_job": job.id, "by_worker": job.worker, "by_attempt": job.attempt}


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
        retention.note(session, [claim for claim, result in ended if result.best is not None])


def fail(session: Session, claim: Claim, failure: Failure) -> JobState | None:
    """`let_go` of one job that failed; its new state, or None when the claim is lost."""
    return let_go(session, [(claim, failure)]).get(claim.job)


def release(session: Session, claim: Claim) -> JobState | None:
    """`let_go` of one job that has not failed; its new state, or None when the claim is lost."""
    return let_go(session, [(claim, None)]).get(claim.job)


def let_go(session: Session, ended: Sequence[tuple[Claim, Failure | None]]) -> dict[int, JobState]:
    """Let go of jobs that have not succeeded, whatever was true when their trainer was told to stop.

    A job that failed: running → failed, or → ready or waiting when a retry is left. One without a failure, whose
    trainer has stopped because it was told to: running → ready. When the sweep is cancelled: running → cancelled.

    Returns:
        job → its new state, of the jobs whose claim held; the others are as they were.
    """
    sweeps = _lock_sweeps(session, {claim.spec.sweep for claim, _ in ended})
    held = _lock_held(session, [claim for claim, _ in ended])
    ours = [(held[_key(claim)], failure) for claim, failure in ended if _key(claim) in held]
    return _move_on(session, sweeps, ours)


def rescue(session: Session, worker: str | None = None) -> int:
    """Take jobs back from workers that went silent: running and lease expired → ready, waiting or failed.

    Args:
        worker: this worker is known to be dead; its leases need not run out.

    Returns:
        The number of jobs taken back.
    """
    gone = JOBS.c.lease_expires_at < now() if worker is None else JOBS.c.worker == worker
    lost = (JOBS.c.state == literal(JobState.RUNNING), gone)
    found = session.connection().execute(select(JOBS.c.id, JOBS.c.sweep_id).where(*lost)).all()
    sweeps, jobs = _lock_sweeps(session, {row.sweep_id for row in found}), sorted(row.id for row in found)
    rescued = 0
    for start in range(0, len(jobs), RESCUED_AT_ONCE):
        some = _HELD.where(JOBS.c.id.in_(jobs[start : start + RESCUED_AT_ONCE]), *lost)
        rows = session.connection().execute(some.order_by(JOBS.c.id).with_for_update()).all()
        rescued += len(_move_on(session, sweeps, [(row, _went_silent(row)) for row in rows]))
    return rescued


def _went_silent(job: Row[Any]) -> Failure:
    return Failure(job=job.id, reason=FailureReason.LOST, error=f"worker {job.worker} went silent")


def _lock_sweeps(session: Session, sweeps: Collection[int]) -> dict[int, Row[Any]]:
    """These sweeps, which nobody changes until we commit."""
    wanted: Select[Any] = select(SWEEPS.c.id, SWEEPS.c.state, SWEEPS.c.retries).where(SWEEPS.c.id.in_(sweeps))
    locked = wanted.order_by(SWEEPS.c.id).with_for_update(read=True)
    return {row.id: row for row in session.connection().execute(locked)}


def _move_on(
    session: Session, sweeps: Mapping[int, Row[Any]], ended: Sequence[tuple[Row[Any], Failure | None]]
) -> dict[int, JobState]:
    """Move locked jobs on, each the way that its sweep and its failure say."""
    became: dict[int, JobState] = {}
    moves: dict[tuple[JobState, bool], list[dict[str, Any]]] = {}
    attempts = []
    for job, failure in ended:
        state, values = _after(job, sweeps[job.sweep_id], failure)
        became[job.id] = state
        moves.setdefault((state, failure is not None), []).append(_fence(job) | values)
        attempts.append({"by_job": job.id, "by_attempt": job.attempt, **_came_to(state, failure)})
    for move, jobs in moves.items():
        _change_held(session, _LET_GO[move], jobs)
    if attempts:
        session.connection().execute(_END_ATTEMPT, attempts)
    return became


def _after(job: Row[Any], sweep: Row[Any], failure: Failure | None) -> tuple[JobState, dict[str, Any]]:
    """Where a job goes after its attempt, with the values of that move."""
    cancelled = sweep.state == SweepState.CANCELLED
    if failure is None:
        return JobState.CANCELLED if cancelled else JobState.READY, {}
    failures = job.failures + 1
    values = {"failed": failures, "why": failure.reason, "told": _storable(failure.error)}
    if cancelled:
        return JobState.CANCELLED, values
    if failure.reason not in RETRIED or not failure.again or failures > sweep.retries:
        return JobState.FAILED, values
    delay = delay_seconds(failures)
    return (JobState.WAITING, values | {"delay": delay}) if delay else (JobState.READY, values)


def _came_to(state: JobState, failure: Failure | None) -> dict[str, Any]:
    if failure is None:
        return {"came_to": JobState.CANCELLED if state == JobState.CANCELLED else "given back", "told": None}
    return {"came_to": failure.reason, "told": _storable(failure.error)}


def _storable(error: str) -> str:
    return error.replace("\0", "")  # PostgreSQL stores no NUL


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
