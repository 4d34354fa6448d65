"""What a job did: its attempts, its epochs and its best model, as they were recorded."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, tuple_
from sqlalchemy.orm import Session

from db import documents, history, rows
from db.models import Attempt, Job, Model, Sweep
from jobs.errors import NotFound
from jobs.spec import BestModel, JobSpec, Json
from jobs.states import JobState, standing

# The columns of a job that its details show as they are.
COPIED = (
    *("task", "cell", "seed", "state", "metric", "score", "best_epoch", "epoch", "epochs", "seconds"),
    *("worker", "due_at", "finished_at", "reason", "error"),
)

FREED = "freed"  # the place of a model that is there no more


@dataclass(frozen=True, kw_only=True)
class AttemptDetails:
    """One try of a job by one worker."""

    attempt: int  # 1, 2, …
    worker: str
    started_at: datetime | None  # None: it cannot be read
    finished_at: datetime | None
    outcome: str | None  # "succeeded", "cancelled", "given back", "preempted" or a FailureReason; None while it runs
    error: str | None  # message and traceback
    epoch: int | None  # last one reported; None: none, or it runs
    resumed_from: int | None  # epoch of the checkpoint it started from


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that a job left."""

    name: str  # "best": the model at the best epoch
    sha256: str
    size: int  # bytes
    place: str  # "database", its path in the store, or "freed": it is there no more


@dataclass(frozen=True, kw_only=True)
class JobDetails:
    """Everything that is known of a job."""

    job: int
    sweep: int
    task: str
    cell: int  # number in the sweep's order, from 0
    seed: int
    params: Json  # every parameter: the cell's own values over the sweep's fixed ones
    state: str  # JobState
    metric: str
    mode: str  # "max" or "min"
    score: float | None  # None: none yet, or not finite
    metrics: dict[str, float | None]  # of the best epoch
    best_epoch: int | None
    epoch: int  # last reported one
    epochs: int | None  # trained, when it has finished
    seconds: float | None  # of training, over all attempts
    worker: str | None  # while running
    due_at: datetime | None  # while waiting
    finished_at: datetime | None
    reason: str | None  # FailureReason of the last failure
    error: str | None  # its message
    attempts: list[AttemptDetails]
    history: list[Json]  # one object per epoch: "epoch", "seconds", "train_loss", "val_loss", …; not finite: None
    history_whole: bool  # false: a part of it is damaged, and is not here
    environment: Json  # of the last attempt: device, versions, data fingerprint, …
    artifacts: list[Artifact]
    samples: list[Json]  # texts that a language model wrote, with their prompts


def job_details(session: Session, job: int) -> JobDetails:
    """Everything about this job.

    Raises:
        NotFound: there is no such job.
    """
    row, sweep = _found(session, job)
    return _details(session, sweep, [row])[0]


def check_job(session: Session, job: int) -> None:
    """Raises:
    NotFound: there is no such job.
    """
    _found(session, job)


def details_after(session: Session, sweep: Sweep, last: tuple[int, int], limit: int) -> list[JobDetails]:
    """Everything about some jobs of a sweep in the order of its grid: those after this (cell, seed)."""
    of_sweep = (Job.sweep_id == sweep.id, tuple_(Job.cell, Job.seed) > last)
    jobs = session.scalars(select(Job).where(*of_sweep).order_by(Job.cell, Job.seed).limit(limit)).all()
    return _details(session, sweep, jobs)


def _details(session: Session, sweep: Sweep, jobs: Sequence[Job]) -> list[JobDetails]:
    ids = [job.id for job in jobs]
    attempts = defaultdict[int, list[Attempt]](list)
    query = select(Attempt).where(Attempt.job_id.in_(ids)).order_by(Attempt.job_id, Attempt.attempt)
    for attempt in session.scalars(query):
        attempts[attempt.job_id].append(attempt)
    columns = (Model.job_id, Model.sha256, Model.size, Model.path, Model.freed_at, Model.samples)
    models = {row.job_id: row for row in session.execute(select(*columns).where(Model.job_id.in_(ids)))}
    histories = {job.id: history.read(session, job.id, _last_attempt(job, attempts[job.id])) for job in jobs}
    return [
        JobDetails(
            job=job.id,
            sweep=sweep.id,
            params=documents.parameters(documents.mapping(sweep.spec).get("fixed"), job.params),
            mode=sweep.mode,
            metrics=documents.numbers(job.metrics),
            attempts=[_attempt(attempt) for attempt in attempts[job.id]],
            history=histories[job.id][0],
            history_whole=histories[job.id][1],
            environment=_environment(attempts[job.id]),
            artifacts=_artifacts(models.get(job.id)),
            samples=documents.objects(models[job.id].samples) if job.id in models else [],
            **{name: getattr(job, name) for name in COPIED},
        )
        for job in jobs
    ]


def job_spec(session: Session, job: int) -> JobSpec:
    """What its trainer was given.

    Raises:
        NotFound: there is no such job.
    """
    row, sweep = _found(session, job)
    spec = rows.sweep_spec(session, sweep.id, sweep.uid)
    epochs = sweep.epochs if row.rank_key is None else row.until or spec.epochs  # those that its result comes from
    return rows.job_spec(spec, sweep.id, sweep.uid, job, row.params, row.seed, epochs)


def best_model(session: Session, job: int) -> BestModel:
    """The job's best model: its content, or its path in the store.

    Raises:
        NotFound: there is no such job, it has no model, or its model was freed.
    """
    row = session.get(Model, job)
    if row is None:
        found, _ = _found(session, job)
        raise NotFound(f"job {job} has no model: it {standing(found.state)}; only a job that succeeded has one")
    if row.freed_at is not None:
        raise NotFound(
            f"the model of job {job} was freed on {row.freed_at:%Y-%m-%d at %H:%M} UTC, as that of a job ranked below "
            f"those that its sweep keeps (`keep` in the sweep file); its numbers are all there, and `gridyard repeat "
            f"{job}` trains it again and compares them"
        )
    return BestModel(sha256=row.sha256, size=row.size, content=row.content, path=row.path)


def _found(session: Session, job: int) -> tuple[Job, Sweep]:
    """The job's row and its sweep's.

    Raises:
        NotFound: there is no such job.
    """
    row = session.get(Job, job)
    if row is None:
        raise NotFound(f"there is no job {job}; `gridyard leaderboard SWEEP` lists the jobs of a sweep")
    return row, session.get_one(Sweep, row.sweep_id)


def _last_attempt(job: Job, attempts: Sequence[Attempt]) -> int | None:
    """Of the history to show. A job that trains more epochs shows its last result until it has a new one."""
    if job.rank_key is None or job.state == JobState.SUCCEEDED:
        return None
    return max(one.attempt for one in attempts if one.outcome == JobState.SUCCEEDED)


def _attempt(row: Attempt) -> AttemptDetails:
    return AttemptDetails(
        attempt=row.attempt,
        worker=row.worker,
        started_at=row.started_at,
        finished_at=row.finished_at,
        outcome=row.outcome,
        error=row.error,
        epoch=row.epoch,
        resumed_from=row.resumed_from,
    )


def _environment(attempts: Sequence[Attempt]) -> Json:
    """Of the last attempt that has one."""
    found = (documents.environment(attempt.environment) for attempt in reversed(attempts))
    return next(filter(None, found), {})


def _artifacts(model: Row[Any] | None) -> list[Artifact]:
    if model is None:
        return []
    place = FREED if model.freed_at is not None else model.path or "database"
    return [Artifact(name="best", sha256=model.sha256, size=model.size, place=place)]
