"""What `gridyard doctor` asks the database: its clock and version, who is there, and what waits for nobody."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, inspect, select, text
from sqlalchemy.orm import Session

from db import documents, turns
from db.clock import now
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
    silent: float  # seconds since its last heartbeat
    ahead: float | None  # seconds that its clock was ahead of the database's when it started; None: not told

    @property
    def alive(self) -> bool:
        return self.silent < ALIVE_SECONDS


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """A sweep that does not go on by itself."""

    sweep: int
    state: str
    seconds: float  # for so long


def clock(session: Session) -> datetime:
    """The database's."""
    return session.scalars(select(now())).one()


def version(session: Session) -> str:
    """Of SQLite or of the PostgreSQL server."""
    query = "SELECT sqlite_version()" if session.get_bind().dialect.name == "sqlite" else "SHOW server_version"
    return str(session.scalars(text(query)).one())


def missing_tables(session: Session) -> list[str]:
    """Tables that the schema has and the database has not: somebody has dropped them."""
    return sorted(set(Base.metadata.tables) - set(inspect(session.connection()).get_table_names()))


def workers(session: Session) -> list[WorkerSeen]:
    """Those that have not said good-bye, the longest silent last."""
    moment = clock(session)
    found = session.scalars(select(Worker).where(Worker.stopped_at.is_(None)).order_by(Worker.heartbeat_at.desc()))
    return [
        WorkerSeen(
            worker=row.id,
            queue=row.queue,
            slots=row.slots,
            busy=row.busy,
            silent=(moment - row.heartbeat_at).total_seconds(),
            ahead=_ahead(row),
        )
        for row in found
    ]


def _ahead(worker: Worker) -> float | None:
    told = documents.numbers(worker.info).get("clock")
    return told - worker.started_at.timestamp() if told is not None else None


def unattended(session: Session) -> dict[str, int]:
    """Queue → ready jobs, counted up to MOST, of queues that no living worker works on."""
    queues = set(session.scalars(select(Sweep.queue).where(Sweep.state == literal(SweepState.OPEN)).distinct()))
    attended = {worker.queue for worker in workers(session) if worker.alive}
    counted = {name: turns.count_ready(session, name, at_most=MOST) for name in sorted(queues - attended)}
    return {name: number for name, number in counted.items() if number}


def overdue(session: Session, seconds: float) -> int:
    """Jobs that a scheduler should have seen to for so long: due, or with a lease that has run out; up to MOST."""
    due = select(Job.id).where(Job.state == literal(JobState.WAITING), Job.due_at < now(-seconds))
    lost = select(Job.id).where(Job.state == literal(JobState.RUNNING), Job.lease_expires_at < now(-seconds))
    return sum(
        session.scalar(select(func.count()).select_from(query.limit(MOST).subquery())) or 0 for query in (due, lost)
    )


def stuck(session: Session, seconds: float) -> list[Stuck]:
    """Sweeps that a scheduler should have closed or removed for so long."""
    moment = clock(session)
    half = Sweep.state.in_([SweepState.SUBMITTING, SweepState.DELETING]) & (Sweep.touched_at < now(-seconds))
    unfinished = select(Job.id).where(Job.sweep_id == Sweep.id, Job.state.in_(UNFINISHED)).exists()
    ended = select(func.max(Job.finished_at)).where(Job.sweep_id == Sweep.id).scalar_subquery()
    over = (Sweep.state == literal(SweepState.OPEN)) & ~unfinished
    found = [
        Stuck(sweep=row.id, state=row.state, seconds=(moment - row.touched_at).total_seconds())
        for row in session.execute(select(Sweep.id, Sweep.state, Sweep.touched_at).where(half))
    ]
    for row in session.execute(select(Sweep.id, Sweep.state, ended.label("ended")).where(over)):
        if row.ended is not None and (waits := (moment - row.ended).total_seconds()) > seconds:
            found.append(Stuck(sweep=row.id, state=row.state, seconds=waits))
    return found
