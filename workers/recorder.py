"""What the jobs of a slot do and come to, on its way to the database; while that is away, in memory and on disk."""

import logging
import time
from collections.abc import Iterable, Sequence

from db import leases
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseAway
from jobs.settings import Settings
from jobs.spec import Failure, TrainResult
from jobs.states import FailureReason
from workers.holdings import Holdings
from workers.pace import rest
from workers.spool import Spool
from workers.watch import Watch
from workers.writing import free, in_words, is_lost, together, write_ends, write_epochs

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0  # at least, between two writes of epoch reports; a job that is shorter writes only its end
AGAIN_SECONDS = 1.0  # between two tries to record outcomes while the database is away, and at most while it is there
REPORTS_KEPT = 100_000  # of all jobs of a slot together, while the database is away: some 100 MB
SILENT_BEATS = 2  # heartbeats without an answer after which ends are put on disk before a try to record them


class Recorder:
    """Writes for one slot. While the database is away, training goes on and all is written when it is back."""

    def __init__(self, database: Database, settings: Settings, holdings: Holdings, spool: Spool) -> None:
        self._database, self._settings, self._holdings, self._spool = database, settings, holdings, spool
        self._flush_at = self._record_at = self._away_until = self._trim_at = 0.0  # not before, by the monotonic clock
        self._alone = self._trimmed = self._unspooled = False  # already said

    def flush(self, running: Iterable[Watch]) -> None:
        """Now and then, store the epochs of jobs that train on."""
        began = time.monotonic()
        if began < self._flush_at:
            self._trim(running, began)
            return
        watches = [watch for watch in running if watch.reports and began - watch.started >= FLUSH_SECONDS]
        if not watches:
            return
        try:
            for watch, error in together(self._database, watches, write_epochs):
                logger.warning("job %d: the history of its end will tell these epochs: %s", watch.claim.job, error)
            for watch in watches:
                watch.reports = []
            self._trimmed = self._alone = False
        except DatabaseAway as error:
            if not self._alone:
                logger.warning("%d jobs train on: %s", len(watches), error)
            self._alone = True
            self._trim(watches, began)
        self._flush_at = rest(began, least=FLUSH_SECONDS)

    def _trim(self, running: Iterable[Watch], now: float) -> None:
        """Keep no more than REPORTS_KEPT: the oldest go. A result brings its whole history itself."""
        if now < self._trim_at:
            return
        self._trim_at = now + FLUSH_SECONDS
        watches = list(running)
        most = max(2, REPORTS_KEPT // max(1, len(watches)))
        for watch in watches:
            if len(watch.reports) > most:
                del watch.reports[: -most // 2]
                if not self._trimmed:
                    logger.warning("%d jobs train on: their oldest epochs are shown when they have ended", len(watches))
                self._trimmed = True

    def record(self, ended: list[Watch], at_once: bool) -> list[Watch]:
        """Write how attempts ended; the fence says whether they still count.

        Args:
            at_once: nothing else trains; else ends may wait a moment, to be written together.

        Returns:
            Those that are done with: recorded, or left to the spool because the database is away for too long.

        Raises:
            DatabaseError: the database refuses even to write that it refused.
        """
        began = time.monotonic()
        if not ended or began < (self._away_until if at_once else self._record_at):
            return []
        silent = self._holdings.silence() > SILENT_BEATS * self._settings.heartbeat_seconds
        if silent or self._holdings.draining.is_set():
            self._save(ended)  # a try may take longer than we are given to live
        try:
            refused = dict(together(self._database, ended, write_ends))
        except DatabaseAway as error:
            return self._put_off(ended, error)
        self._holdings.ends.recorded(self)
        self._record_at = rest(began, most=AGAIN_SECONDS)
        for watch, refusal in refused.items():
            if isinstance(watch.outcome, Failure):
                raise refusal
            told = f"its end was refused: {refusal}"
            watch.end(Failure(job=watch.claim.job, reason=FailureReason.ERROR, error=told))
        written = [watch for watch in ended if watch not in refused]
        for watch in written:
            self._done(watch)
        return written

    def _done(self, watch: Watch) -> None:
        """The database has said what became of it."""
        claim, late = watch.claim, False
        if watch.became is None and watch.spooled:
            try:
                late = self._came_late(watch)
            except DatabaseAway as error:  # the file stays for the delivery, which tells and counts it
                logger.warning("job %d: an end that does not count waits on disk: %s", claim.job, error)
                return
        there = self._spool.remove(claim) if watch.spooled else True
        watch.spooled = watch.spooled and not late  # who tells it counts it
        if watch.became is None and not there and not late:
            logger.info("job %d: the end of attempt %d was taken from the spool by another", claim.job, claim.attempt)
            return
        level, told = in_words(watch)
        logger.log(level, "job %d: attempt %d %s", claim.job, claim.attempt, told, extra=logs.of(claim))
        if watch.became is None and isinstance(watch.outcome, TrainResult):
            try:
                free(self._database, self._settings.store_url, watch)
            except DatabaseAway as error:
                logger.warning("job %d: a model that does not count stays in the store: %s", claim.job, error)

    def _came_late(self, watch: Watch) -> bool:
        """An end that waited on disk was refused: as the delivery, tell that it came too late; whether that is new."""
        with self._database.writing() as session:
            return leases.came_late(session, watch.claim)

    def _put_off(self, ended: list[Watch], error: DatabaseAway) -> list[Watch]:
        """Try again later, but for those that have waited too long: these wait on disk."""
        now = time.monotonic()
        self._record_at = self._away_until = now + AGAIN_SECONDS
        self._save(ended)
        patience = 0.0 if self._holdings.draining.is_set() else self._settings.offline_seconds
        given_up = [watch for watch in ended if watch.ended is None or now - watch.ended >= patience]
        for watch in given_up:
            if watch.spooled:
                logger.warning("job %d: the next worker on this machine records its end: %s", watch.claim.job, error)
            elif not is_lost(watch):
                told = "job %d: its end could not be recorded, it will be rescued: %s"
                logger.error(told, watch.claim.job, error)
        if len(given_up) < len(ended):
            self._holdings.ends.wait(self, len(ended) - len(given_up), error)
        else:
            self._holdings.ends.leave(self)
        return given_up

    def _save(self, ended: Sequence[Watch]) -> None:
        """Put ends on disk, each once: whatever becomes of this worker, they are not lost."""
        level = logging.INFO if self._holdings.draining.is_set() else logging.WARNING  # then for a moment, as a rule
        for watch in ended:
            if watch.spooled or is_lost(watch):
                continue
            try:
                path = self._spool.put(watch)
            except (OSError, ValueError) as error:
                if not self._unspooled:
                    logger.error("job %d: its end waits in memory only: %s", watch.claim.job, error)
                self._unspooled = True
                continue
            self._unspooled, watch.spooled = False, True
            told = "job %d: attempt %d %s; until the database knows that, it waits in %s"
            claim = watch.claim
            logger.log(level, told, claim.job, claim.attempt, watch.in_words, path, extra=logs.of(claim))
