"""The scheduler's loop: what is due becomes ready, silent workers' jobs are rescued, the bell is rung.

Every step is a statement that may be repeated, so two schedulers do no harm, and one that was away picks up. Of
several, one rings.
"""

import logging
import threading
import time

from db import clock, counts, extension, removal, schedulers, turns, upkeep, workers
from db.removal import Removal
from db.retention import Retention
from db.ringer import Ringer
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseAway, DatabaseError, StoreError
from jobs.settings import Settings
from jobs.store import Store
from scheduler import extend
from scheduler.pulse import Pulse
from scheduler.round import Round
from scheduler.steps import Steps
from workers import bell
from workers.pace import rest

REMOVING_SECONDS = 1.0  # of a round
PATIENCE_SECONDS = 30.0  # without an answer of the database; no statement of a round takes nearly so long
QUIET_SECONDS = 30.0  # at most, without a bell after one that was not rung
KEEPING_SECONDS = 0.5  # of a round
STORE_SECONDS = 30.0  # after a store that failed, before it is asked again
logger = logging.getLogger(__name__)


class Service:
    """The scheduler of one database. Run it in a process or a thread of its own."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self.pulse = Pulse(settings.tick_seconds)
        self._steps = Steps(self.pulse)
        self._idle = logs.Trouble(logger, "no round", over="the rounds go on")
        self._ringer = Ringer(database)
        self._ring_at = 0.0  # not before, by the monotonic clock
        self._round_at: float | None = None  # when the last round ended, by the wall clock, which goes on in a sleep
        self._deaf_until = 0.0  # by the wall clock, too
        self._name = schedulers.name()
        self._keep_at = 0.0  # not before, by the monotonic clock
        self._removals: dict[int, Removal] = {}
        self._retention: Retention | None = None  # made with its store, which may be away

    def run(self, stop: threading.Event) -> None:
        """Go round until `stop` is set. A database that is away is waited for."""
        logger.info("scheduler: a round every %g s on %s", self._settings.tick_seconds, self._database)
        while not stop.is_set():
            began = time.monotonic()
            try:
                self.pulse.done(self.tick(), time.monotonic() - began)
                self._idle.gone()
            except DatabaseError as error:
                self.pulse.failed(error, away=isinstance(error, DatabaseAway))
                self._idle.met(error)
            except Exception as error:  # the loop is the last one to notice that something is wrong: it must go on
                self.pulse.failed(error, away=False)
                self._idle.met(error, trace=error)
            stop.wait(self._settings.tick_seconds)
        self.close()

    def close(self) -> None:
        """Let another scheduler ring."""
        self._ringer.close()

    def tick(self) -> Round:
        """One round.

        Raises:
            DatabaseError: the database is away.
        """
        try:
            with self._database.writing(patience=PATIENCE_SECONDS) as session:
                rescued = (
                    upkeep.rescue(session, most_lost=self._settings.most_lost)
                    if self._would_have_heard(clock.seconds_up(session))
                    else 0
                )
                due = upkeep.make_due_ready(session)
                closed = upkeep.close_finished(session)
                workers.forget_old(session)
                counts.gather(session)
                schedulers.heartbeat(session, self._name)
        except DatabaseAway:
            self._deaf_until = time.time() + self._settings.lease_seconds
            raise
        self._round_at = time.time()  # also if the rest of the round fails: rescues go on
        removed = extended = rung = 0
        with self._steps.turn("removal"):
            removed = self._remove_abandoned()
        with self._steps.turn("extension"):
            extended = self._extend_abandoned()
        if time.monotonic() >= self._keep_at:
            with self._steps.turn("retention"):
                self._tidy()
        if self._settings.broker and time.monotonic() >= self._ring_at:
            with self._steps.turn("bells"):
                rung = self._ring()
        self._round_at = time.time()
        if rescued or due or removed:
            logger.info("rescued %d, due %d, removed %d", rescued, due, removed)
        return Round(due=due, rescued=rescued, closed=closed, removed=removed, rung=rung, extended=extended)

    def _would_have_heard(self, seconds_up: float) -> bool:
        """Whether a lease that has run out tells of a silent worker.

        While the database was away, or the whole machine slept, nobody could renew one: everybody has the length of a
        lease then to be heard again. Else the first round after it would take every job from workers that train on.

        Args:
            seconds_up: since the database's server was started.
        """
        lease, now = self._settings.lease_seconds, time.time()
        if self._round_at is not None and now - self._round_at > lease:
            self._deaf_until = now + lease
        return not now < self._deaf_until <= now + lease and seconds_up > lease

    def _remove_abandoned(self) -> int:
        """For a while only: the other steps of the round must not wait for a million rows."""
        with self._database.reading() as session:
            sweeps = removal.abandoned(session)
        gone, deadline = 0, time.monotonic() + REMOVING_SECONDS
        self._removals = {sweep: begun for sweep, begun in self._removals.items() if sweep in sweeps}
        undone = {sweep: f"sweep {sweep} is not removed" for sweep in sweeps}
        self._steps.parts("removal", undone.values())
        for sweep in sweeps:
            with self._steps.part("removal", undone[sweep]):
                if sweep not in self._removals:  # else it goes on where it was, and lists no store again
                    self._removals[sweep] = Removal(self._database, sweep, Store(self._settings.store_url))
                while self._removals[sweep].step():
                    if time.monotonic() > deadline:
                        return gone
                gone += 1
        return gone

    def _extend_abandoned(self) -> int:
        """For a while only, as the removal."""
        with self._database.reading() as session:
            sweeps = extension.abandoned(session)
        gone_on, deadline = 0, time.monotonic() + REMOVING_SECONDS
        undone = {sweep: f"sweep {sweep} is not extended" for sweep in sweeps}
        self._steps.parts("extension", undone.values())
        for sweep in sweeps:
            with self._steps.part("extension", undone[sweep]):
                extend.carry_on(self._database, sweep, seconds=max(0.001, deadline - time.monotonic()))
                gone_on += 1
        return gone_on

    def _tidy(self) -> None:
        """Remove what succeeded jobs need no more; for a while only, as the removal."""
        deadline = time.monotonic() + KEEPING_SECONDS
        try:
            self._retention = self._retention or Retention(self._database, Store(self._settings.store_url))
            while self._retention.step(deadline) and time.monotonic() < deadline:
                pass
        except StoreError:
            self._keep_at = time.monotonic() + STORE_SECONDS
            raise

    def _ring(self) -> int:
        """One bell for each idle slot that would find a job, however many jobs there are."""
        rung, began = 0, time.monotonic()
        if not self._ringer.may_ring():
            return 0
        with self._database.reading() as session:
            idle = workers.idle_slots(session)
            bells = {name: turns.count_ready(session, name, at_most=slots) for name, slots in idle.items()}
        for name, count in bells.items():
            if count and bell.ring(self._settings, name, count):
                rung += count
            elif count:  # the broker is away: rescues must not wait for it in each round
                self._ring_at = rest(began, most=QUIET_SECONDS)
                self._steps.fail("bells", ConnectionError("the broker does not take them"))
                break
        return rung
