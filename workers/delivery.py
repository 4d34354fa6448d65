"""Ends that wait on disk, brought to the database when it is back: those of this worker, and of dead ones."""

import logging
import threading
import time
from collections import Counter
from dataclasses import replace

from db import leases, results
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseAway, DatabaseError, NotFound, RowDamaged
from jobs.settings import Settings
from jobs.spec import JobSpec
from workers.holdings import Holdings
from workers.spool import Spool, Waiting, age_seconds
from workers.watch import Watch
from workers.writing import free, in_words, together, write_ends

logger = logging.getLogger(__name__)
EVERY_SECONDS = 1.0
AGAIN_SECONDS = 60.0  # until an end that cannot be delivered just now is looked at again
KEPT_SECONDS = 7 * 86_400.0  # an end of a sweep that this database does not know may be another database's


class Delivery:
    """A thread that delivers until it is stopped. Of two workers that deliver the same, the fence lets one through."""

    def __init__(self, database: Database, settings: Settings, holdings: Holdings) -> None:
        self._database, self._settings, self._holdings = database, settings, holdings
        self._spool = Spool(settings.spool_folder)
        self._passed: set[Waiting] = set()  # not ours, or nothing can be done about them: said once
        self._later: dict[Waiting, float] = {}  # not before, by the monotonic clock
        self._away: Counter[Waiting] = Counter()  # how often the database was away for it
        told = f"spool: {self._spool.folder} cannot be read"
        self._unread = logs.Trouble(logger, told, over="the spool is read again")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def start(self) -> None:
        """Deliver what waits now, before any job is claimed, and go on in a thread."""
        self._try_round()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            self._try_round()

    def _try_round(self) -> None:
        try:
            self.round()
            self._unread.gone()
        except DatabaseAway:  # said, and tried again with the next round
            pass
        except OSError as error:
            self._unread.met(error)
        except Exception:  # the next round may fare better, and the worker trains without it
            logger.exception("nothing is delivered")

    def round(self) -> int:
        """Deliver what waits, one end after the other; how many were dealt with.

        One at which the database seems to be away comes after all others from then on: it may be its own fault.

        Raises:
            DatabaseAway: the database does not answer.
            OSError: the folder cannot be read.
        """
        held, began = self._holdings.attempts(), time.monotonic()
        found = [
            one
            for one in self._spool.waiting()
            if one not in self._passed
            and self._later.get(one, began) <= began
            and (one.job, one.attempt) not in held  # its slot is about to
        ]
        try:
            dealt_with = sum(self._deal_with(one) for one in sorted(found, key=lambda one: self._away[one]))
        except DatabaseAway as error:
            self._holdings.ends.wait(self, len(found), error)
            raise
        self._holdings.ends.recorded(self)
        return dealt_with

    def _deal_with(self, waiting: Waiting) -> bool:
        """Whatever is in a file, it keeps no other one from being delivered."""
        try:
            spec = self._ours(waiting)
            if spec is not None:
                self._deliver(waiting, spec)
                return True
            if age_seconds(waiting.path) < KEPT_SECONDS:
                self._passed.add(waiting)
                return False
            logger.warning("spool: %s is of a sweep that is not there, and is removed", waiting.path)
            waiting.path.unlink()
        except FileNotFoundError:  # another worker was quicker
            return False
        except DatabaseAway:
            self._away[waiting] += 1
            raise
        except (RowDamaged, OSError) as error:  # the end itself may be good
            logger.warning("spool: %s stays: %s", waiting.path, error)
            self._later[waiting] = time.monotonic() + AGAIN_SECONDS
            return False
        except Exception as error:  # whatever somebody has put there
            self._set_aside(waiting, error)
        return True

    def _ours(self, waiting: Waiting) -> JobSpec | None:
        """The job as this database has it."""
        with self._database.reading() as session:
            try:
                spec = results.job_spec(session, waiting.job)
            except NotFound:
                return None
        return spec if spec.sweep_uid == waiting.uid else None

    def _deliver(self, waiting: Waiting, spec: JobSpec) -> None:
        """
        Raises:
            ValueError: the end is not whole, or not of the job as it is.
            DatabaseError: the database refuses it.
        """
        end = self._spool.read(waiting)
        if replace(end.claim.spec, epochs=spec.epochs) != spec:  # its sweep may have got more epochs
            raise ValueError("it is of a job with other parameters")
        watch, began = end.watch(), time.monotonic()
        for _, refusal in together(self._database, [watch], write_ends):
            raise refusal
        level, told = in_words(watch) if watch.became else (logging.INFO, "is recorded already")
        if late := watch.became is None and self._came_late(watch):
            told, level = f"{end.told} counts no longer, for the job was taken back", logging.WARNING
        if watch.became or late:
            self._holdings.outcomes.count(watch.came_to)
        self._spool.remove(end.claim)
        line, seconds = "job %d: attempt %d, from the spool: %s (%.1f s)", time.monotonic() - began
        logger.log(level, line, end.claim.job, end.claim.attempt, told, seconds, extra=logs.of(end.claim))

    def _came_late(self, watch: Watch) -> bool:
        """Let go of an end that was refused; whether it came too late, which its attempt's story tells from now on."""
        free(self._database, self._settings.store_url, watch)
        with self._database.writing() as session:
            return leases.came_late(session, watch.claim)

    def _set_aside(self, waiting: Waiting, error: Exception) -> None:
        try:
            self._spool.set_aside(waiting, error if isinstance(error, DatabaseError | ValueError) else repr(error))
        except FileNotFoundError:
            return
        except OSError as denied:
            logger.warning("spool: %s stays: %s", waiting.path, denied)
            self._passed.add(waiting)
