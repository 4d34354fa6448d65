"""The register of schedulers: who looks after due jobs and silent workers."""

import os
import socket
import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from db.clock import now
from db.models import Scheduler
from db.rows import execute_update

KEPT_SECONDS = 7 * 86_400.0  # one that went stays in the register for so long


@dataclass(frozen=True, kw_only=True)
class SchedulerSeen:
    """A scheduler, and when it was last there."""

    scheduler: str  # host:pid:nonce
    started_at: datetime
    heartbeat_at: datetime


def name() -> str:
    """Of a scheduler of this process, unique per start."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def heartbeat(session: Session, scheduler: str) -> None:
    """It goes round; the first time it is entered, and those that went long ago are removed."""
    alive = update(Scheduler).where(Scheduler.id == scheduler).values(heartbeat_at=now())
    if not execute_update(session, alive):
        execute_update(session, delete(Scheduler).where(Scheduler.heartbeat_at < now(-KEPT_SECONDS)))
        session.execute(insert(Scheduler).values(id=scheduler, started_at=now(), heartbeat_at=now()))


def seen(session: Session) -> list[SchedulerSeen]:
    """Those of the last days, the one that was last there first; without those whose time cannot be read."""
    found = session.scalars(select(Scheduler).order_by(Scheduler.heartbeat_at.desc(), Scheduler.id))
    return [
        SchedulerSeen(scheduler=row.id, started_at=row.started_at, heartbeat_at=row.heartbeat_at)
        for row in found
        if row.heartbeat_at is not None
    ]
