"""The claim: how a worker takes the best ready job, and jobs that may train with it.

A ready job is claimable while its sweep has a turn: the claim looks for such sweeps first (`db.turns`), then takes the
first ready jobs of the best one. All statements are made once, so that each is compiled once.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Row,
    ScalarSelect,
    Select,
    Text,
    Update,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement

from db import damaged, turns, workers
from db.clock import now
from db.models import Attempt, Job, Sweep
from db.rows import job_spec, sweep_spec, table
from db.turns import IS_READY, IS_RUNNING, ONE, THIS_SWEEP
from jobs.errors import RowDamaged
from jobs.retry import SUSPECT
from jobs.spec import Claim, SweepSpec
from jobs.states import JobState

# Ready jobs of a pack are counted no further: no pack grows larger. Who takes jobs one by one gets a shorter count:
# on PostgreSQL 4,096 cost as much as all the rest of such a claim.
MORE, MORE_OF_ONE = 4_096, 256

JOBS, SWEEPS, ATTEMPTS = table(Job), table(Sweep), table(Attempt)

_pack, _limit, _slots, _most_more = (
    bindparam(name, type_=Integer) for name in ("of_pack", "limit", "slots", "most_more")
)

_MAY_BE_CLAIMED = or_(JOBS.c.lost < SUSPECT, bindparam("alone", type_=Boolean))


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
    uid, epochs = (
        select(SWEEPS.c[name]).where(SWEEPS.c.id == JOBS.c.sweep_id).scalar_subquery().label(name)
        for name in ("uid", "epochs")
    )
    given = (JOBS.c[name] for name in ("id", "sweep_id", "attempt", "params", "seed", "pack", "failures", "lost"))
    return (
        update(JOBS)
        .where(among(JOBS.c.id, select(chosen.c.id).scalar_subquery()), IS_READY)
        .values(
            state=JobState.RUNNING,
            worker=bindparam("by"),
            slot=bindparam("by_slot"),
            attempt=JOBS.c.attempt + 1,
            lease_expires_at=now(bindparam("lease")),
        )
        .returning(*given, uid, epochs)
    )


def _claiming(chosen: CTE) -> dict[str, Executable]:
    """dialect -> the statement that claims these jobs; PostgreSQL's does all: each one more is a way to the server."""
    taken = _taking(chosen).cte("taken")
    attempt = select(taken.c.id, taken.c.attempt, bindparam("by", type_=Text), now())
    begun = insert(ATTEMPTS).from_select(["job_id", "attempt", "worker", "started_at"], attempt).cte("begun")
    sweep, pack = (select(func.min(taken.c[name])).scalar_subquery() for name in ("sweep_id", "pack"))
    # The statement does not see its own changes: what it takes is among the ready ones.
    more = _count(_most_more, (*_in(IS_READY, pack, sweep), JOBS.c.id.not_in(select(taken.c.id))))
    return {"sqlite": _taking(chosen), "postgresql": select(taken, more.label("more")).add_cte(begun)}


def _locked(chosen: Select[Any], name: str) -> CTE:
    # SKIP LOCKED keeps claimers from queueing behind each other; a common table expression keeps the planner from
    # evaluating LIMIT more than once. SQLite has neither need: its writers come one after the other.
    return chosen.with_for_update(skip_locked=True, of=JOBS).cte(name)


def _best(*columns: ColumnElement[Any], sweep: ColumnElement[int] = THIS_SWEEP) -> CTE:
    ready = select(*columns).where(JOBS.c.sweep_id == sweep, IS_READY, _MAY_BE_CLAIMED)
    return _locked(ready.order_by(JOBS.c.pack, JOBS.c.id).limit(ONE), "best")


def _best_of_all() -> CTE:
    """The first ready job of an undisputed sweep: none, if others are just about to take all that this sweep has."""
    return _best(JOBS.c.id, sweep=turns.undisputed())


def _mates(pack: ColumnElement[int], limit: ColumnElement[int], *where: ColumnElement[bool]) -> CTE:
    """Ready jobs of a pack. One that has failed may be what killed its trainer: it is for a claim of its own."""
    mates = select(JOBS.c.id).where(*_in(IS_READY, pack), JOBS.c.failures == 0, *where)
    return _locked(mates.order_by(JOBS.c.pack, JOBS.c.id).limit(limit), "mates")


def _count(at_most: ColumnElement[int], *parts: Sequence[ColumnElement[bool]]) -> ScalarSelect[int]:
    """How many jobs are in these parts of the index together, counted no further than `at_most`."""
    one = ONE.label("one")
    found = [
        select(select(one).where(*part).order_by(JOBS.c.pack, JOBS.c.id).limit(at_most).subquery()) for part in parts
    ]
    rows = (union_all(*found).limit(at_most) if len(found) > 1 else found[0]).subquery()
    return select(func.count()).select_from(rows).scalar_subquery()


def _in(
    state: ColumnElement[bool], pack: ColumnElement[int], sweep: ColumnElement[int] = THIS_SWEEP
) -> tuple[ColumnElement[bool], ...]:
    """Jobs of a pack in a state."""
    # A range of one number, in the order (pack, id): only the index of the claim serves that. With an equality planners
    # think that the LIMIT is soon reached, and walk through all jobs by id.
    return JOBS.c.sweep_id == sweep, state, JOBS.c.pack.between(pack, pack)


def _best_with_mates() -> CTE:
    """The best job, and others of its pack up to a slot's share of all that are ready or train."""
    best = _best(JOBS.c.id, JOBS.c.pack, JOBS.c.failures)
    first, pack, failures = (select(best.c[name]).scalar_subquery() for name in ("id", "pack", "failures"))
    later = JOBS.c.id > first
    others = (*_in(IS_READY, pack), later), _in(IS_RUNNING, pack)
    share = _count((_limit - 1) * _slots, *others) // _slots  # without itself rounded down: with it, rounded up
    mates = _mates(pack, share, later, failures == 0)
    return union_all(select(best.c.id), select(mates.c.id)).cte("chosen")


def _rest() -> CTE:
    """What a slot that has just claimed one job of a pack may have besides: as `_best_with_mates`, without the best."""
    others = _in(IS_READY, _pack), _in(IS_RUNNING, _pack)
    return _mates(_pack, (_count(_limit * _slots + 1, *others) - 1) // _slots)


def _like() -> CTE:
    """A slot's part of a pack's ready jobs, rounded up."""
    return _mates(_pack, (_count(_limit * _slots, _in(IS_READY, _pack)) + _slots - 1) // _slots)


TAKE_BEST = _claiming(_best_of_all())
TAKE_ONE = _claiming(_best(JOBS.c.id))
TAKE_SOME = _claiming(_best_with_mates())
TAKE_REST = _claiming(_rest())
TAKE_LIKE = _claiming(_like())
HAS_SUSPECT = select(exists().where(JOBS.c.sweep_id == THIS_SWEEP, IS_READY, JOBS.c.lost >= SUSPECT))
COUNT_MORE = select(_count(_most_more, _in(IS_READY, _pack)))  # SQLite
BEGIN_ATTEMPTS = insert(ATTEMPTS).values(started_at=now())  # SQLite


def claim(
    session: Session,
    queue: str,
    worker: str,
    lease_seconds: float,
    *,
    slot: int = 0,
    limit: int = 1,
    first: int | None = None,
    like: tuple[int, int] | None = None,
    beside_one: bool = False,
    alone: bool = True,
) -> list[Claim]:
    """Take the best ready job, and up to `limit` - 1 that may train with it.

    The best is of the sweep with the highest priority; of equal ones, that which holds the fewest slots, then the
    oldest. No more of a sweep's jobs run at once than it may have.

    ready → running, attempt + 1, with a lease. A job that has failed before is claimed alone. A slot's share is the
    number of the pack's jobs that are ready or running, divided by the slots of the queue's living workers, rounded up:
    no more are taken. So 512 jobs come to two slots as 256 and 256.

    Args:
        slot: of the worker, from 0: it trains what is claimed.
        first: the sweep that comes before all others.
        like: (sweep, pack): only such jobs, to join others that train, and of those that are ready no more than come to
            each slot: what is left over keeps all slots fed.
        beside_one: with `like`, the slot has just claimed one job of the pack, and nothing else of it: up to `limit`
            others complete its share.
        alone: the worker holds nothing else, so it may have a job with which workers were lost. Else it gets nothing
            of sweeps that come after one with such a job: it comes to rest, and may have it then, unless others do.
    """
    by = {"by": worker, "by_slot": slot, "lease": lease_seconds, "alone": alone}
    values: dict[str, Any] = by | {"queue": queue, "first": first, "most_more": MORE_OF_ONE}
    if limit == 1 and not like and (claims := _claim(session, TAKE_BEST, values)):
        return claims
    if like:
        values["of_pack"] = like[1]
    for sweep, room in turns.in_turn(session.connection(), queue, first, only=like[0] if like else None):
        most = min(limit, _most_together(session, sweep.id, sweep.uid) or limit, room or limit)
        statement = TAKE_ONE if most == 1 else TAKE_SOME
        if like:
            statement = TAKE_REST if beside_one else TAKE_LIKE
        if most > 1 or like:
            values |= {"limit": most, "slots": max(1, workers.count_slots(session, queue)), "most_more": MORE}
        if claims := _claim(session, statement, values | {"sweep": sweep.id}):  # else others were quicker
            return claims
        if not alone and session.connection().execute(HAS_SUSPECT, {"sweep": sweep.id}).scalar():
            return []  # what comes after it would keep the worker busy for ever
    return []


def _claim(session: Session, statement: dict[str, Executable], values: dict[str, Any]) -> list[Claim]:
    connection = session.connection()
    taken = sorted(connection.execute(statement[connection.dialect.name], values), key=lambda row: row.id)
    if not taken:
        return []
    some = taken[0]
    more = some.more if connection.dialect.name == "postgresql" else _begin(connection, taken, values)
    try:
        spec = sweep_spec(session, some.sweep_id, some.uid)
    except RowDamaged as damage:
        damaged.fail(connection, taken, values["by"], damage)
        damaged.pause(connection, some.sweep_id)
        return []
    claims = []
    for row in taken:
        try:
            claims.append(_as_claim(row, spec, values["by"], more))
        except RowDamaged as damage:
            damaged.fail(connection, [row], values["by"], damage)
    return claims


def _as_claim(row: Row[Any], spec: SweepSpec, worker: str, more: int) -> Claim:
    """
    Raises:
        RowDamaged: its parameters cannot be read.
    """
    return Claim(
        spec=job_spec(spec, row.sweep_id, row.uid, row.id, row.params, row.seed, row.epochs),
        worker=worker,
        attempt=row.attempt,
        time_limit=spec.time_limit,
        pack=row.pack,
        most=1 if row.failures else spec.pack,  # it may be what killed its trainer: nobody joins it
        more=0 if row.failures or spec.pack == 1 else more,
        suspect=row.lost >= SUSPECT,
    )


def _most_together(session: Session, sweep: int, uid: str) -> int:
    """As the sweep says; 1 where it cannot be read: the claim of one job finds that out."""
    try:
        return sweep_spec(session, sweep, uid).pack
    except RowDamaged:
        return 1


def _begin(connection: Connection, taken: list[Row[Any]], values: dict[str, Any]) -> int:
    """SQLite: begin the attempts; how many jobs of the pack are still ready."""
    attempts = [{"job_id": row.id, "attempt": row.attempt, "worker": values["by"]} for row in taken]
    connection.execute(BEGIN_ATTEMPTS, attempts)
    of_pack = {"sweep": taken[0].sweep_id, "of_pack": taken[0].pack, "most_more": values["most_more"]}
    return connection.execute(COUNT_MORE, of_pack).scalar_one()
