"""A worker: one Celery worker process with warm slots."""

import logging
import os
import platform
import socket
import time
import uuid
import warnings
from typing import Any

import celery.apps.worker
from celery import signals
from celery.exceptions import SecurityWarning, WorkerShutdown

from db import workers
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseError, GridyardError, NoTrainer
from jobs.settings import Settings
from jobs.spec import Json
from jobs.urls import masked
from workers import celery_app, messages
from workers.arrival import arrive
from workers.claimer import Sizes
from workers.delivery import Delivery
from workers.departure import Departure
from workers.devices import AUTO, slot_devices
from workers.heartbeat import Heartbeat, show_life
from workers.holdings import Holdings
from workers.look import Look
from workers.slot import Slot
from workers.slots import Slots
from workers.store_check import StoreCheck

logger = logging.getLogger(__name__)
PATIENCE_SECONDS = 10.0  # without an answer of the database: a slot that waits hears neither its trainer nor SIGTERM


def start(
    settings: Settings,
    slots: int | None = None,
    queue: str = "cpu",
    first: int | None = None,
    *,
    until_stdin_closes: bool = False,
) -> int:
    """Work until SIGTERM or Ctrl-C; then give back what is held, and return the exit code. See `Departure`.

    A database that cannot be reached is waited for.

    Args:
        slots: packs at a time; None: one per GPU, else per core.
        first: the sweep whose jobs are claimed before all others.
        until_stdin_closes: stop also then.

    Raises:
        InputError: slots is not positive.
        DatabaseError: the database cannot be used.
        NoTrainer: none can be started with these settings, or on this machine.
        GridyardError: trainers are killed before they are ready.
    """
    holdings = Holdings()
    departure = Departure(holdings, settings)
    if until_stdin_closes:
        departure.ask_when_stdin_closes()
    devices = slot_devices(queue, slots, settings.device, settings.slots_per_gpu)
    database = Database(settings.db_url, patience=PATIENCE_SECONDS)
    if not arrive(database, away=lambda _: show_life(settings)):
        return 0
    info = _info(devices, settings)
    worker = _enter(database, queue, len(devices), info)
    crew = Slots(_slots(worker, queue, database, settings, holdings, devices, first), stop=departure.ask)
    heartbeat = Heartbeat(worker, database, settings, holdings, crew, info)
    delivery = Delivery(database, settings, holdings)
    crew.warm_up()
    StoreCheck(settings, holdings.troubles).start()
    heartbeat.start()
    delivery.start()
    logger.info("worker %s: %d slots for queue %s", worker, len(devices), queue)
    if queue == "gpu" and settings.device == AUTO and not any(devices):
        logger.warning("no GPU is visible here, so trainers take what they find; GRIDYARD_DEVICE=cuda refuses that")
    try:
        code = _serve(settings, queue, len(devices), database, crew, departure)
    finally:
        delivery.stop()
        heartbeat.stop()
        crew.close()
        _leave(database, worker, heartbeat.info())
    if crew.broken is not None:
        first_line = crew.broken.partition("\n")[0]
        kind = GridyardError if crew.by_chance else NoTrainer
        raise kind(f"the worker has stopped because it cannot start a trainer: {first_line}")
    return code


def _enter(database: Database, queue: str, slots: int, info: Json) -> str:
    """Enter this process in the register; its id, unique per start, which is on every line of its log."""
    worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    logs.always(worker=worker)
    with database.writing() as session:
        workers.register(session, worker, queue, slots, info)
    return worker


def _slots(
    worker: str,
    queue: str,
    database: Database,
    settings: Settings,
    holdings: Holdings,
    devices: list[str | None],
    first: int | None,
) -> list[Slot]:
    sizes = Sizes()
    return [
        Slot(
            worker, queue, database, settings, holdings, sizes, device, first, number, shared=devices.count(device) > 1
        )
        for number, device in enumerate(devices)
    ]


def _serve(
    settings: Settings, queue: str, concurrency: int, database: Database, slots: Slots, departure: Departure
) -> int:
    """Run the Celery worker until it is told to stop."""
    app = celery_app.make(settings, queue)
    messages.register(app, slots)
    Look.slots, Look.database, Look.queue, Look.seconds = slots, database, queue, settings.look_every
    app.steps["worker"].add(Look)

    # Celery leaves logging alone when somebody answers this.
    @signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
    def keep_our_logging(**_: Any) -> None:
        for chatty in ("celery", "kombu", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)

    # At the start of a worker of root: it warns of pickle, and ours takes messages in JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    if settings.log == logs.JSON:
        celery.apps.worker.safe_say = logs.say  # its word when it stops goes past all logging

    # Celery sends this from its signal handler; the slots then stop, and only then its warm shutdown ends.
    @signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def drain(**_: Any) -> None:
        departure.begin()
        if not settings.broker:
            raise WorkerShutdown(0)  # or the in-memory transport sleeps on for up to 2 s before it notices

    celery_worker = app.Worker(
        pool="threads",  # a thread per slot, which only supervises; prefork would fork a process with CUDA or threads
        concurrency=concurrency,
        queues=[queue],
        quiet=True,  # no banner
        without_gossip=True,  # no talk between workers: the database knows who is there
        without_mingle=True,
        without_heartbeat=True,
    )
    celery_worker.start()
    return celery_worker.exitcode or 0


def _leave(database: Database, worker: str, info: Json) -> None:
    try:
        with database.writing() as session:
            workers.stop(session, worker, info)
    except DatabaseError as error:
        logger.warning("the worker leaves without a word: %s", error)
    database.close()


def _info(devices: list[str | None], settings: Settings) -> dict[str, Any]:
    gpus = sorted({device for device in devices if device})
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "gpus": gpus,
        "clock": time.time(),
        "store": masked(settings.store_url),
    }
