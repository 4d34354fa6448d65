"""A worker: one Celery worker process with warm slots."""

import logging
import os
import platform
import signal
import socket
import time
import uuid
from typing import Any

from celery import signals
from celery.exceptions import WorkerShutdown

from db import migrate, workers
from db.session import Database
from jobs.errors import DatabaseError, GridyardError
from jobs.settings import Settings
from workers import celery_app, messages
from workers.claimer import Sizes
from workers.devices import slot_devices
from workers.heartbeat import Heartbeat
from workers.holdings import Holdings
from workers.look import Look
from workers.slot import Slot
from workers.slots import Slots

logger = logging.getLogger(__name__)


def start(settings: Settings, slots: int | None = None, queue: str = "cpu", first: int | None = None) -> int:
    """Work until SIGTERM or Ctrl-C; then give back what is held, and return the exit code.

    Args:
        slots: packs at a time; None: one per GPU, else per core.
        first: the sweep whose jobs are claimed before all others.

    Raises:
        InputError: slots is not positive.
        DatabaseError: the database cannot be used.
        GridyardError: no trainer can be started.
    """
    devices = slot_devices(queue, slots, settings.device)
    database = Database(settings.db_url)
    migrate.prepare(database)
    worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    with database.writing() as session:
        workers.register(session, worker, queue, len(devices), _info(devices))
    holdings, sizes = Holdings(), Sizes()
    slots_here = [Slot(worker, queue, database, settings, holdings, sizes, device, first) for device in devices]
    crew = Slots(slots_here, stop=lambda: os.kill(os.getpid(), signal.SIGTERM))
    heartbeat = Heartbeat(worker, database, settings, holdings, crew)
    crew.warm_up()
    heartbeat.start()
    logger.info("worker %s: %d slots for queue %s", worker, len(devices), queue)
    try:
        code = _serve(settings, queue, len(devices), database, crew, holdings)
    finally:
        heartbeat.stop()
        crew.close()
        _leave(database, worker)
    if crew.broken is not None:
        raise GridyardError(f"the worker has stopped because it cannot start a trainer: {crew.broken}")
    return code


def _serve(
    settings: Settings, queue: str, concurrency: int, database: Database, slots: Slots, holdings: Holdings
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

    # Celery sends this from its signal handler; the slots then stop, and only then its warm shutdown ends.
    @signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def drain(**_: Any) -> None:
        holdings.draining.set()
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


def _leave(database: Database, worker: str) -> None:
    try:
        with database.writing() as session:
            workers.stop(session, worker)
    except DatabaseError as error:
        logger.warning("the worker leaves without a word: %s", error)
    database.close()


def _info(devices: list[str | None]) -> dict[str, Any]:
    gpus = sorted({device for device in devices if device})
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "gpus": gpus,
        "clock": time.time(),
    }
