"""How many jobs of a sweep are in each state, without counting them.

Triggers keep the numbers when jobs change or go (migration 0004). Who inserts jobs calls `add`: SQLite's triggers fire
for each row, and one that counted what comes in took as long as all the rest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, column, func, select, table, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import Count, Sweep, literal
from jobs.states import JobState, SweepState

Counts = dict[str, int]  # state -> number of jobs; every state is there

GATHERED_AT_ONCE = 1_000  # rows
SESSIONS = table("pg_stat_activity", column("pid"))  # those of PostgreSQL that are there


def of_sweeps(session: Session, sweeps: Iterable[int]) -> dict[int, Counts]:
    """The counts of these sweeps."""
    found = {sweep: dict.fromkeys((state.value for state in JobState), 0) for sweep in sweeps}
    number = func.sum(Count.number).label("number")
    query = select(Count.sweep_id, Count.state, number).where(Count.sweep_id.in_(found))
    for row in session.execute(query.group_by(Count.sweep_id, Count.state)):
        found[row.sweep_id][row.state] = int(row.number)
    return found


def total() -> ColumnElement[int]:
    """The number of a sweep's jobs, as a part of a query of sweeps."""
    query = select(func.coalesce(func.sum(Count.number), 0)).where(Count.sweep_id == Sweep.id)
    return query.scalar_subquery()


def gather(session: Session) -> int:
    """Put what sessions of PostgreSQL have counted into part 0, where the session or the sweep has ended.

    So the rows to sum do not grow with the sessions that ever were. A row that somebody counts in at this moment is
    left for the next time; repeating it, or doing it twice at once, changes no sum.

    Returns:
        The number of rows that went.
    """
    if session.get_bind().dialect.name != "postgresql":
        return 0
    ended = Count.sweep_id.not_in(select(Sweep.id).where(Sweep.state == literal(SweepState.OPEN)))
    silent = Count.part.not_in(select(SESSIONS.c.pid))
    some = select(Count).where(text("part <> 0"), ended | silent).order_by(Count.sweep_id, Count.state)
    found = session.scalars(some.limit(GATHERED_AT_ONCE).with_for_update(skip_locked=True)).all()
    sums: Counter[tuple[int, str]] = Counter()
    for row in found:
        sums[row.sweep_id, row.state] += row.number
        session.delete(row)
    session.flush()
    add(session, sums)
    return len(found)


def add(session: Session, jobs: Mapping[tuple[int, str], int]) -> None:
    """Count jobs that came in: (sweep, state) -> number."""
    rows = [{"sweep_id": sweep, "state": state, "part": 0, "number": number} for (sweep, state), number in jobs.items()]
    if not rows:
        return
    added = insert(Count)
    added = added.on_conflict_do_update(
        index_elements=(Count.sweep_id, Count.state, Count.part), set_={"number": Count.number + added.excluded.number}
    )
    session.execute(added, rows)
