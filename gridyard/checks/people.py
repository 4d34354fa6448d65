"""Of who is at work: workers, the scheduler, the queues between them, and the times that they keep."""

import math
from collections import Counter
from collections.abc import Iterator

from db import diagnosis, extension, schedulers
from db import workers as register
from db.diagnosis import WorkerSeen
from db.session import reading
from db.workers import ALIVE_SECONDS
from gridyard.checks.finding import Finding, ok, warning, wrong
from gridyard.progress import duration
from jobs.settings import Settings
from jobs.urls import masked

BEATS = 3.0  # heartbeats in a lease: with fewer, one that is late costs a job
LATE_SECONDS = 60.0  # after which a scheduler should have seen to something
TOLD_SECONDS = 86_400.0  # a worker that has gone without a word is told of for so long


def intervals(settings: Settings) -> Iterator[Finding]:
    lease, beat = settings.lease_seconds, settings.heartbeat_seconds
    if lease < BEATS * beat:
        yield warning(
            f"lease_seconds = {lease:g} is less than {BEATS:g} heartbeats of {beat:g} s: one that is late costs a job",
            f"set GRIDYARD_LEASE_SECONDS to at least {BEATS * beat:g}",
        )
    if settings.tick_seconds > lease:
        yield warning(
            f"tick_seconds = {settings.tick_seconds:g} is longer than a lease of {lease:g} s: rescues come late",
            "set GRIDYARD_TICK_SECONDS to a second or so",
        )
    if settings.offline_seconds < lease:
        yield warning(
            f"offline_seconds = {settings.offline_seconds:g} is less than a lease: trainers give up before others may",
            "set GRIDYARD_OFFLINE_SECONDS to some minutes",
        )
    if lease >= BEATS * beat and settings.tick_seconds <= lease <= settings.offline_seconds:
        yield ok(f"lease {lease:g} s, heartbeat {beat:g} s, round {settings.tick_seconds:g} s")


def _alive_seconds(settings: Settings) -> float:
    """Since the last sign of a worker: what holds jobs, and has not renewed its leases, does not count as running."""
    return min(ALIVE_SECONDS, settings.lease_seconds)


def workers(settings: Settings) -> Iterator[Finding]:
    with reading(settings.db_url) as session:
        found, troubles = diagnosis.workers(session, _alive_seconds(settings)), register.troubles(session)
    alive = [worker for worker in found if worker.alive]
    for worker in alive:
        yield ok(
            f"{worker.worker}: queue {worker.queue}, {worker.busy} of {worker.slots} slots busy, "
            f"heard {duration(worker.silent)} ago"
        )
    for trouble in troubles:
        yield wrong(f"{trouble.worker}: {trouble.told}", "mend what it names; the worker then goes on by itself")
    for worker in found:
        if not worker.alive and (worker.silent < TOLD_SECONDS or math.isinf(worker.silent)):
            yield warning(
                f"{worker.worker}: silent for {duration(worker.silent)}, and it has not said good-bye",
                "if its machine or process is gone, nothing: its jobs are rescued, and after a day it is told no more",
            )
    yield from _other_stores(alive, masked(settings.store_url))
    if not alive:
        yield ok("none is running; `gridyard run` brings its own, `gridyard worker` starts one")


def _other_stores(alive: list[WorkerSeen], ours: str) -> Iterator[Finding]:
    """One machine may call a shared folder otherwise than another, so this is to know of, not wrong."""
    others = Counter(worker.store for worker in alive if worker.store not in (None, ours))
    for store, number in others.items():
        yield warning(
            f"{number} of {len(alive)} workers keep models and checkpoints in {store}, and the store here is {ours}",
            "let GRIDYARD_STORE name the same store everywhere; nothing is to do where it is the same by another path",
        )


def scheduler(settings: Settings) -> Iterator[Finding]:
    with reading(settings.db_url) as session:
        seen, moment = schedulers.seen(session), diagnosis.clock(session)
        overdue = diagnosis.overdue(session, LATE_SECONDS)
        alive = any(worker.alive for worker in diagnosis.workers(session, _alive_seconds(settings)))
    silent = {one.scheduler: (moment - one.heartbeat_at).total_seconds() for one in seen}
    running = [name for name, seconds in silent.items() if seconds < max(30.0, 3 * settings.tick_seconds)]
    went = [f"{name} went {duration(seconds)} ago" for name, seconds in silent.items()]
    last = went[0] if went else "none was ever here"
    start = "start one: `gridyard scheduler` (`gridyard run` brings its own)"
    waiting = "1 job waits" if overdue == 1 else f"{overdue} jobs wait"
    if overdue and running:
        yield wrong(f"{waiting} for a retry or a rescue, although one runs", "look into its log")
    elif overdue:
        yield wrong(f"{waiting} for a retry or a rescue, and no scheduler runs: {last}", start)
    elif running:
        for name in running:  # several do no harm
            yield ok(f"{name}: heard {duration(silent[name])} ago")
    elif alive:
        yield warning(f"workers run, and no scheduler: {last}. Nothing is tried again or rescued meanwhile", start)
    else:
        yield ok(f"none is running: {last}")


def queues(settings: Settings) -> Iterator[Finding]:
    with reading(settings.db_url) as session:
        waiting = diagnosis.unattended(session, _alive_seconds(settings))
    for name, number in waiting.items():
        more = "at least " if number >= diagnosis.MOST else ""
        yield wrong(
            f"queue {name}: {more}{number} {'job is' if number == 1 else 'jobs are'} ready, and no worker takes them",
            f"start one: `gridyard worker --queue {name}`",
        )
    if not waiting:
        yield ok("no job waits for a worker that is not there")


def sweeps(settings: Settings) -> Iterator[Finding]:
    with reading(settings.db_url) as session:
        found = diagnosis.stuck(session, 3 * LATE_SECONDS)
        half = extension.abandoned(session, 3 * LATE_SECONDS)
    for one in found:
        yield warning(
            f"sweep {one.sweep} is {one.state} for {duration(one.seconds)}, and nobody goes on with it",
            "a scheduler closes it, or removes what is half there: `gridyard scheduler`",
        )
    for sweep in half:
        yield warning(
            f"sweep {sweep} is not whole: its extension was interrupted, and nobody goes on with it",
            "a scheduler does the rest: `gridyard scheduler`; or repeat the `gridyard extend`",
        )
    if not found and not half:
        yield ok("none is stuck")
