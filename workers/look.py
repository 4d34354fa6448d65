"""A look at the jobs table every now and then: the bell only shortens the wait."""

import logging
import random
import threading
from typing import Any

from celery import bootsteps

from db import turns
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseError
from workers.slots import Slots

logger = logging.getLogger(__name__)


class Look(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of the Celery worker: while it runs, a thread looks and puts idle slots to work.

    It hands work to the pool itself, not by a message: so it needs no broker, and goes on when the broker is away.
    """

    requires = {"celery.worker.components:Pool"}

    # Set by `workers.main` before the worker starts: Celery makes the step itself.
    slots: Slots
    database: Database
    queue: str
    seconds: float

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._stopping = threading.Event()
        self._blind = logs.Trouble(logger, "no look", over="the table is looked at again")

    def start(self, worker: Any) -> None:
        threading.Thread(target=self._run, args=(worker.pool,), name="look", daemon=True).start()

    def stop(self, worker: Any) -> None:
        self._stopping.set()

    def _run(self, pool: Any) -> None:
        while not self._stopping.wait(self.seconds * random.uniform(0.8, 1.2)):  # workers must not look in step
            try:
                self._look(pool)
                self._blind.gone()
            except DatabaseError as error:
                self._blind.met(error)
            except Exception:  # without it a worker would sleep for ever
                logger.exception("no look")

    def _look(self, pool: Any) -> None:
        idle = self.slots.idle()
        if not idle:
            return
        with self.database.reading() as session:
            if not turns.has_ready(session, self.queue):
                return
        for _ in range(idle):
            if not self._stopping.is_set():
                pool.apply_async(self.slots.work, callback=lambda _: None)
