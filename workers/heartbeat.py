"""The worker's heartbeat: renews every lease at once, and learns what became of the jobs."""

import logging
import threading
import time

from db import queue, workers
from db.queue import Held
from db.session import Database
from jobs.errors import DatabaseError
from jobs.settings import Settings
from jobs.spec import Answer, Json
from workers import health
from workers.holdings import Holdings
from workers.slots import Slots

logger = logging.getLogger(__name__)


class Heartbeat:
    """A thread that beats until it is stopped."""

    def __init__(
        self, worker: str, database: Database, settings: Settings, holdings: Holdings, slots: Slots, info: Json
    ) -> None:
        """
        Args:
            info: what the register knows of the worker; how its attempts ended and what is out of service is added.
        """
        self._slots, self._info = slots, info
        self._worker, self._database, self._settings, self._holdings = worker, database, settings, holdings
        self._stopping = threading.Event()
        self._confirmed = time.monotonic()  # when the database last answered
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.heartbeat_seconds):
            self._show_life()
            held = self._holdings.attempts()
            try:
                self._holdings.tell(self._beat(held))
                self._confirmed = time.monotonic()
            except DatabaseError as error:
                logger.warning("no heartbeat: %s", error)
                self._give_up_if_alone_for_long(held)
            except Exception:  # a worker without a heartbeat would lose every job it takes
                logger.exception("no heartbeat")

    def _show_life(self) -> None:
        """To the health check of a container: this thread goes round, wherever the database is."""
        if self._settings.health_file:
            try:
                health.touch(self._settings.health_file)
            except OSError as error:
                logger.warning("GRIDYARD_HEALTH_FILE: %s", error)

    def _beat(self, held: set[Held]) -> dict[Held, Answer]:
        with self._database.writing() as session:
            out, attempts = self._slots.out_of_service(), self._holdings.outcomes.counted()
            info = self._info | {"attempts": attempts, "out_of_service": out}
            slots, busy = self._slots.in_service(), self._slots.busy()
            workers.heartbeat(session, self._worker, slots=slots, busy=busy, info=info)
            return queue.renew(session, self._worker, held, self._settings.lease_seconds)

    def _give_up_if_alone_for_long(self, held: set[Held]) -> None:
        # Others have long taken the jobs over; their results, not ours, will count.
        if time.monotonic() - self._confirmed > self._settings.offline_seconds:
            self._holdings.tell(dict.fromkeys(held, Answer.CLAIM_LOST))
