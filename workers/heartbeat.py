"""The worker's heartbeat: renews every lease at once, and learns what became of the jobs."""

import logging
import random
import threading

from db import leases, workers
from db.leases import Held
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseError
from jobs.settings import Settings
from jobs.spec import Answer, Json
from workers import health
from workers.holdings import Holdings
from workers.slots import Slots

logger = logging.getLogger(__name__)


def show_life(settings: Settings) -> None:
    """To the health check of a container: the worker is at work or waits, wherever the database is."""
    if settings.health_file:
        try:
            health.touch(settings.health_file)
        except OSError as error:
            logger.warning("GRIDYARD_HEALTH_FILE: %s", error)


class Heartbeat:
    """A thread that beats until it is stopped."""

    def __init__(
        self, worker: str, database: Database, settings: Settings, holdings: Holdings, slots: Slots, info: Json
    ) -> None:
        """
        Args:
            info: what the register knows of the worker; how its attempts ended and what goes wrong is added.
        """
        self._slots, self._info = slots, info
        self._worker, self._database, self._settings, self._holdings = worker, database, settings, holdings
        self._stopping = threading.Event()
        self._silent = logs.Trouble(logger, "no heartbeat", over="the database hears the heartbeat again")
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def info(self) -> Json:
        """What the register is to know of the worker now."""
        out, attempts = self._slots.out_of_service(), self._holdings.outcomes.counted()
        troubles = self._holdings.troubles.lasting()
        return self._info | {"attempts": attempts, "out_of_service": out, "troubles": troubles}

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.heartbeat_seconds * random.uniform(0.8, 1.0)):  # not all in step
            show_life(self._settings)
            held = self._holdings.attempts()
            try:
                self._holdings.tell(self._beat(held))
                self._holdings.heard()
                self._silent.gone()
            except DatabaseError as error:
                self._silent.met(error)
                self._give_up_if_alone_for_long(held)
            except Exception:  # a worker without a heartbeat would lose every job it takes
                logger.exception("no heartbeat")

    def _beat(self, held: set[Held]) -> dict[Held, Answer]:
        given_up = held & self._holdings.given_up()  # whatever the database says: the trainer has been told
        slots, busy = self._slots.in_service(), self._slots.busy()
        # A connection that says nothing must be given up early enough for another to renew the leases in time.
        with self._database.writing(patience=self._settings.lease_seconds / 3) as session:
            workers.heartbeat(session, self._worker, slots=slots, busy=busy, info=self.info())
            answers = leases.renew(session, self._worker, held - given_up, self._settings.lease_seconds)
        answers |= dict.fromkeys(given_up, Answer.CLAIM_LOST)
        # In a transaction of its own: these jobs may be others' by now, who lock them in another order.
        if lost := [one for one, answer in answers.items() if answer is Answer.CLAIM_LOST]:
            with self._database.writing() as session:
                leases.came_back(session, self._worker, lost)
        return answers

    def _give_up_if_alone_for_long(self, held: set[Held]) -> None:
        # Others have long taken the jobs over; their results, not ours, will count.
        if self._holdings.silence() > self._settings.offline_seconds:
            self._holdings.tell(dict.fromkeys(held, Answer.CLAIM_LOST))
