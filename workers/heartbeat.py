"""The worker's heartbeat: renews every lease at once, and learns what became of the jobs."""

import logging
import random
import threading

from db import queue, workers
from db.queue import Held
from db.session import Database
from jobs.errors import DatabaseError
from jobs.settings import Settings
from jobs.spec import Answer
from workers.holdings import Holdings
from workers.slots import Slots

logger = logging.getLogger(__name__)


class Heartbeat:
    """A thread that beats until it is stopped."""

    def __init__(self, worker: str, database: Database, settings: Settings, holdings: Holdings, slots: Slots) -> None:
        self._slots = slots
        self._worker, self._database, self._settings, self._holdings = worker, database, settings, holdings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.heartbeat_seconds * random.uniform(0.8, 1.0)):  # not all in step
            held = self._holdings.attempts()
            try:
                self._holdings.tell(self._beat(held))
                self._holdings.heard()
            except DatabaseError as error:
                logger.warning("no heartbeat: %s", error)
                self._give_up_if_alone_for_long(held)
            except Exception:  # a worker without a heartbeat would lose every job it takes
                logger.exception("no heartbeat")

    def _beat(self, held: set[Held]) -> dict[Held, Answer]:
        # A connection that says nothing must be given up early enough for another to renew the leases in time.
        with self._database.writing(patience=self._settings.lease_seconds / 3) as session:
            workers.heartbeat(session, self._worker, busy=self._slots.busy())
            answers = queue.renew(session, self._worker, held, self._settings.lease_seconds)
        # In a transaction of its own: these jobs may be others' by now, who lock them in another order.
        if lost := [one for one, answer in answers.items() if answer is Answer.CLAIM_LOST]:
            with self._database.writing() as session:
                queue.came_back(session, self._worker, lost)
        return answers

    def _give_up_if_alone_for_long(self, held: set[Held]) -> None:
        # Others have long taken the jobs over; their results, not ours, will count.
        if self._holdings.silence() > self._settings.offline_seconds:
            self._holdings.tell(dict.fromkeys(held, Answer.CLAIM_LOST))
