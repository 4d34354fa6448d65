"""What `gridyard doctor` asks the database: its clock and version, who is there, and what waits for nobody."""

import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, false, func, insert, select, text, update
from sqlalchemy.orm import Session

from db import documents, turns
from db.clock import is_past, now
from db.models import Base, Job, Sweep, Worker, literal
from db.workers import ALIVE_SECONDS
from jobs.states import UNFINISHED, JobState, SweepState

MOST = 1_000  # jobs that are counted


@dataclass(frozen=True, kw_only=True)
class WorkerSeen:
    """A worker that has not said good-bye."""

    worker: str
    queue: str
    slots: int
    busy: int
    silent: float  # seconds since its last heartbeat; infinite: that cannot be read
    ahead: float | None  # seconds that its clock was ahead of the database's when it started; None: not told
    store: str | None  # its URL, without passwords; None: not told
    alive: bool


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """A sweep that does not go on by itself."""

    sweep: int
    state: str
    seconds: float  # for so long; infinite: that cannot be read


def clock(session: Session) -> datetime:
    """The database's."""
    return session.scalars(select(now())).one()


def version(session: Session) -> str:
    """Of SQLite or of the PostgreSQL server."""
    query = "SELECT sqlite_version()" if session.get_bind().dialect.name == "sqlite" else "SHOW server_version"
    return str(session.scalars(text(query)).one())


def try_writing(session: Session) -> None:
    """Do to each table what commands do, to no row of it. Who may not, or finds no such table, learns it here."""
    for table in Base.metadata.sorted_tables:
        key = next(iter(table.primary_key))
        none = select(table).where(false())
        for statement in (update(table).values({key: key}), delete(table)):
            session.connection().execute(statement.where(false()))
        session.connection().execute(insert(table).from_select(list(table.columns), none))


def workers(session: Session, alive_seconds: float = ALIVE_SECONDS) -> list[WorkerSeen]:
    """Those that have not said good-bye, the longest silent last.

    Args:
        alive_seconds: since the last heartbeat of one that is alive.
    """
    moment = clock(session)
    found = session.scalars(select(Worker).where(Worker.stopped_at.is_(None)).order_by(Worker.heartbeat_at.desc()))
    return [
        WorkerSeen(
            worker=row.id,
            queue=row.queue,
            slots=row.slots,
            busy=row.busy,
            silent=_since(row.heartbeat_at, moment),
            alive=_since(row.heartbeat_at, moment) < alive_seconds,
            ahead=_ahead(row),
            store=_store(row),
        )
        for row in found
    ]


def _since(before: datetime | None, moment: datetime) -> float:
    return math.inf if before is None else (moment - before).total_seconds()


def _ahead(worker: Worker) -> float | None:
    told, started = documents.numbers(worker.info).get("clock"), worker.started_at
    return None if told is None or started is None else told - started.timestamp()


def _store(worker: Worker) -> str | None:
    told = documents.mapping(worker.info).get("store")
    return told if isinstance(told, str) else None


def unattended(session: Session, alive_seconds: float = ALIVE_SECONDS) -> dict[str, int]:
    """Queue → ready jobs, counted up to MOST, of queues that no living worker works on. Arguments as `workers`."""
    queues = set(session.scalars(select(Sweep.queue).where(Sweep.state == literal(SweepState.OPEN)).distinct()))
    attended = {worker.queue for worker in workers(session, alive_seconds) if worker.alive}
    counted = {name: turns.count_ready(session, name, at_most=MOST) for name in sorted(queues - attended)}
    return {name: number for name, number in counted.items() if number}


def overdue(session: Session, seconds: float) -> int:
    """Jobs that a scheduler should have seen to for so long: due, or with a lease that has run out; up to MOST.

    Those whose times cannot be read are among them.
    """
    due = select(Job.id).where(Job.state == literal(JobState.WAITING), is_past(Job.due_at, seconds))
    lost = select(Job.id).where(Job.state == literal(JobState.RUNNING), is_past(Job.lease_expires_at, seconds))
    return sum(
        session.scalar(select(func.count()).select_from(query.limit(MOST).subquery())) or 0 for query in (due, lost)
    )


def stuck(session: Session, seconds: float) -> list[Stuck]:
    """Sweeps that a scheduler should have closed or removed for so long."""
    moment = clock(session)
    half = Sweep.state.in_([SweepState.SUBMITTING, SweepState.DELETING]) & is_past(Sweep.touched_at, seconds)
    unfinished = select(Job.id).where(Job.sweep_id == Sweep.id, Job.state.in_(UNFINISHED)).exists()
    ended = select(func.max(Job.finished_at)).where(Job.sweep_id == Sweep.id).scalar_subquery()
    over = (Sweep.state == literal(SweepState.OPEN)) & ~unfinished
    found = [
        Stuck(sweep=row.id, state=row.state, seconds=_since(row.touched_at, moment))
        for row in session.execute(select(Sweep.id, Sweep.state, Sweep.touched_at).where(half))
    ]
    for row in session.execute(select(Sweep.id, Sweep.state, ended.label("ended")).where(over)):
        if row.ended is not None and (waits := (moment - row.ended).total_seconds()) > seconds:
            found.append(Stuck(sweep=row.id, state=row.state, seconds=waits))
    return found
