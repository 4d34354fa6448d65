"""How attempts end: with a result, a failure, or given back; and whether a job that has failed is tried again."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Integer, Row, Select, and_, bindparam, case, delete, insert, null, or_, select, update
from sqlalchemy.orm import Session

from db import fence, history, retention, story
from db.clock import now
from db.fence import FENCED, RELEASED, fenced
from db.models import Attempt, Job, Model, Sweep, literal
from db.rows import finite_or_none, rank_key, table
from db.steering import ENDED_AT, trains_on
from jobs.retry import delay_seconds
from jobs.spec import Claim, Failure, TrainResult
from jobs.states import RETRIED, FailureReason, JobState, SweepState
from jobs.urls import masked

JOBS, ATTEMPTS, MODELS, SWEEPS = table(Job), table(Attempt), table(Model), table(Sweep)

# Its sweep may have got more epochs since it was claimed: then it keeps its result and trains on.
_asked = bindparam("asked", type_=Integer)
_may_train_more = select(SWEEPS.c.epochs).where(SWEEPS.c.id == JOBS.c.sweep_id).scalar_subquery() > _asked
_FINISHED = case(
    (and_(bindparam("would_go_on", type_=Boolean), _may_train_more), literal(JobState.READY)),
    else_=literal(JobState.SUCCEEDED),
)
_ENDED: dict[str, Any] = {
    "state": _FINISHED,
    "until": _asked,
    "finished_at": now(),
    "reason": null(),
    "error": null(),
}
_FINISH = FENCED.values(RELEASED | _ENDED)
# The fence of a result whose attempt was taken for lost: nobody has claimed the job since. Its row is locked.
_FINISH_LATE = (
    update(JOBS)
    .where(
        JOBS.c.id == bindparam("by_job"),
        or_(JOBS.c.state == literal(JobState.READY), JOBS.c.state == literal(JobState.WAITING)),  # many take no list
        JOBS.c.attempt == bindparam("by_attempt"),
    )
    .values(_ENDED | {"due_at": null()})
)
_LOST: Select[Any] = (
    select(JOBS.c.id, ATTEMPTS.c.worker, JOBS.c.attempt, JOBS.c.rank_key)
    .join(ATTEMPTS, (ATTEMPTS.c.job_id == JOBS.c.id) & (ATTEMPTS.c.attempt == JOBS.c.attempt))
    .where(JOBS.c.state.in_([JobState.READY, JobState.WAITING]), ATTEMPTS.c.outcome == FailureReason.LOST)
)
_ATTEMPT = (ATTEMPTS.c.job_id == bindparam("by_job"), ATTEMPTS.c.attempt == bindparam("by_attempt"))
_FINISH_ATTEMPT = update(ATTEMPTS).where(*_ATTEMPT).values(finished_at=now(), outcome=JobState.SUCCEEDED, error=null())
_CAME_TO = {"outcome": bindparam("came_to"), "error": bindparam("told"), "epoch": story.epoch_reached()}
END_ATTEMPT = update(ATTEMPTS).where(*_ATTEMPT).values(finished_at=now(), **_CAME_TO)

# How a job is let go: its new state, and whether it failed → the move.
_FAILED: dict[str, Any] = {
    "failures": bindparam("failed"),
    "lost": bindparam("losses"),
    "reason": bindparam("why"),
    "error": bindparam("told"),
}
_LET_GO = {
    (state, failed): FENCED.values(RELEASED | times | {"state": state} | (_FAILED if failed else {}))
    for failed in (True, False)
    for state, times in (
        (JobState.READY, {}),
        (JobState.WAITING, {"due_at": now(bindparam("delay"))}),
        (JobState.FAILED, {"finished_at": ENDED_AT}),
        (JobState.CANCELLED, {"finished_at": ENDED_AT}),
    )
}


def finish(session: Session, ended: Sequence[tuple[Claim, TrainResult]]) -> set[int]:
    """running → succeeded, each with score, history and best model, all or nothing.

    One whose sweep got more epochs while it trained: → ready, to train on. Its result counts until it has the next.
    Also ready or waiting → succeeded, where the attempt was taken for lost and nobody has claimed the job since: the
    attempt number is still the newest, so there is no other result and never will be.

    Returns:
        The jobs whose claim held, or was lost without a successor; the others are as they were.
    """
    held = fence.lock_held(session, [claim for claim, _ in ended])
    lost = _lost_of(session, [claim for claim, _ in ended if fence.key(claim) not in held])
    ours, late = ([(claim, result) for claim, result in ended if fence.key(claim) in rows] for rows in (held, lost))
    for move, some in ((_FINISH, ours), (_FINISH_LATE, late)):
        if some:
            fence.change(session, move, [fenced(*fence.key(claim)) | _outcome(claim, result) for claim, result in some])
    if ours := ours + late:
        session.connection().execute(_FINISH_ATTEMPT, [_tried(claim, result) for claim, result in ours])
        history.replace(session, [(claim, result.history) for claim, result in ours])
        if earlier := [claim.job for claim, _ in ours if (held | lost)[fence.key(claim)].rank_key is not None]:
            session.connection().execute(delete(MODELS).where(MODELS.c.job_id.in_(earlier)))
        _keep_models(session, ours)
    return {claim.job for claim, _ in ours}


def _lost_of(session: Session, claims: Sequence[Claim]) -> dict[fence.Key, Row[Any]]:
    """Those of these attempts that were taken for lost, while nobody has claimed their jobs since; they are locked."""
    if not claims:
        return {}
    rows = session.connection().execute(_LOST.where(JOBS.c.id.in_([claim.job for claim in claims])))
    found = {(row.id, row.worker, row.attempt): row for row in rows}
    return {key: found[key] for key in map(fence.key, claims) if key in found}


def _outcome(claim: Claim, result: TrainResult) -> dict[str, Any]:
    return {
        "epoch": result.epochs,
        "score": finite_or_none(result.score),
        "rank_key": rank_key(result.score, claim.spec.objective.mode),
        "metrics": {name: finite_or_none(value) for name, value in result.metrics.items()},
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "asked": claim.spec.epochs,
        "would_go_on": trains_on(claim.spec.params, result.epochs, claim.spec.epochs),
        "seconds": result.seconds,
    }


def _tried(claim: Claim, result: TrainResult) -> dict[str, Any]:
    facts = {"epoch": result.epochs, "resumed_from": result.resumed_from, "environment": result.environment}
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


def let_go(
    session: Session, ended: Sequence[tuple[Claim, Failure | None]], preempted: Collection[int] = ()
) -> dict[int, JobState]:
    """Let go of jobs that have not succeeded, whatever was true when their trainer was told to stop.

    A job that failed: running → failed, or → ready or waiting when a retry is left. One without a failure, whose
    trainer has stopped because it was told to: running → ready. When the sweep is cancelled: running → cancelled.

    Args:
        preempted: jobs that have not failed, and stopped because their worker did: the story of the attempt tells so.

    Returns:
        job → its new state, of the jobs whose claim held; the others are as they were.
    """
    sweeps = fence.lock_sweeps(session, {claim.spec.sweep for claim, _ in ended})
    held = fence.lock_held(session, [claim for claim, _ in ended])
    ours = [(held[fence.key(claim)], failure) for claim, failure in ended if fence.key(claim) in held]
    return move_on(session, sweeps, ours, preempted)


def move_on(
    session: Session,
    sweeps: Mapping[int, Row[Any]],
    ended: Sequence[tuple[Row[Any], Failure | None]],
    preempted: Collection[int] = (),
) -> dict[int, JobState]:
    """Move locked jobs on, each the way that its sweep and its failure say."""
    became: dict[int, JobState] = {}
    moves: dict[tuple[JobState, bool], list[dict[str, Any]]] = {}
    attempts = []
    for job, failure in ended:
        state, values = _after(job, sweeps[job.sweep_id], failure)
        became[job.id] = state
        moves.setdefault((state, failure is not None), []).append(fenced(job.id, job.worker, job.attempt) | values)
        attempts.append({"by_job": job.id, "by_attempt": job.attempt, **_came_to(state, failure, job.id in preempted)})
    for move, jobs in moves.items():
        fence.change(session, _LET_GO[move], jobs)
    if attempts:
        session.connection().execute(END_ATTEMPT, attempts)
    return became


def _after(job: Row[Any], sweep: Row[Any], failure: Failure | None) -> tuple[JobState, dict[str, Any]]:
    """Where a job goes after its attempt, with the values of that move."""
    cancelled = sweep.state == SweepState.CANCELLED
    if failure is None:
        return JobState.CANCELLED if cancelled else JobState.READY, {}
    failures, lost = job.failures + 1, job.lost + (failure.reason is FailureReason.LOST)
    values = {"failed": failures, "losses": lost, "why": failure.reason, "told": _storable(failure.error)}
    if cancelled:
        return JobState.CANCELLED, values
    if not _is_tried_again(sweep, failure, own_failures=failures - lost):
        return JobState.FAILED, values
    delay = delay_seconds(failures)
    return (JobState.WAITING, values | {"delay": delay}) if delay else (JobState.READY, values)


def _is_tried_again(sweep: Row[Any], failure: Failure, own_failures: int) -> bool:
    if failure.beside:  # the next attempt is alone, and tells whether it was this job
        return True
    retried = sweep.retry_on if isinstance(sweep.retry_on, list) else RETRIED  # else its row is damaged
    if failure.reason not in retried or not failure.again:
        return False
    return failure.reason is FailureReason.LOST or own_failures <= sweep.retries  # `rescue` limits losses


def _came_to(state: JobState, failure: Failure | None, preempted: bool) -> dict[str, Any]:
    if failure is None:
        given_back = "preempted" if preempted else "given back"
        return {"came_to": JobState.CANCELLED if state == JobState.CANCELLED else given_back, "told": None}
    return {"came_to": failure.reason, "told": _storable(failure.error)}


def _storable(error: str) -> str:
    return masked(error).replace("\0", "")  # PostgreSQL stores no NUL
