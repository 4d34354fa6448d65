"""The state of the whole yard in a few numbers, for whoever watches it. As cheap with a million jobs as with a few."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from db import documents
from db.clock import is_past, now
from db.models import Count, Sweep, Worker, literal
from db.workers import LIVING
from jobs.states import JobState, SweepState

TALLIED_SECONDS = 3_600.0  # since the last heartbeat: what a worker counted is looked at for so long


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """The yard at one moment."""

    jobs: Mapping[tuple[str, str], int]  # (queue, JobState) -> jobs of all sweeps that are not being deleted
    sweeps: Mapping[str, int]  # SweepState -> sweeps
    oldest: Mapping[str, float]  # queue -> seconds since its oldest sweep with a ready job was submitted
    workers: Mapping[str, int]  # queue -> workers alive
    slots: Mapping[tuple[str, str], int]  # (queue, "idle", "busy" or "out of service") -> slots of workers alive
    tallies: Mapping[str, Mapping[str, int]]  # worker -> how its attempts ended -> how many


def look(session: Session) -> Gauges:
    """Read all of them. Only counts that are kept are read, no job."""
    workers, slots, tallies = _workers(session)
    return Gauges(
        jobs=_jobs(session),
        sweeps=_sweeps(session),
        oldest=_oldest(session),
        workers=workers,
        slots=slots,
        tallies=tallies,
    )


def _jobs(session: Session) -> dict[tuple[str, str], int]:
    query = select(Sweep.queue, Count.state, func.sum(Count.number)).join(Sweep, Count.sweep_id == Sweep.id)
    query = query.where(Sweep.state != SweepState.DELETING).group_by(Sweep.queue, Count.state)
    return {(queue, state): int(number) for queue, state, number in session.execute(query)}


def _sweeps(session: Session) -> dict[str, int]:
    query = select(Sweep.state, func.count()).group_by(Sweep.state)
    return {row[0]: row[1] for row in session.execute(query)}


def _oldest(session: Session) -> dict[str, float]:
    ready = (
        select(Count.sweep_id)
        .where(Count.sweep_id == Sweep.id, Count.state == literal(JobState.READY))
        .group_by(Count.sweep_id)
        .having(func.sum(Count.number) > 0)
        .exists()
    )
    query = select(Sweep.queue, func.min(Sweep.created_at), now())
    query = query.where(Sweep.state == literal(SweepState.OPEN), ready).group_by(Sweep.queue)
    found = session.execute(query).all()
    return {queue: max(0.0, (at - since).total_seconds()) for queue, since, at in found if since is not None}


def _workers(session: Session) -> tuple[dict[str, int], dict[tuple[str, str], int], dict[str, dict[str, int]]]:
    alive = and_(*LIVING).label("alive")
    lately = ~is_past(Worker.heartbeat_at, TALLIED_SECONDS)
    query = select(Worker.id, Worker.queue, Worker.slots, Worker.busy, Worker.info, alive).where(lately)
    workers: dict[str, int] = {}
    slots: dict[tuple[str, str], int] = {}
    tallies = {}
    for row in session.execute(query):
        info = documents.mapping(row.info)
        attempts = documents.mapping(info.get("attempts")).items()
        tallies[row.id] = {name: number for name, count in attempts if (number := documents.whole(count)) is not None}
        if row.alive:
            workers[row.queue] = workers.get(row.queue, 0) + 1
            out = len(documents.mapping(info.get("out_of_service")))
            for use, number in (("idle", row.slots - row.busy), ("busy", row.busy), ("out of service", out)):
                slots[row.queue, use] = slots.get((row.queue, use), 0) + number
    return workers, slots, tallies
