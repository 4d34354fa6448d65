"""What is kept of jobs that have succeeded: their best models as far as their sweeps want them, and no checkpoints.

A row of `kept` is written with each result. So whoever dies, the next scheduler knows what is to go:

    due                     its last checkpoints, and all else in its attempts' folders but the kept model
    due, without a rank     those and the model: it is marked as freed, and that is committed before its file goes

Models are freed from the end of the sweep's own ranking, as many as it has above `keep.best`: each of them has so many
better ones. Only attempts up to the one that succeeded are touched; one that runs has a later number.
"""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Text,
    and_,
    cast,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session

from db.clock import now
from db.models import Attempt, Job, Kept, Model, Sweep, literal
from db.rows import execute_update, sweep_spec, table
from db.session import Database
from jobs.errors import RowDamaged
from jobs.spec import Claim, Keep
from jobs.states import FINAL, FailureReason, JobState, SweepState
from jobs.store import Store, best_path

logger = logging.getLogger(__name__)
JOBS, MODELS, KEPT = table(Job), table(Model), table(Kept)
COLUMNS = ("job_id", "sweep_id", "attempt", "size", "rank_key", "finished_at", "due")
AT_ONCE = 500  # jobs of a step, models of a transaction
FEWEST = 20  # jobs of a step whose files go, however slow the store is; for no more, it is not listed
LIST_REST = 20.0  # of the time that a listing of the store took, until the next: one of a million jobs takes a minute
BYTES_AT_ONCE = 64 << 20  # of models in a transaction, and one more
PAUSE = 1.0  # of the time the last transaction took: SQLite has no queue for its write lock
MOST_COUNTED = 10_000  # models of a sweep, for whoever only wants to see

# Where a model of a row would lie: `jobs.store.best_path` in SQL, so that one statement frees many.
_WOULD_LIE = cast(MODELS.c.job_id, Text) + "/" + cast(MODELS.c.attempt, Text) + "/best.safetensors"
_FREED = {"content": null(), "path": func.coalesce(MODELS.c.path, _WOULD_LIE), "freed_at": now()}
_COLUMNS = select(Kept.job_id, Kept.sweep_id, Kept.attempt, Kept.rank_key, Kept.finished_at, Model.path)
# As the index has it: planners take a partial one only when they see its condition. A job that trains more epochs goes
# on from its last checkpoint: it is seen to when it has succeeded again.
_DUE = (
    _COLUMNS.join(Model, Model.job_id == Kept.job_id)
    .join(Job, Job.id == Kept.job_id)
    .where(text("kept.due"), Job.state == literal(JobState.SUCCEEDED))
)
_FREE = update(KEPT).values(rank_key=null(), due=True)
_FORGET = delete(KEPT).where(KEPT.c.rank_key.is_(None))
_TIDY = update(KEPT).where(KEPT.c.rank_key.is_not(None)).values(due=False)
Due = Row[int, int, int, float | None, datetime, str | None]


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models that a sweep keeps."""

    kept: int
    bytes: int  # in the database and in the store
    more: bool  # there are more than were counted


def note(session: Session, claims: Sequence[Claim]) -> None:
    """These jobs have just succeeded, and their models are stored."""
    again = [claim.job for claim in claims if claim.attempt > 1]
    if again:  # one that had succeeded before
        execute_update(session, delete(Kept).where(Kept.job_id.in_(again)))
    found = select(
        *(JOBS.c.id, JOBS.c.sweep_id, MODELS.c.attempt, MODELS.c.size, JOBS.c.rank_key, JOBS.c.finished_at), true()
    )
    jobs = [claim.job for claim in claims]
    found = found.join_from(JOBS, MODELS, MODELS.c.job_id == JOBS.c.id).where(JOBS.c.id.in_(jobs))
    session.connection().execute(insert(KEPT).from_select(COLUMNS, found))


def models(session: Session, sweep: int) -> Models:
    """The models that a sweep keeps; at most so many are counted that it takes no time."""
    some = select(Kept.size).where(Kept.sweep_id == sweep, Kept.rank_key.is_not(None)).limit(MOST_COUNTED).subquery()
    count, size = session.execute(select(func.count(), func.coalesce(func.sum(some.c.size), 0)).select_from(some)).one()
    return Models(kept=count, bytes=int(size), more=count == MOST_COUNTED)


def keep_of(session: Session, sweep: int) -> Keep:
    """What this sweep keeps; all, where its row does not say so."""
    uid = session.scalar(select(Sweep.uid).where(Sweep.id == sweep))
    if uid is None:  # it was deleted meanwhile
        return Keep()
    try:
        return sweep_spec(session, sweep, uid).keep
    except RowDamaged as damage:
        logger.warning("all of sweep %d is kept: %s", sweep, damage)
        return Keep(last=True)


def below(session: Session, sweep: int, best: int, at_most: int | None = None) -> tuple[int, int]:
    """How many models of a sweep rank below so many, and their bytes; counted no further than `at_most`."""
    ranked = _ranked(sweep).with_only_columns(Kept.size).offset(best).limit(at_most).subquery()
    count, size = session.execute(select(func.count(), func.coalesce(func.sum(ranked.c.size), 0))).one()
    return count, int(size)


def free(session: Session, sweep: int, best: int) -> list[int]:
    """Free some models of a sweep that rank below so many; their jobs. Their files are to go once this is committed."""
    rows = session.execute(_ranked(sweep).add_columns(Kept.attempt, Kept.size).offset(best).limit(AT_ONCE)).all()
    attempts, size = {}, 0
    for row in rows:
        attempts[row.job_id] = row.attempt
        size += row.size
        if size > BYTES_AT_ONCE:
            break
    jobs = [job for job, attempt in _lock_models(session, list(attempts)) if attempt == attempts[job]]
    if jobs:
        session.connection().execute(update(MODELS).where(MODELS.c.job_id.in_(jobs)).values(_FREED))
        session.connection().execute(_FREE.where(_seen([(job, attempts[job]) for job in jobs])))
    return jobs


def _seen(jobs: Iterable[tuple[int, int]]) -> ColumnElement[bool]:
    """What is kept of these jobs, each with its attempt; nothing of one that has succeeded again meanwhile."""
    tried = defaultdict[int, list[int]](list)  # mostly one attempt: as pairs, they took three times the values
    for job, attempt in jobs:
        tried[attempt].append(job)
    return or_(*(and_(KEPT.c.attempt == attempt, KEPT.c.job_id.in_(some)) for attempt, some in tried.items()))


def _lock_models(session: Session, jobs: Collection[int]) -> list[tuple[int, int]]:
    """(job, attempt) of their models that are there, locked: a job that succeeds again meanwhile has another one.

    Lowest id first: nobody waits in a circle with a removal.
    """
    there = select(MODELS.c.job_id, MODELS.c.attempt).where(MODELS.c.job_id.in_(jobs), MODELS.c.freed_at.is_(None))
    found = session.connection().execute(there.order_by(MODELS.c.job_id).with_for_update())
    return [(row.job_id, row.attempt) for row in found]


def _ranked(sweep: int) -> Select[int]:
    """Jobs of a sweep whose models are kept, in the leaderboard's order."""
    kept = select(Kept.job_id).where(Kept.sweep_id == sweep, Kept.rank_key.is_not(None))
    return kept.order_by(Kept.rank_key, Kept.job_id)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A job whose files lie in the store, as far as that says which of them are needed."""

    sweep: int
    succeeded: bool
    ended: bool  # no attempt runs or will, unless a user asks for one
    attempt: int  # the last one
    model: str | None  # path of the model that is kept in the store
    deleting: bool  # its sweep is


def owners(session: Session, jobs: Sequence[int]) -> dict[int, Owner]:
    """Those of these jobs that are there."""
    columns = select(
        *(Job.id, Job.sweep_id, Job.state, Job.attempt, Model.path, Model.freed_at),
        Sweep.state.label("sweep_state"),
    )
    joined = columns.join(Sweep, Sweep.id == Job.sweep_id).outerjoin(Model, Model.job_id == Job.id)
    rows = session.execute(joined.where(Job.id.in_(jobs)))
    return {
        row.id: Owner(
            sweep=row.sweep_id,
            succeeded=row.state == JobState.SUCCEEDED,
            ended=row.state in FINAL,
            attempt=row.attempt,
            model=row.path if row.freed_at is None else None,
            deleting=row.sweep_state == SweepState.DELETING,
        )
        for row in rows
    }


def sweeps_with_models(session: Session) -> list[int]:
    """The sweeps that keep any."""
    return list(session.scalars(select(Kept.sweep_id).where(Kept.rank_key.is_not(None)).distinct()))


def greatest_job(session: Session) -> int:
    """The greatest id that a job of this database ever had."""
    if session.get_bind().dialect.name == "sqlite":
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'"
    else:
        query = "SELECT pg_sequence_last_value(pg_get_serial_sequence('jobs', 'id')::regclass)"
    return int(session.scalar(text(query)) or 0)


def counts_no_more(session: Session, waiting: Collection[tuple[str, int, int]]) -> set[tuple[str, int, int]]:
    """Those of these attempts, each with its sweep's uid and job, whose end would not be recorded any more."""
    jobs = {job for _, job, _ in waiting}
    columns = select(Sweep.uid, Job.id, Job.attempt, Job.state, Attempt.outcome).join(Sweep, Sweep.id == Job.sweep_id)
    last = (Attempt.job_id == Job.id) & (Attempt.attempt == Job.attempt)
    rows = session.execute(columns.outerjoin(Attempt, last).where(Job.id.in_(jobs)))
    found = {(row.uid, row.id): row.attempt if _may_end(row.state, row.outcome) else None for row in rows}
    return {one for one in waiting if one[:2] in found and found[one[:2]] != one[2]}


def _may_end(state: str, outcome: str | None) -> bool:
    """Whether the end of a job's last attempt would be recorded: it runs, or was taken for lost and is no other's."""
    return state == JobState.RUNNING or (state in (JobState.READY, JobState.WAITING) and outcome == FailureReason.LOST)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The jobs that had files in the store at some moment. Of those that had ended before, it holds for ever."""

    at: datetime  # by the database's clock, before the store was asked
    jobs: Collection[int]

    def covers(self, row: Due) -> bool:
        return row.finished_at is not None and bool(row.finished_at < self.at)  # None: it cannot be read

    def shows_none(self, row: Due) -> bool:
        """Whether this job has no file, for certain."""
        return self.covers(row) and row.job_id not in self.jobs


class Retention:
    """Removes what is due, step by step. Two who do so do no harm."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database, self._store = database, store
        self._listing: Listing | None = None
        self._list_at = 0.0  # not before, by the monotonic clock

    def step(self, deadline: float = math.inf) -> bool:
        """See to some jobs; whether there is more to see to.

        Args:
            deadline: by the monotonic clock; from then on, files of no more than a few jobs are removed, for a store
                that is far away takes its time.

        Raises:
            DatabaseError: the database is away. What is left is done by whoever goes on.
            StoreError: a file could not be removed. Likewise.
        """
        with self._database.reading() as session:
            due = session.execute(_DUE.order_by(Kept.sweep_id, Kept.job_id).limit(AT_ONCE)).all()
            keeps = {sweep: keep_of(session, sweep) for sweep in {row.sweep_id for row in due}}
            # Asked before a transaction that writes: most sweeps have no model to free.
            bests = [(sweep, keep.best) for sweep, keep in sorted(keeps.items()) if keep.best is not None]
            over = {sweep: best for sweep, best in bests if below(session, sweep, best, at_most=1)[0]}
        freed, seen = 0, set()
        for sweep in sorted(keeps):
            freed += self.free(sweep, over[sweep], deadline) if sweep in over else 0
            seen.add(sweep)
            if time.monotonic() > deadline:
                break
        if freed:  # those were seen to first: what is due says that its sweep is to be looked at
            return True
        removed = self._remove([row for row in due if row.sweep_id in seen], keeps, deadline)
        return removed < len(due) or len(due) == AT_ONCE

    def free(self, sweep: int, best: int, deadline: float = math.inf) -> int:
        """Free some models of a sweep that rank below so many, in the database, then in the store; how many.

        Args:
            deadline: as of `step`, which sees to the files that are left.

        Raises:
            DatabaseError, StoreError: as `step`.
        """
        started = time.monotonic()
        with self._database.writing() as session:
            jobs = free(session, sweep, best)
        self._pause(started)
        if jobs:
            with self._database.reading() as session:
                due = session.execute(_DUE.where(Kept.job_id.in_(jobs)).order_by(Kept.job_id)).all()
                keep = keep_of(session, sweep)
            self._remove(due, {sweep: keep}, deadline)
        return len(jobs)

    def _remove(self, due: Sequence[Due], keeps: Mapping[int, Keep], deadline: float) -> int:
        """Remove the files of these jobs, then what says that they are to go; until the deadline, but of a few.

        Returns:
            The number of jobs.
        """
        removed: list[Due] = []
        if not self._store.is_local:
            self._list(due)
        for row in due:
            if len(removed) >= FEWEST and time.monotonic() > deadline:
                break
            removed.append(row)
            gone = row.rank_key is None
            if self._listing and self._listing.shows_none(row):
                continue
            if not keeps[row.sweep_id].last:
                self._store.remove_attempts(row.job_id, row.attempt, keep=None if gone else row.path)
            elif gone:
                self._store.remove(best_path(row.job_id, row.attempt))
                self._store.prune(row.job_id)
        started = time.monotonic()
        if removed:
            with self._database.writing() as session:
                for statement, gone in ((_FORGET, True), (_TIDY, False)):
                    if jobs := [(row.job_id, row.attempt) for row in removed if (row.rank_key is None) is gone]:
                        session.connection().execute(statement.where(_seen(jobs)))
            self._pause(started)
        return len(removed)

    def _list(self, due: Sequence[Due]) -> None:
        """List the jobs of a store that is no folder, where that may save many requests; seldom, if it takes long."""
        listing, began = self._listing, time.monotonic()
        unknown = sum(not (listing and listing.covers(row)) for row in due)
        if unknown <= FEWEST or began < self._list_at:
            return
        with self._database.reading() as session:
            at = session.scalars(select(now())).one()
        self._listing = Listing(at=at, jobs=self._store.jobs())
        ended = time.monotonic()
        self._list_at = ended + LIST_REST * (ended - began)

    def _pause(self, started: float) -> None:
        if self._database.dialect == "sqlite":
            time.sleep(PAUSE * (time.monotonic() - started))
