"""What the jobs of a slot do and come to, written to the database: many jobs in one transaction."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from db import queue
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseAway, DatabaseError
from jobs.settings import Settings
from jobs.spec import Answer, Failure, TrainResult
from jobs.states import FailureReason, JobState
from workers.pace import rest
from workers.watch import Watch

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0  # at least, between two writes of epoch reports; a job that is shorter writes only its end
AGAIN_SECONDS = 1.0  # between two tries to record outcomes while the database is away, and at most while it is there

Write = Callable[[Database, list[Watch]], None]


class Recorder:
    """Writes for one slot. While the database is away, training goes on and all is written when it is back."""

    def __init__(self, database: Database, settings: Settings, draining: threading.Event) -> None:
        self._database, self._settings, self._draining = database, settings, draining
        self._flush_at = self._record_at = self._away_until = 0.0  # not before, by the monotonic clock

    def flush(self, running: Iterable[Watch]) -> None:
        """Now and then, store the epochs of jobs that train on."""
        began = time.monotonic()
        if began < self._flush_at:
            return
        watches = [watch for watch in running if watch.reports and began - watch.started >= FLUSH_SECONDS]
        if not watches:
            return
        try:
            for watch, error in _together(self._database, watches, _write_epochs):
                logger.warning("job %d: the history of its end will tell these epochs: %s", watch.claim.job, error)
            for watch in watches:
                watch.reports = []
        except DatabaseAway as error:
            logger.warning("%d jobs train on: %s", len(watches), error)
        self._flush_at = rest(began, least=FLUSH_SECONDS)

    def record(self, ended: list[Watch], at_once: bool) -> list[Watch]:
        """Write how attempts ended; the fence says whether they still count.

        Args:
            at_once: nothing else trains; else ends may wait a moment, to be written together.

        Returns:
            Those that are done with: recorded, or given up because the database is away for too long.

        Raises:
            DatabaseError: the database refuses even to write that it refused.
        """
        began = time.monotonic()
        if not ended or began < (self._away_until if at_once else self._record_at):
            return []
        try:
            refused = dict(_together(self._database, ended, _write_ends))
        except DatabaseAway as error:
            return self._put_off(ended, error)
        self._record_at = rest(began, most=AGAIN_SECONDS)
        for watch, refusal in refused.items():
            if isinstance(watch.outcome, Failure):
                raise refusal
            told = f"its end was refused: {refusal}"
            watch.end(Failure(job=watch.claim.job, reason=FailureReason.ERROR, error=told))
        written = [watch for watch in ended if watch not in refused]
        for watch in written:
            claim, became = watch.claim, watch.became or "lost its claim"
            logger.info("job %d: attempt %d %s", claim.job, claim.attempt, became, extra=logs.of(claim))
        return written

    def _put_off(self, ended: list[Watch], error: DatabaseAway) -> list[Watch]:
        """Try again later, but for those that have waited too long."""
        now = time.monotonic()
        self._record_at = self._away_until = now + AGAIN_SECONDS
        patience = 0.0 if self._draining.is_set() else self._settings.offline_seconds
        given_up = [watch for watch in ended if watch.ended is None or now - watch.ended >= patience]
        for watch in ended:
            if watch in given_up:
                told = "job %d: its end could not be recorded, it will be rescued: %s"
                logger.error(told, watch.claim.job, error)
            else:
                logger.warning("job %d has ended; recording it again: %s", watch.claim.job, error)
        return given_up


def _together(database: Database, watches: list[Watch], write: Write) -> list[tuple[Watch, DatabaseError]]:
    """Write for all in one transaction; if it is refused, for each half: one bad result must not fail its neighbours.

    Returns:
        Those refused alone, with the refusal.

    Raises:
        DatabaseAway: the database does not answer. What a half has written stands, and may be written again.
    """
    try:
        write(database, watches)
    except DatabaseAway:
        raise
    except DatabaseError as error:
        if len(watches) == 1:
            return [(watches[0], error)]
        half = len(watches) // 2
        return _together(database, watches[:half], write) + _together(database, watches[half:], write)
    return []


def _write_epochs(database: Database, watches: list[Watch]) -> None:
    with database.writing() as session:  # if a claim is lost, the heartbeat says so
        queue.record_epochs(session, [(watch.claim, watch.reports) for watch in watches])


def _write_ends(database: Database, watches: list[Watch]) -> None:
    """One transaction: the last reports, and the move of each job, noted in its watch."""
    results = [(watch.claim, watch.outcome) for watch in watches if isinstance(watch.outcome, TrainResult)]
    others = [watch for watch in watches if not isinstance(watch.outcome, TrainResult) and not _is_lost(watch)]
    reports = [(watch.claim, watch.reports) for watch in others if watch.reports]
    with database.writing() as session:
        if results and others:
            queue.lock(session, [watch.claim for watch in watches])
        finished = queue.finish(session, results) if results else set()
        if reports:
            queue.record_epochs(session, reports)
        preempted = {watch.claim.job for watch in others if watch.preempted}
        became = queue.let_go(session, [(watch.claim, _failure(watch)) for watch in others], preempted)
    for watch in watches:
        watch.became = JobState.SUCCEEDED if watch.claim.job in finished else _told(watch, became)


def _failure(watch: Watch) -> Failure | None:
    return watch.outcome if isinstance(watch.outcome, Failure) else None


def _told(watch: Watch, became: dict[int, JobState]) -> str | None:
    if watch.claim.job not in became:
        return None
    failure = _failure(watch)
    ended = f"failed ({failure.reason})" if failure else "was preempted" if watch.preempted else "stopped"
    return f"{ended}; the job is now {became[watch.claim.job]}"


def _is_lost(watch: Watch) -> bool:
    """Whether the trainer stopped because the job belongs to another attempt: nothing is to be written."""
    return getattr(watch.outcome, "answer", None) is Answer.CLAIM_LOST
