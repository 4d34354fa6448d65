"""How far is it? Counts that are kept, and the best score from an index: cheap enough to ask every half second."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, text
from sqlalchemy.orm import Session

from db import counts, documents
from db.leaderboard import RANKED
from db.models import Job, Sweep, Worker, literal
from db.workers import LIVING, WorkerTrouble, troubles
from jobs.errors import NotFound
from jobs.states import FINAL, JobState, SweepState

EPOCHS_OF = 2_000  # running jobs that are looked at, to say how far they are


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """Where a sweep stands."""

    sweep: int
    name: str
    task: str
    state: str  # SweepState
    total: int  # jobs
    jobs: dict[str, int]  # state -> number of jobs; every state is there
    reasons: dict[str, int] = field(default_factory=dict)  # FailureReason -> number of failed jobs
    metric: str
    mode: str  # "max" or "min"
    best: float | None  # best score so far
    best_job: int | None
    queue: str
    workers: int  # of its queue, that gave a sign of life lately
    created_at: datetime | None  # None: it cannot be read
    finished_at: datetime | None
    priority: int = 0
    max_running: int | None = None  # jobs that run at once; None: no limit
    halting: bool = False  # it is paused, and what runs is given back
    extending: bool = False  # jobs are being added, or are about to train more epochs
    epochs: int | None = None  # that its jobs train; of one sweep, as are the three below
    least_epoch: int | None = None  # the last one that every running job has reported; None: nothing runs
    most_epoch: int | None = None  # the last one that any of them has
    troubles: list[WorkerTrouble] = field(default_factory=list)  # of living workers of its queue

    @property
    def done(self) -> int:
        """Jobs that are final."""
        return sum(self.jobs[state] for state in FINAL)

    @property
    def finished(self) -> bool:
        """Every job is final: nothing will change unless the user retries or resumes."""
        return self.done >= self.total and not self.extending


@dataclass(frozen=True, kw_only=True)
class FailedJob:
    """A job that failed, and why."""

    job: int
    seed: int
    params: dict[str, Any] = field(default_factory=dict)  # the cell's own values
    reason: str  # FailureReason
    error: str


def database_bytes(session: Session) -> int:
    """What the database takes on its disk; an SQLite file with what is not yet in it."""
    if session.get_bind().dialect.name == "postgresql":
        return int(session.scalar(text("SELECT pg_database_size(current_database())")) or 0)
    file = Path(session.scalars(text("SELECT file FROM pragma_database_list WHERE name = 'main'")).one())
    return sum(path.stat().st_size for path in (file, file.with_name(f"{file.name}-wal")) if path.exists())


def sweep_status(session: Session, sweep: int) -> SweepStatus:
    """Where this sweep stands.

    Raises:
        NotFound: there is no such sweep.
    """
    found = _statuses(session, _sweeps().where(Sweep.id == sweep))
    if not found:
        raise NotFound(f"there is no sweep {sweep}; `gridyard status` lists them")
    epochs, least, most = _epochs(session, sweep)
    met = troubles(session, found[0].queue)
    return replace(found[0], epochs=epochs, least_epoch=least, most_epoch=most, troubles=met)


def _epochs(session: Session, sweep: int) -> tuple[int, int | None, int | None]:
    """What its jobs train, and the least and the most that running ones have: of some thousand at most."""
    running = select(Job.epoch).where(Job.sweep_id == sweep, Job.state == literal(JobState.RUNNING))
    some = running.order_by(Job.pack, Job.id).limit(EPOCHS_OF).subquery()
    least, most = session.execute(select(func.min(some.c.epoch), func.max(some.c.epoch))).one()
    return session.scalars(select(Sweep.epochs).where(Sweep.id == sweep)).one(), least, most


def sweeps(session: Session, *, limit: int | None = 20) -> list[SweepStatus]:
    """All sweeps but those that are being deleted, newest first."""
    kept = Sweep.state != SweepState.DELETING
    return _statuses(session, _sweeps().where(kept).order_by(Sweep.id.desc()).limit(limit))


def failed_jobs(session: Session, sweep: int, *, limit: int = 10) -> list[FailedJob]:
    """The first failed jobs of a sweep."""
    query = (
        select(Job.id, Job.seed, Job.params, Job.reason, Job.error)
        .where(Job.sweep_id == sweep, Job.state == JobState.FAILED)
        .order_by(Job.pack, Job.id)  # as the index has them
        .limit(limit)
    )
    return [
        FailedJob(
            job=row.id,
            seed=row.seed,
            params=documents.parameters(row.params),
            reason=row.reason or "",
            error=row.error or "",
        )
        for row in session.execute(query)
    ]


def _sweeps() -> Select[*tuple[Any, ...]]:
    return select(
        Sweep.id,
        Sweep.name,
        Sweep.task,
        Sweep.state,
        Sweep.total,
        Sweep.metric,
        Sweep.mode,
        Sweep.queue,
        Sweep.created_at,
        Sweep.finished_at,
        Sweep.priority,
        Sweep.max_running,
        Sweep.halting,
        Sweep.extending.is_not(None).label("extending"),
        _best(Job.score).label("best"),
        _best(Job.id).label("best_job"),
        _workers_alive().label("workers"),
    )


def _best(column: Any) -> ColumnElement[Any]:
    query = select(column).where(RANKED, Job.sweep_id == Sweep.id)
    return query.order_by(Job.rank_key, Job.id).limit(1).scalar_subquery()


def _workers_alive() -> ColumnElement[int]:
    return select(func.count()).where(Worker.queue == Sweep.queue, *LIVING).scalar_subquery()


def _statuses(session: Session, query: Select[*tuple[Any, ...]]) -> list[SweepStatus]:
    rows = session.execute(query).all()
    found = counts.of_sweeps(session, [row.id for row in rows])
    reasons = _reasons(session, [row.id for row in rows if found[row.id][JobState.FAILED]])
    return [
        SweepStatus(
            sweep=row.id,
            jobs=found[row.id],
            reasons=reasons.get(row.id, {}),
            **{name: value for name, value in row._mapping.items() if name != "id"},
        )
        for row in rows
    ]


def _reasons(session: Session, sweeps: Sequence[int]) -> dict[int, dict[str, int]]:
    """Why the failed jobs of each of these sweeps have failed: counted in an index that holds nothing else."""
    if not sweeps:
        return {}
    failed = (Job.sweep_id.in_(sweeps), Job.state == literal(JobState.FAILED))
    query = select(Job.sweep_id, Job.reason, func.count()).where(*failed).group_by(Job.sweep_id, Job.reason)
    reasons: dict[int, dict[str, int]] = {sweep: {} for sweep in sweeps}
    for sweep, reason, number in session.execute(query):
        reasons[sweep][reason or ""] = number
    return {sweep: dict(sorted(named.items(), key=lambda one: (-one[1], one[0]))) for sweep, named in reasons.items()}
