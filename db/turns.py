"""Whose turn it is: the sweeps that a claim may take jobs of, best first.

A sweep has a turn while it is open, has ready jobs, and fewer of its jobs run than it may have. The best is that of the
highest priority; of equal ones, that which holds the fewest slots; then the oldest.

Most claims count nothing: one sweep is the best, without a limit. Where something must be counted, the running jobs of
a sweep with a limit or the slots of equal sweeps, PostgreSQL's claimers of a queue take turns: two who count at once
would both find room for one.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Row,
    ScalarSelect,
    Select,
    Text,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import Session

from db.models import Count, Job, Sweep, literal
from db.rows import table
from jobs.states import JobState, SweepState

TURNS = 5  # names, with the queue, the lock of who must count before a claim; any number that nobody else uses

JOBS, SWEEPS, COUNTS = table(Job), table(Sweep), table(Count)
ONE = literal_column("1", Integer)  # planners know nothing of a bound LIMIT, and fear much of it
THIS_SWEEP, FIRST = (bindparam(name, type_=Integer) for name in ("sweep", "first"))
IS_READY, IS_RUNNING = (JOBS.c.state == literal(state) for state in (JobState.READY, JobState.RUNNING))
_among_sweeps = bindparam("sweeps", type_=Integer, expanding=True)
_COLUMNS = (SWEEPS.c.id, SWEEPS.c.uid, SWEEPS.c.priority, SWEEPS.c.max_running)


def _is_open(sweeps: FromClause) -> tuple[ColumnElement[bool], ...]:
    """Sweeps of a queue that are open, and whose limit of running jobs is not reached."""
    running = select(func.sum(COUNTS.c.number)).where(
        COUNTS.c.sweep_id == sweeps.c.id, COUNTS.c.state == literal(JobState.RUNNING)
    )
    has_room = func.coalesce(running.scalar_subquery(), 0) < sweeps.c.max_running
    is_open = sweeps.c.state == literal(SweepState.OPEN)
    return sweeps.c.queue == bindparam("queue"), is_open, or_(sweeps.c.max_running.is_(None), has_room)


def _has_ready_job(sweeps: FromClause) -> ColumnElement[bool]:
    return exists().where(JOBS.c.sweep_id == sweeps.c.id, IS_READY)


def _open_sweeps() -> Select[Any]:
    """Those of a queue that have ready jobs, best first, but for the slots that equal ones hold."""
    best_first = ((SWEEPS.c.id == func.coalesce(FIRST, 0)).desc(), SWEEPS.c.priority.desc(), SWEEPS.c.id)
    return select(*_COLUMNS).where(*_is_open(SWEEPS), _has_ready_job(SWEEPS)).order_by(*best_first)


def undisputed() -> ScalarSelect[int]:
    """The best sweep, if nothing need be counted for a claim: it has no limit, and none is equal to it."""
    best, others = _open_sweeps().limit(ONE).subquery("best"), SWEEPS.alias("others")
    equal = (others.c.priority == best.c.priority, others.c.id != best.c.id)
    disputed = exists().where(*equal, *_is_open(others), _has_ready_job(others))
    is_first = best.c.id == func.coalesce(FIRST, 0)
    return select(best.c.id).where(best.c.max_running.is_(None), or_(is_first, ~disputed)).scalar_subquery()


def _slots_held_of() -> Select[Any]:
    held = select(JOBS.c.sweep_id, JOBS.c.worker, JOBS.c.slot).where(JOBS.c.sweep_id.in_(_among_sweeps), IS_RUNNING)
    slots = held.distinct().subquery("held")
    return select(slots.c.sweep_id, func.count().label("slots")).group_by(slots.c.sweep_id)


OPEN_SWEEPS = _open_sweeps()
OPEN_SWEEP = select(*_COLUMNS).where(SWEEPS.c.id == THIS_SWEEP, *_is_open(SWEEPS))
TAKE_TURNS = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("queue", type_=Text), TURNS)))
RUNNING = (
    select(COUNTS.c.sweep_id, func.sum(COUNTS.c.number).label("number"))
    .where(COUNTS.c.sweep_id.in_(_among_sweeps), COUNTS.c.state == literal(JobState.RUNNING))
    .group_by(COUNTS.c.sweep_id)
)
HELD_SLOTS = _slots_held_of()


def has_ready(session: Session, queue: str) -> bool:
    """Whether a worker of this queue would find a job. Reads only: a look takes no write lock."""
    return session.connection().execute(OPEN_SWEEPS, {"queue": queue, "first": None}).first() is not None


def count_ready(session: Session, queue: str, at_most: int) -> int:
    """How many jobs of open sweeps are ready, counted no further than `at_most`."""
    ready = select(JOBS.c.id).join(SWEEPS, JOBS.c.sweep_id == SWEEPS.c.id).where(*_is_open(SWEEPS), IS_READY)
    counted = select(func.count()).select_from(ready.limit(at_most).subquery())
    return session.connection().execute(counted, {"queue": queue}).scalar_one()


def next_sweep(session: Session, queue: str, first: int | None = None, leaving: int | None = None) -> int | None:
    """The sweep whose job would be claimed now. Reads only: a look takes no write lock.

    Args:
        leaving: as if one slot more were idle, of those that this sweep holds.
    """
    connection = session.connection()
    found = connection.execute(OPEN_SWEEPS, {"queue": queue, "first": first}).all()
    best = [row for row in found if _rank(row, first) == _rank(found[0], first)]
    if len(best) < 2:
        return best[0].id if best else None
    held = _slots_held(connection, [row.id for row in best])
    held[leaving or 0] -= 1
    return min(best, key=lambda row: (held[row.id], row.id)).id  # type: ignore[no-any-return]


def in_turn(
    connection: Connection, queue: str, first: int | None, only: int | None = None
) -> list[tuple[Row[Any], int | None]]:
    """The sweeps that a claim may take jobs of, best first, each with the most jobs; None: no limit.

    Args:
        first: the sweep that comes before all others.
        only: this sweep, or none; whether it has ready jobs is left to the claim.
    """
    sweeps = OPEN_SWEEPS if only is None else OPEN_SWEEP
    values = {"queue": queue} | ({"first": first} if only is None else {"sweep": only})
    found = connection.execute(sweeps, values).all()
    if _is_counting(found, first) and connection.dialect.name == "postgresql":
        connection.execute(TAKE_TURNS, {"queue": queue})
        found = connection.execute(sweeps, values).all()
    if not _is_counting(found, first):
        return [(row, None) for row in found]
    ids = [row.id for row in found]
    held = _slots_held(connection, ids) if len(ids) > 1 else Counter()
    running = {row.sweep_id: row.number for row in connection.execute(RUNNING, {"sweeps": ids})}
    turns = []
    for row in sorted(found, key=lambda row: (*_rank(row, first), held[row.id], row.id)):
        room = None if row.max_running is None else row.max_running - int(running.get(row.id, 0))
        if room is None or room > 0:
            turns.append((row, room))
    return turns


def _rank(sweep: Row[Any], first: int | None) -> tuple[bool, int]:
    """Lower is better; equal sweeps share the slots."""
    return sweep.id != first, -sweep.priority


def _slots_held(connection: Connection, sweeps: Collection[int]) -> Counter[int]:
    """sweep -> slots whose trainers train its jobs, however many each."""
    return Counter({row.sweep_id: row.slots for row in connection.execute(HELD_SLOTS, {"sweeps": list(sweeps)})})


def _is_counting(sweeps: Sequence[Row[Any]], first: int | None) -> bool:
    """Whether it takes a count to say which of these a claim may take jobs of, and how many."""
    ranks = {_rank(row, first) for row in sweeps}
    return len(ranks) < len(sweeps) or any(row.max_running for row in sweeps)
