"""The only changer of a job's state. Each move is one guarded UPDATE that says whether it happened.

Every write of a worker is fenced by `state = 'running' AND worker = … AND attempt = …`: one that was presumed dead can
never overwrite its successor. All times are the database's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, exists, func, null, select, update
from sqlalchemy.orm import Session

from db import history
from db.clock import now
from db.models import Attempt, Job, Model, Sweep, literal
from db.rows import execute_update, finite_or_none, rank_key, sweep_spec
from jobs.retry import delay_seconds
from jobs.spec import Answer, Claim, EpochReport, Failure, JobSpec, TrainResult
from jobs.states import RETRIED, UNFINISHED, FailureReason, JobState, SweepState

# What a job loses when it stops running.
RELEASED: dict[str, Any] = {"worker": null(), "lease_expires_at": null()}


def has_ready(session: Session, queue: str) -> bool:
    """Whether a worker of this queue would find a job. Reads only: a look takes no write lock."""
    return session.scalar(_open_sweeps_with_ready_jobs(queue).limit(1)) is not None


def count_ready(session: Session, queue: str, at_most: int) -> int:
    """How many jobs of open sweeps are ready, counted no further than `at_most`."""
    ready = select(Job.id).join(Sweep, Job.sweep_id == Sweep.id).where(Sweep.queue == queue)
    some = ready.where(Sweep.state == literal(SweepState.OPEN), Job.state == literal(JobState.READY)).limit(at_most)
    return session.scalars(select(func.count()).select_from(some.subquery())).one()


def claim(session: Session, queue: str, worker: str, lease_seconds: float, limit: int = 1) -> list[Claim]:
    """Take the best ready jobs, at most `limit`, all of one sweep: highest priority first, then oldest first.

    ready → running, attempt + 1, with a lease.
    """
    for sweep in session.scalars(_open_sweeps_with_ready_jobs(queue)).all():
        claims = _claim_of_sweep(session, sweep, worker, lease_seconds, limit)
        if claims:  # none: others took them between our look and our claim
            return claims
    return []


def _open_sweeps_with_ready_jobs(queue: str) -> Select[Sweep]:
    has_ready_job = exists().where(Job.sweep_id == Sweep.id, Job.state == literal(JobState.READY))
    return (
        select(Sweep)
        .where(Sweep.queue == queue, Sweep.state == literal(SweepState.OPEN), has_ready_job)
        .order_by(Sweep.priority.desc(), Sweep.id)
    )


def _claim_of_sweep(session: Session, sweep: Sweep, worker: str, lease_seconds: float, limit: int) -> list[Claim]:
    # A common table expression keeps the planner from evaluating LIMIT more than once; SKIP LOCKED keeps claimers from
    # queueing behind each other. SQLite has neither need: its writers come one after the other.
    chosen = (
        select(Job.id)
        .where(Job.sweep_id == sweep.id, Job.state == literal(JobState.READY))
        .order_by(Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("chosen")
    )
    rows = session.execute(
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
    ).all()
    spec = sweep_spec(sweep)
    claims = []
    for job, attempt, params, seed in sorted(rows, key=lambda row: row.id):
        session.add(Attempt(job_id=job, attempt=attempt, worker=worker, started_at=now()))
        job_spec = JobSpec(
            job=job,
            sweep=sweep.id,
            sweep_uid=sweep.uid,
            task=spec.task,
            params={**spec.fixed, **params},
            seed=seed,
            epochs=spec.epochs,
            objective=spec.objective,
            early_stopping=spec.early_stopping,
        )
        claims.append(Claim(spec=job_spec, worker=worker, attempt=attempt, time_limit=spec.time_limit))
    session.flush()
    return claims


def renew(session: Session, worker: str, held: Mapping[int, int], lease_seconds: float) -> dict[int, Answer]:
    """Renew the leases of the jobs a worker holds, given as job → attempt, and say for each how to go on.

    Only what the worker says it holds is renewed: a claim whose answer never reached it must run out.
    """
    renewed = session.execute(
        update(Job)
        .where(Job.id.in_(held), Job.worker == worker, Job.state == literal(JobState.RUNNING))
        .values(lease_expires_at=now(lease_seconds))
        .returning(Job.id, Job.attempt, Job.sweep_id)
        .execution_options(synchronize_session=False)
    ).all()
    sweeps = {row.sweep_id for row in renewed}
    cancelled = set(
        session.scalars(
            select(Sweep.id).where(Sweep.id.in_(sweeps), Sweep.state == literal(SweepState.CANCELLED))
        ).all()
    )
    answers = dict.fromkeys(held, Answer.CLAIM_LOST)
    for row in renewed:
        if row.attempt == held[row.id]:
            answers[row.id] = Answer.CANCELLED if row.sweep_id in cancelled else Answer.GO_ON
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
            )
        )
    return True


def fail(session: Session, claim: Claim, failure: Failure) -> JobState | None:
    """running → failed, or → ready or waiting when a retry is left; the new state, or None when the claim is lost."""
    job = session.execute(
        select(Job.failures, Sweep.retries, Sweep.state).join(Sweep, Job.sweep_id == Sweep.id).where(_held(claim))
    ).one_or_none()
    if job is None:
        return None
    state, values = _after_failure(failure.reason, failure.error, *job)
    if not execute_update(session, update(Job).where(_held(claim)).values(values)):
        return None
    _end_attempt(session, claim, failure.reason, error=failure.error)
    return state


def _after_failure(
    reason: FailureReason, error: str, failures: int, retries: int, sweep_state: str
) -> tuple[JobState, dict[str, Any]]:
    """Where a job goes after its attempt failed: tried again at once, later, or not."""
    failures += 1
    values = RELEASED | {"failures": failures, "reason": reason, "error": error}
    if sweep_state == SweepState.CANCELLED:
        return JobState.CANCELLED, values | {"state": JobState.CANCELLED, "finished_at": now()}
    if reason not in RETRIED or failures > retries:
        return JobState.FAILED, values | {"state": JobState.FAILED, "finished_at": now()}
    delay = delay_seconds(failures)
    if delay == 0:
        return JobState.READY, values | {"state": JobState.READY}
    return JobState.WAITING, values | {"state": JobState.WAITING, "due_at": now(delay)}


def give_back(session: Session, claim: Claim) -> bool:
    """running → ready without counting as a failure; False when the claim is lost."""
    if not execute_update(session, update(Job).where(_held(claim)).values(RELEASED | {"state": JobState.READY})):
        return False
    _end_attempt(session, claim, "given back")
    return True


def cancel_claimed(session: Session, claim: Claim) -> bool:
    """running → cancelled, after the trainer has stopped; False when the claim is lost."""
    values = {"state": JobState.CANCELLED, "finished_at": now()}
    if not execute_update(session, update(Job).where(_held(claim)).values(RELEASED | values)):
        return False
    _end_attempt(session, claim, JobState.CANCELLED)
    return True


def rescue(session: Session, worker: str | None = None) -> int:
    """Take jobs back from workers that went silent: running and lease expired → ready, waiting or failed.

    Args:
        worker: this worker is known to be dead; its leases need not run out.

    Returns:
        The number of jobs taken back.
    """
    gone = Job.lease_expires_at < now() if worker is None else Job.worker == worker
    lost = session.execute(
        select(Job.id, Job.attempt, Job.worker, Job.failures, Sweep.retries, Sweep.state)
        .join(Sweep, Job.sweep_id == Sweep.id)
        .where(Job.state == literal(JobState.RUNNING), gone)
    ).all()
    rescued = 0
    for job, attempt, silent, failures, retries, sweep_state in lost:
        error = f"worker {silent} went silent"
        _, values = _after_failure(FailureReason.LOST, error, failures, retries, sweep_state)
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
    # The sweep's row first: one lock at the head of the line keeps two of these, and the scheduler's close, in order.
    reopened = Sweep.state != SweepState.SUBMITTING
    if state is JobState.FAILED:  # a retry must not bring a sweep back that the user cancelled or paused
        reopened = Sweep.state.in_([SweepState.OPEN, SweepState.FINISHED])
    values: dict[str, Any] = {"state": SweepState.OPEN, "finished_at": null()}
    if not execute_update(session, update(Sweep).where(Sweep.id == sweep, reopened).values(values)):
        return 0
    fresh = {"state": JobState.READY, "finished_at": null(), "failures": 0, "reason": null(), "error": null()}
    return execute_update(session, update(Job).where(Job.sweep_id == sweep, Job.state == state).values(fresh))


def close_finished(session: Session) -> int:
    """open → finished for sweeps whose jobs are all final; the number of sweeps."""
    unfinished = exists().where(Job.sweep_id == Sweep.id, Job.state.in_(UNFINISHED))
    values = {"state": SweepState.FINISHED, "finished_at": now()}
    return execute_update(
        session, update(Sweep).where(Sweep.state == literal(SweepState.OPEN), ~unfinished).values(values)
    )


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
