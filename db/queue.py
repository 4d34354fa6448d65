"""The only changer of a job's state. Each move is one guarded UPDATE that says whether it happened.

The claim itself lies in `db.claims`, what a user does to a whole sweep in `db.steering`.

Every write of a worker is fenced by `state = 'running' AND worker = … AND attempt = …`: one that was presumed dead can
never overwrite its successor. All times are the database's own.

Where a move depends on the sweep's state too, the sweep's row is locked first and read, then the jobs are changed,
always in this order: so a cancel, a resume or a close comes before such a move or after it, never between. PostgreSQL
needs that: after a wait for a row it looks again at that row only, not at the others that the statement has read.
SQLite's writers come one after the other anyway.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    Integer,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    insert,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from db import history, retention, story
from db.claims import claim, count_ready, has_ready, next_sweep
from db.clock import now
from db.models import Attempt, Job, Model, Sweep, literal
from db.rows import execute_update, finite_or_none, rank_key, table
from db.steering import (
    ENDED_AT,
    cancel_sweep,
    limit_sweep,
    pause_sweep,
    prioritise_sweep,
    prolong,
    resume_sweep,
    retry_sweep,
    trains_on,
)
from jobs.retry import MOST_LOST, delay_seconds
from jobs.spec import Answer, Claim, EpochReport, Failure, TrainResult
from jobs.states import RETRIED, UNFINISHED, FailureReason, JobState, SweepState
from jobs.urls import masked

__all__ = [
    "came_back",
    "cancel_sweep",
    "claim",
    "close_finished",
    "count_ready",
    "finish",
    "has_ready",
    "let_go",
    "limit_sweep",
    "make_due_ready",
    "next_sweep",
    "pause_sweep",
    "prioritise_sweep",
    "prolong",
    "record_epochs",
    "renew",
    "rescue",
    "resume_sweep",
    "retry_sweep",
]

JOBS, ATTEMPTS, MODELS, SWEEPS = table(Job), table(Attempt), table(Model), table(Sweep)

# What a job loses when it stops running.
RELEASED: dict[str, Any] = {"worker": null(), "slot": null(), "lease_expires_at": null()}

# The fence: true only while this attempt holds the job.
_FENCE = (
    JOBS.c.id == bindparam("by_job"),
    JOBS.c.state == literal(JobState.RUNNING),
    JOBS.c.worker == bindparam("by_worker"),
    JOBS.c.attempt == bindparam("by_attempt"),
)
_REPORT = update(JOBS).where(*_FENCE)
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
_FINISH = _REPORT.values(RELEASED | _ENDED)
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
_END_ATTEMPT = update(ATTEMPTS).where(*_ATTEMPT).values(finished_at=now(), **_CAME_TO)
_HELD_COLUMNS = ("id", "state", "worker", "attempt", "failures", "lost", "sweep_id", "rank_key")
_HELD: Select[Any] = select(*(JOBS.c[name] for name in _HELD_COLUMNS))

# How a job is let go: its new state, and whether it failed → the move.
_FAILED: dict[str, Any] = {
    "failures": bindparam("failed"),
    "lost": bindparam("losses"),
    "reason": bindparam("why"),
    "error": bindparam("told"),
}
_LET_GO = {
    (state, failed): _REPORT.values(RELEASED | times | {"state": state} | (_FAILED if failed else {}))
    for failed in (True, False)
    for state, times in (
        (JobState.READY, {}),
        (JobState.WAITING, {"due_at": now(bindparam("delay"))}),
        (JobState.FAILED, {"finished_at": ENDED_AT}),
        (JobState.CANCELLED, {"finished_at": ENDED_AT}),
    )
}

Held = tuple[int, int]  # (job, attempt) that a worker holds

CAME_BACK = ", and came back"  # ends the error of a lost attempt whose worker did
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
    wishes = _wishes(session, {row.sweep_id for row in renewed})
    answers = dict.fromkeys(held, Answer.CLAIM_LOST)
    for row in renewed:
        if (row.id, row.attempt) in answers:
            answers[row.id, row.attempt] = wishes.get(row.sweep_id, Answer.GO_ON)
    return answers


def _wishes(session: Session, sweeps: Collection[int]) -> dict[int, Answer]:
    """How the running jobs of these sweeps are to stop, where they are to."""
    halting = and_(SWEEPS.c.state == literal(SweepState.PAUSED), SWEEPS.c.halting)
    stopping = or_(SWEEPS.c.state == literal(SweepState.CANCELLED), halting)
    found = session.connection().execute(select(SWEEPS.c.id, SWEEPS.c.halting).where(SWEEPS.c.id.in_(sweeps), stopping))
    return {row.id: Answer.GIVE_BACK if row.halting else Answer.CANCELLED for row in found}


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

    One whose sweep got more epochs while it trained: → ready, to train on. Its result counts until it has the next.
    Also ready or waiting → succeeded, where the attempt was taken for lost and nobody has claimed the job since: the
    attempt number is still the newest, so there is no other result and never will be.

    Returns:
        The jobs whose claim held, or was lost without a successor; the others are as they were.
    """
    held = _lock_held(session, [claim for claim, _ in ended])
    lost = _lost_of(session, [claim for claim, _ in ended if _key(claim) not in held])
    ours, late = ([(claim, result) for claim, result in ended if _key(claim) in rows] for rows in (held, lost))
    for move, some in ((_FINISH, ours), (_FINISH_LATE, late)):
        if some:
            _change_held(session, move, [_fenced(claim) | _outcome(claim, result) for claim, result in some])
    if ours := ours + late:
        session.connection().execute(_FINISH_ATTEMPT, [_tried(claim, result) for claim, result in ours])
        history.replace(session, [(claim, result.history) for claim, result in ours])
        if earlier := [claim.job for claim, _ in ours if (held | lost)[_key(claim)].rank_key is not None]:
            session.connection().execute(delete(MODELS).where(MODELS.c.job_id.in_(earlier)))
        _keep_models(session, ours)
    return {claim.job for claim, _ in ours}


def _lost_of(session: Session, claims: Sequence[Claim]) -> dict[tuple[int, str, int], Row[Any]]:
    """Those of these attempts that were taken for lost, while nobody has claimed their jobs since; they are locked."""
    if not claims:
        return {}
    rows = session.connection().execute(_LOST.where(JOBS.c.id.in_([claim.job for claim in claims])))
    found = {(row.id, row.worker, row.attempt): row for row in rows}
    return {key: found[key] for key in map(_key, claims) if key in found}


def _lock_held(session: Session, claims: Sequence[Claim]) -> dict[tuple[int, str, int], Row[Any]]:
    """Which of these claims hold. All their jobs stay locked, lowest id first, so that nobody waits in a circle."""
    rows = _HELD.where(JOBS.c.id.in_([claim.job for claim in claims])).order_by(JOBS.c.id).with_for_update()
    locked = session.connection().execute(rows)
    return {(row.id, row.worker, row.attempt): row for row in locked if row.state == JobState.RUNNING}


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
    sweeps = _lock_sweeps(session, {claim.spec.sweep for claim, _ in ended})
    held = _lock_held(session, [claim for claim, _ in ended])
    ours = [(held[_key(claim)], failure) for claim, failure in ended if _key(claim) in held]
    return _move_on(session, sweeps, ours, preempted)


def rescue(session: Session, worker: str | None = None, *, most_lost: int = MOST_LOST) -> int:
    """Take jobs back from workers that went silent: running and lease expired → ready, waiting or failed.

    Args:
        worker: this worker is known to be dead; its leases need not run out.
        most_lost: a job with which so many workers were lost is set aside: failed, with its story.

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
        set_aside = story.of_jobs(session, [row.id for row in rows if row.lost + 1 >= most_lost])
        how = "went silent" if worker is None else "died"
        rescued += len(_move_on(session, sweeps, [(row, _lost(row, how, set_aside.get(row.id))) for row in rows]))
    return rescued


def came_back(session: Session, worker: str, held: Collection[Held]) -> int:
    """A worker that was presumed dead lives: no job of those that were rescued from it has killed it.

    Its silence, as while the database was away or it was frozen, is then counted against none of them.

    Args:
        held: what it holds still, without a claim.

    Returns:
        The number of jobs whose losses are one less; asking again changes nothing.
    """
    of_jobs = select(JOBS.c.id).where(JOBS.c.id.in_({job for job, _ in held}))
    session.connection().execute(of_jobs.order_by(JOBS.c.id).with_for_update())  # before attempts, as all do
    here = (tuple_(ATTEMPTS.c.job_id, ATTEMPTS.c.attempt).in_(list(held)), ATTEMPTS.c.worker == worker)
    lost = (ATTEMPTS.c.outcome == FailureReason.LOST, ATTEMPTS.c.error.not_like(f"%{CAME_BACK}"))
    told = update(ATTEMPTS).where(*here, *lost).values(error=ATTEMPTS.c.error + CAME_BACK)
    jobs = session.connection().execute(told.returning(ATTEMPTS.c.job_id)).scalars().all()
    counted = (JOBS.c.id.in_(jobs), JOBS.c.lost > 0, JOBS.c.state.in_(UNFINISHED))
    one_less = {"lost": JOBS.c.lost - 1, "failures": JOBS.c.failures - 1}
    return execute_update(session, update(JOBS).where(*counted).values(one_less)) if jobs else 0


def _lost(job: Row[Any], how: str, told: str | None) -> Failure:
    """The loss of its worker; with its story, if the job is to be set aside."""
    error = f"worker {job.worker} {how}"
    if told is not None:
        lost = "1 worker was" if job.lost == 0 else f"{job.lost + 1} workers were"
        error = f"{lost} lost with it, so it is set aside; `gridyard retry` tries it again\n\n{told}"
    return Failure(job=job.id, reason=FailureReason.LOST, error=error, again=told is None)


def _lock_sweeps(session: Session, sweeps: Collection[int]) -> dict[int, Row[Any]]:
    """These sweeps, which nobody changes until we commit."""
    columns = (SWEEPS.c.id, SWEEPS.c.state, SWEEPS.c.retries, SWEEPS.c.retry_on)
    wanted: Select[Any] = select(*columns).where(SWEEPS.c.id.in_(sweeps))
    locked = wanted.order_by(SWEEPS.c.id).with_for_update(read=True)
    return {row.id: row for row in session.connection().execute(locked)}


def _move_on(
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
        moves.setdefault((state, failure is not None), []).append(_fence(job) | values)
        attempts.append({"by_job": job.id, "by_attempt": job.attempt, **_came_to(state, failure, job.id in preempted)})
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


def make_due_ready(session: Session) -> int:
    """waiting and due → ready; the number of jobs."""
    due = (Job.state == literal(JobState.WAITING), Job.due_at <= now())
    return execute_update(session, update(Job).where(*due).values(state=JobState.READY, due_at=null()))


def close_finished(session: Session) -> int:
    """open → finished for sweeps that are whole and whose jobs are all final; the number of sweeps."""
    is_open = Sweep.state == literal(SweepState.OPEN)
    locked = session.scalars(select(Sweep.id).where(is_open).with_for_update(skip_locked=True)).all()
    unfinished = exists().where(Job.sweep_id == Sweep.id, Job.state.in_(UNFINISHED))
    values = {"state": SweepState.FINISHED, "finished_at": now()}
    whole = (is_open, Sweep.extending.is_(None), ~unfinished)
    return execute_update(session, update(Sweep).where(Sweep.id.in_(locked), *whole).values(values))
