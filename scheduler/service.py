"""The scheduler's loop: what is due becomes ready, silent workers' jobs are rescued, the bell is rung.

Every step is a statement that may be repeated, so two schedulers do no harm, and one that was away picks up.
"""

import logging
import threading
import time
from dataclasses import dataclass

from db import counts, queue, removal, schedulers, workers
from db.retention import Retention
from db.session import Database
from jobs.errors import DatabaseError, StoreError
from jobs.settings import Settings
from jobs.store import Store
from workers import bell

REMOVING_SECONDS = 1.0  # of a round
KEEPING_SECONDS = 0.5  # of a round
STORE_SECONDS = 30.0  # after a store that failed, before it is asked again
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round of the loop did."""

    due: int  # waiting jobs that became ready
    rescued: int  # jobs taken back from silent workers
    closed: int  # sweeps that have ended
    removed: int  # sweeps of dead submitters and dead deleters
    rung: int  # bells


class Service:
    """The scheduler of one database. Run it in a process or a thread of its own."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._name = schedulers.name()
        self._keep_at = 0.0  # not before, by the monotonic clock

    def run(self, stop: threading.Event) -> None:
        """Go round until `stop` is set. A database that is away is waited for."""
        logger.info("scheduler: a round every %g s on %s", self._settings.tick_seconds, self._database)
        while not stop.is_set():
            try:
                self.tick()
            except DatabaseError as error:
                logger.warning("no round: %s", error)
            except Exception:  # the loop is the last one to notice that something is wrong: it must go on
                logger.exception("no round")
            stop.wait(self._settings.tick_seconds)

    def tick(self) -> Round:
        """One round.

        Raises:
            DatabaseError: the database is away.
        """
        with self._database.writing() as session:
            rescued = queue.rescue(session)
            due = queue.make_due_ready(session)
            closed = queue.close_finished(session)
            workers.forget_old(session)
            counts.gather(session)
            schedulers.heartbeat(session, self._name)
        removed = self._remove_abandoned()
        self._tidy()
        rung = self._ring() if self._settings.broker else 0
        if rescued or due or removed:
            logger.info("rescued %d, due %d, removed %d", rescued, due, removed)
        return Round(due=due, rescued=rescued, closed=closed, removed=removed, rung=rung)

    def _remove_abandoned(self) -> int:
        """For a while only: the other steps of the round must not wait for a million rows."""
        with self._database.reading() as session:
            sweeps = removal.abandoned(session)
        gone, deadline = 0, time.monotonic() + REMOVING_SECONDS
        for sweep in sweeps:
            this = removal.Removal(self._database, sweep, Store(self._settings.store_url))
            try:
                while more := this.step():
                    if time.monotonic() > deadline:
                        return gone
            except StoreError as error:
                logger.warning("sweep %d is not removed: %s", sweep, error)
                continue
            gone += not more
        return gone

    def _tidy(self) -> None:
        """Remove what succeeded jobs need no more; for a while only, as the removal."""
        deadline = time.monotonic() + KEEPING_SECONDS
        if time.monotonic() < self._keep_at:
            return
        try:
            retention = Retention(self._database, Store(self._settings.store_url))
            while retention.step() and time.monotonic() < deadline:
                pass
        except StoreError as error:
            logger.warning("files that are of no more use stay for now: %s", error)
            self._keep_at = time.monotonic() + STORE_SECONDS

    def _ring(self) -> int:
        """One bell for each idle slot that would find a job, however many jobs there are."""
        rung = 0
        with self._database.reading() as session:
            idle = workers.idle_slots(session)
            bells = {name: queue.count_ready(session, name, at_most=slots) for name, slots in idle.items()}
        for name, count in bells.items():
            if count and bell.ring(self._settings, name, count):
                rung += count
        return rung
