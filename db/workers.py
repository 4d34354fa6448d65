"""The register of workers: who is there, and how many slots are idle."""

from dataclasses import dataclass

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from db import documents
from db.clock import is_past, now
from db.models import Worker
from db.rows import execute_update
from jobs.spec import Json

ALIVE_SECONDS = 30.0  # since the last heartbeat
LARGEST_PID = (1 << 31) - 1
KEPT_SECONDS = 7 * 86_400.0  # a worker that stopped stays in the register for so long
LIVING = (Worker.stopped_at.is_(None), ~is_past(Worker.heartbeat_at, ALIVE_SECONDS))  # gave a sign of life lately


@dataclass(frozen=True, kw_only=True)
class OutOfService:
    """A slot of a living worker that takes no more jobs."""

    worker: str
    why: str


@dataclass(frozen=True, kw_only=True)
class WorkerTrouble:
    """What goes wrong in a living worker, as its last heartbeat told."""

    worker: str
    kind: str  # "ends": of attempts, which the database does not take; "store": it cannot be used from there
    told: str  # what goes wrong, and why

    def __str__(self) -> str:
        return f"worker {self.worker}: {self.told}"


@dataclass(frozen=True, kw_only=True)
class LivingWorker:
    """A worker that gave a sign of life lately, and the process that it is."""

    worker: str
    host: str | None
    pid: int | None


def register(session: Session, worker: str, queue: str, slots: int, info: Json) -> None:
    """Enter a worker that starts."""
    session.add(Worker(id=worker, queue=queue, slots=slots, started_at=now(), heartbeat_at=now(), info=info))


def heartbeat(session: Session, worker: str, *, slots: int, busy: int, info: Json) -> None:
    """The worker is alive, has so many slots in service, and so many of them hold a job.

    Args:
        info: what is to be known of it now, in place of what it said at its start.
    """
    values = {"heartbeat_at": now(), "slots": slots, "busy": busy, "info": info}
    execute_update(session, update(Worker).where(Worker.id == worker).values(values))


def stop(session: Session, worker: str, info: Json | None = None) -> None:
    """The worker has stopped in order.

    Args:
        info: the last that is to be known of it; None: what it has said.
    """
    values = {"stopped_at": now(), "busy": 0} | ({} if info is None else {"info": info})
    execute_update(session, update(Worker).where(Worker.id == worker).values(values))


def of_process(session: Session, host: str, pid: int) -> list[str]:
    """The workers that this process entered and that have not stopped: one, unless a process id was given out again."""
    found = session.execute(select(Worker.id, Worker.info).where(Worker.stopped_at.is_(None)))
    told = ((row.id, documents.mapping(row.info)) for row in found)
    return [worker for worker, info in told if (info.get("host"), info.get("pid")) == (host, pid)]


def idle_slots(session: Session) -> dict[str, int]:
    """Queue → slots of living workers that hold no job."""
    query = select(Worker.queue, func.sum(Worker.slots - Worker.busy)).where(*LIVING).group_by(Worker.queue)
    return {queue: int(idle) for queue, idle in session.execute(query)}


def count_slots(session: Session, queue: str) -> int:
    """Slots of a queue's living workers."""
    return session.scalar(select(func.sum(Worker.slots)).where(Worker.queue == queue, *LIVING)) or 0


def any_alive(session: Session) -> bool:
    """Whether a worker gave a sign of life lately."""
    return bool(session.scalar(select(exists().where(*LIVING))))


def forget_old(session: Session) -> int:
    """Remove workers that stopped or went silent long ago; their number."""
    return execute_update(session, delete(Worker).where(Worker.heartbeat_at < now(-KEPT_SECONDS)))


def alive(session: Session, queue: str) -> list[LivingWorker]:
    """The workers of a queue that gave a sign of life lately, oldest first. One that died hard is among them still."""
    query = select(Worker.id, Worker.info).where(Worker.queue == queue, *LIVING)
    query = query.order_by(Worker.started_at, Worker.id)
    found = ((row.id, documents.mapping(row.info)) for row in session.execute(query))
    return [
        LivingWorker(worker=worker, host=info.get("host"), pid=documents.whole(info.get("pid"), 1, LARGEST_PID))
        for worker, info in found
    ]


def out_of_service(session: Session) -> list[OutOfService]:
    """The slots of living workers that take no more jobs, such as those of a GPU that is gone."""
    query = select(Worker.id, Worker.info).where(*LIVING).order_by(Worker.id)
    return [
        OutOfService(worker=row.id, why=why)
        for row in session.execute(query)
        for why in documents.mapping(documents.mapping(row.info).get("out_of_service")).values()
        if isinstance(why, str)
    ]


def troubles(session: Session, queue: str | None = None) -> list[WorkerTrouble]:
    """What goes wrong in living workers.

    Args:
        queue: only in its workers.
    """
    query = select(Worker.id, Worker.info).where(*LIVING).order_by(Worker.id)
    if queue is not None:
        query = query.where(Worker.queue == queue)
    return [
        WorkerTrouble(worker=row.id, kind=kind, told=told)
        for row in session.execute(query)
        for kind, told in sorted(documents.mapping(documents.mapping(row.info).get("troubles")).items())
        if isinstance(told, str)
    ]
