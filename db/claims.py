"""The claim: how a worker takes the best ready job, and jobs that may train with it.

A ready job is claimable while its sweep is open: the claim looks for open sweeps first, then takes the first ready jobs
of the best one. All statements are made once, so that each is compiled once.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Integer,
    Row,
    ScalarSelect,
    Select,
    Update,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement

from db import workers
from db.clock import now
from db.models import Attempt, Job, Sweep, literal
from db.rows import job_spec, sweep_spec, table
from jobs.spec import Claim
from jobs.states import JobState, SweepState

# Ready jobs of a pack are counted no further: no pack grows larger. Who takes jobs one by one gets a shorter count:
# on PostgreSQL 4,096 cost as much as all the rest of such a claim.
MORE, MORE_OF_ONE = 4_096, 256

JOBS, SWEEPS = table(Job), table(Sweep)
ONE = literal_column("1", Integer)  # planners know nothing of a bound LIMIT, and fear much of it

_sweep, _pack, _first = (bindparam(name, type_=Integer) for name in ("sweep", "of_pack", "first"))
_limit, _slots = (bindparam(name, type_=Integer) for name in ("limit", "slots"))

_IS_OPEN = SWEEPS.c.state == literal(SweepState.OPEN)
_IS_READY = JOBS.c.state == literal(JobState.READY)
_READY = (JOBS.c.sweep_id == _sweep, _IS_READY)


def _open_sweeps() -> Select[Any]:
    """Those of a queue that have ready jobs, best first."""
    has_ready_job = exists().where(JOBS.c.sweep_id == SWEEPS.c.id, _IS_READY)
    return (
        select(SWEEPS.c.id, SWEEPS.c.uid)
        .where(SWEEPS.c.queue == bindparam("queue"), _IS_OPEN, has_ready_job)
        .order_by((SWEEPS.c.id == func.coalesce(_first, 0)).desc(), SWEEPS.c.priority.desc(), SWEEPS.c.id)
    )


class among(FunctionElement[bool]):
    """Whether a job is one of few that were chosen: `among(JOBS.c.id, select(…).scalar_subquery())`.

    PostgreSQL's planner takes an array for ten rows and looks each up by its id. Of a subquery with a computed LIMIT it
    expects a tenth of the table, and would join that with all of it.
    """

    inherit_cache = True  # without a type: a boolean would be compared with 1 on SQLite, and no index could serve it


@compiles(among)
def _among(element: among, compiler: Any, **kw: Any) -> str:
    column, chosen = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} IN {chosen}"


@compiles(among, "postgresql")
def _postgresql_among(element: among, compiler: Any, **kw: Any) -> str:
    column, chosen = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = ANY(ARRAY{chosen})"


def _taking(chosen: CTE) -> Update:
    """The guarded UPDATE by which these jobs are taken."""
    return (
        update(JOBS)
        .where(among(JOBS.c.id, select(chosen.c.id).scalar_subquery()), _IS_READY)
        .values(
            state=JobState.RUNNING,
            worker=bindparam("by"),
            attempt=JOBS.c.attempt + 1,
            lease_expires_at=now(bindparam("lease")),
        )
        .returning(JOBS.c.id, JOBS.c.attempt, JOBS.c.params, JOBS.c.seed, JOBS.c.pack, JOBS.c.failures)
    )


def _locked(chosen: Select[Any], name: str) -> CTE:
    # SKIP LOCKED keeps claimers from queueing behind each other; a common table expression keeps the planner from
    # evaluating LIMIT more than once. SQLite has neither need: its writers come one after the other.
    return chosen.with_for_update(skip_locked=True, of=JOBS).cte(name)


def _best(*columns: ColumnElement[Any]) -> CTE:
    return _locked(select(*columns).where(*_READY).order_by(JOBS.c.pack, JOBS.c.id).limit(ONE), "best")


def _mates(pack: ColumnElement[int], limit: ColumnElement[int], *where: ColumnElement[bool]) -> CTE:
    """Ready jobs of a pack. One that has failed may be what killed its trainer: it is for a claim of its own."""
    mates = select(JOBS.c.id).where(*_ready_of(pack), JOBS.c.failures == 0, *where)
    return _locked(mates.order_by(JOBS.c.pack, JOBS.c.id).limit(limit), "mates")


def _count(pack: ColumnElement[int], at_most: ColumnElement[int], *where: ColumnElement[bool]) -> ScalarSelect[int]:
    ready = select(ONE).where(*_ready_of(pack), *where).order_by(JOBS.c.pack, JOBS.c.id).limit(at_most).subquery()
    return select(func.count()).select_from(ready).scalar_subquery()


def _ready_of(pack: ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
    # A range of one number, in the order (pack, id): only the index of the claim serves that. With an equality planners
    # think that the LIMIT is soon reached, and walk through all jobs by id.
    return (*_READY, JOBS.c.pack.between(pack, pack))


def _best_with_mates() -> CTE:
    """The best job and, of n others of its pack, n / slots rounded down: with itself a slot's part, rounded up."""
    best = _best(JOBS.c.id, JOBS.c.pack, JOBS.c.failures)
    first, pack, failures = (select(best.c[name]).scalar_subquery() for name in ("id", "pack", "failures"))
    later = JOBS.c.id > first
    part = _count(pack, (_limit - 1) * _slots, later) // _slots
    mates = _mates(pack, part, later, failures == 0)
    return union_all(select(best.c.id), select(mates.c.id)).cte("chosen")


def _like() -> CTE:
    """A slot's part of a pack's jobs, rounded up."""
    return _mates(_pack, (_count(_pack, _limit * _slots) + _slots - 1) // _slots)


OPEN_SWEEPS = _open_sweeps()
OPEN_SWEEP = select(SWEEPS.c.id, SWEEPS.c.uid).where(
    SWEEPS.c.id == _sweep, SWEEPS.c.queue == bindparam("queue"), _IS_OPEN
)
TAKE_ONE = _taking(_best(JOBS.c.id))
TAKE_SOME = _taking(_best_with_mates())
TAKE_LIKE = _taking(_like())
COUNT_MORE = select(_count(_pack, _limit))
BEGIN_ATTEMPTS = insert(table(Attempt)).values(started_at=now())


def has_ready(session: Session, queue: str) -> bool:
    """Whether a worker of this queue would find a job. Reads only: a look takes no write lock."""
    return session.connection().execute(OPEN_SWEEPS, {"queue": queue, "first": None}).first() is not None


def next_sweep(session: Session, queue: str, first: int | None = None) -> int | None:
    """The sweep whose job would be claimed now. Reads only: a look takes no write lock."""
    best = session.connection().execute(OPEN_SWEEPS, {"queue": queue, "first": first}).first()
    return None if best is None else best.id


def count_ready(session: Session, queue: str, at_most: int) -> int:
    """How many jobs of open sweeps are ready, counted no further than `at_most`."""
    ready = select(Job.id).join(Sweep, Job.sweep_id == Sweep.id).where(Sweep.queue == queue)
    some = ready.where(Sweep.state == literal(SweepState.OPEN), Job.state == literal(JobState.READY)).limit(at_most)
    return session.scalars(select(func.count()).select_from(some.subquery())).one()


def claim(
    session: Session,
    queue: str,
    worker: str,
    lease_seconds: float,
    *,
    limit: int = 1,
    first: int | None = None,
    like: tuple[int, int] | None = None,
) -> list[Claim]:
    """Take the best ready job, and up to `limit` - 1 that may train with it: highest priority first, then oldest first.

    ready → running, attempt + 1, with a lease. A job that has failed before is claimed alone. Of a pack's ready jobs no
    more are taken than come to each slot of the queue's living workers.

    Args:
        first: the sweep that comes before all others.
        like: (sweep, pack): only such jobs, to join others that train.
    """
    values = {"queue": queue, "first": first, "by": worker, "lease": lease_seconds}
    if like:
        values |= {"sweep": like[0], "of_pack": like[1]}
    connection = session.connection()
    for sweep, uid in connection.execute(OPEN_SWEEP if like else OPEN_SWEEPS, values).all():
        spec = sweep_spec(session, sweep, uid)
        most = min(limit, spec.pack or limit)
        statement = TAKE_LIKE if like else TAKE_ONE if most == 1 else TAKE_SOME
        if most > 1 or like:
            values |= {"limit": most, "slots": max(1, workers.count_slots(session, queue))}
        taken = sorted(connection.execute(statement, values | {"sweep": sweep}), key=lambda row: row.id)
        if taken:  # else others were quicker
            return _claims(session, (sweep, uid), worker, taken, MORE if most > 1 else MORE_OF_ONE)
    return []


def _claims(session: Session, named: tuple[int, str], worker: str, taken: list[Row[Any]], at_most: int) -> list[Claim]:
    connection, spec, pack = session.connection(), sweep_spec(session, *named), taken[0].pack
    connection.execute(BEGIN_ATTEMPTS, [{"job_id": row.id, "attempt": row.attempt, "worker": worker} for row in taken])
    more = (
        0 if spec.pack == 1 else connection.scalar(COUNT_MORE, {"sweep": named[0], "of_pack": pack, "limit": at_most})
    )
    return [
        Claim(
            spec=job_spec(spec, *named, row.id, row.params, row.seed),
            worker=worker,
            attempt=row.attempt,
            time_limit=spec.time_limit,
            pack=pack,
            most=1 if row.failures else spec.pack,  # it may be what killed its trainer: nobody joins it
            more=0 if row.failures else more or 0,
        )
        for row in taken
    ]
