"""How a sweep goes: its jobs' files in the store, then their rows, in short transactions, at last the sweep's own row.

What is removed is `submitting`, or `deleting`, which nothing brings back: where one is killed, another goes on. Two who
remove the same do no harm.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Row, delete, exists, select, update
from sqlalchemy.orm import Session

from db.clock import is_past, now
from db.models import Count, Job, Sweep, literal
from db.rows import execute_update
from db.session import Database
from jobs.errors import InputError, NotFound
from jobs.states import JobState, SweepState
from jobs.store import Store

ABANDONED_SECONDS = 120.0  # a submitter or a deleter that gave no sign for so long is dead
REMOVABLE = (SweepState.SUBMITTING, SweepState.DELETING)
DELETABLE = (SweepState.FINISHED, SweepState.CANCELLED)

# Jobs of one transaction: as many as take AIM_SECONDS, few with large models in their rows, thousands with none.
FIRST, FEWEST, MOST = 500, 10, 5_000
AIM_SECONDS = 0.05
# SQLite has no queue for its write lock: without a pause between two transactions, others would not get it.
PAUSE = 1.0  # of the time the last one took

Progress = Callable[[int], None]  # so many further jobs are gone


def check_deletable(session: Session, sweep: int) -> Sweep:
    """The sweep, which may be deleted, or is being deleted already.

    Raises:
        NotFound: there is no such sweep.
        InputError: it has not ended.
    """
    found = session.get(Sweep, sweep)
    if found is None:
        raise NotFound(f"there is no sweep {sweep}; `gridyard status` lists them")
    if found.state == SweepState.SUBMITTING:
        raise InputError(f"sweep {sweep} is being submitted; what its submitter does not finish is removed by itself")
    if found.state not in (*DELETABLE, SweepState.DELETING):
        raise InputError(f"sweep {sweep} is {found.state}; `gridyard cancel {sweep}` first, or wait for its end")
    running = exists().where(Job.sweep_id == sweep, Job.state == literal(JobState.RUNNING))
    if session.scalar(select(running)):
        raise InputError(f"sweep {sweep} is {found.state}, but jobs of it still run; try again when they have stopped")
    return found


def mark(session: Session, sweep: int, finished_at: datetime | None = None) -> None:
    """finished or cancelled → deleting: nothing brings it back, and nobody is shown it.

    Args:
        finished_at: when it had ended as far as the caller has seen it; None: whenever it did.

    Raises:
        NotFound: there is no such sweep.
        InputError: it has not ended, or not then.
    """
    session.execute(select(Sweep.id).where(Sweep.id == sweep).with_for_update())
    found = check_deletable(session, sweep)
    if finished_at is not None and found.finished_at != finished_at:
        raise InputError(f"sweep {sweep} went on while it was archived; nothing was deleted, the archive is of before")
    found.state, found.touched_at = SweepState.DELETING, now()


def remove(database: Database, sweep: int, store: Store | None = None, progress: Progress = lambda jobs: None) -> None:
    """Remove a sweep that is half submitted or marked as deleted; does nothing to any other.

    Args:
        store: where its jobs may have left files; None: it was never open.

    Raises:
        DatabaseError: the database is away. What is left is removed by the scheduler.
        StoreError: a file could not be removed. Likewise.
    """
    removal = Removal(database, sweep, store)
    while removal.step(progress):
        with database.writing() as session:  # a sign of life
            execute_update(session, update(Sweep).where(Sweep.id == sweep).values(touched_at=now()))


def abandoned(session: Session, silent_seconds: float = ABANDONED_SECONDS) -> list[int]:
    """Sweeps that are half submitted or half deleted, and whose submitter or deleter went silent."""
    silent = is_past(Sweep.touched_at, silent_seconds)
    return list(session.scalars(select(Sweep.id).where(Sweep.state.in_(REMOVABLE), silent).order_by(Sweep.id)))


class Removal:
    """One removal of a sweep, step by step."""

    def __init__(self, database: Database, sweep: int, store: Store | None) -> None:
        self._database, self._sweep, self._store = database, sweep, store
        self._limit = FIRST
        # Those of the cells before are gone: a search from the first would walk over all deleted entries of the index.
        self._cell = 0

    def step(self, progress: Progress = lambda jobs: None) -> bool:
        """Remove some jobs, or the sweep when none is left; whether there is more to remove."""
        jobs = self._some()
        if not jobs:
            return self._remove_sweep()
        started = time.monotonic()
        if self._store:
            self._store.remove_jobs(job.id for job in jobs if job.attempt)
        files = time.monotonic() - started
        if not self._remove_rows([job.id for job in jobs]):
            return False
        rows = time.monotonic() - started - files
        self._cell = jobs[-1].cell
        self._limit = min(MOST, max(FEWEST, int(len(jobs) * AIM_SECONDS / max(rows, 0.001))), 2 * self._limit)
        progress(len(jobs))
        if self._database.dialect == "sqlite":
            time.sleep(PAUSE * rows)
        return True

    def _some(self) -> Sequence[Row[int, int, int]]:
        of_sweep = (Job.sweep_id == self._sweep, Job.cell >= self._cell, Sweep.state.in_(REMOVABLE))
        query = select(Job.id, Job.attempt, Job.cell).join(Sweep, Sweep.id == Job.sweep_id).where(*of_sweep)
        with self._database.reading() as session:
            return session.execute(query.order_by(Job.cell, Job.seed).limit(self._limit)).all()

    def _remove_rows(self, jobs: list[int]) -> bool:
        with self._database.writing() as session:
            if not self._lock(session):
                return False
            execute_update(session, delete(Job).where(Job.id.in_(jobs)))
        return True

    def _remove_sweep(self) -> bool:
        with self._database.writing() as session:
            if not self._lock(session):
                return False
            if session.scalar(select(exists().where(Job.sweep_id == self._sweep))):  # added since we began
                self._cell = 0
                return True
            execute_update(session, delete(Count).where(Count.sweep_id == self._sweep))
            execute_update(session, delete(Sweep).where(Sweep.id == self._sweep))
        return False

    def _lock(self, session: Session) -> bool:
        """False: it is gone, or open. A submitter that is still there cannot add to it or open it meanwhile."""
        removable = (Sweep.id == self._sweep, Sweep.state.in_(REMOVABLE))
        return session.scalar(select(Sweep.id).where(*removable).with_for_update()) is not None
