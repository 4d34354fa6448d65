"""How attempts ended, written to the database: many in one transaction, and the files of those that do not count."""

import logging
from collections.abc import Callable

from db import ending, fence, leases, results
from db.session import Database
from jobs.errors import DatabaseAway, DatabaseError, NotFound, StoreError
from jobs.spec import Answer, Failure, TrainResult
from jobs.states import JobState
from jobs.store import Store
from workers.watch import Watch

Write = Callable[[Database, list[Watch]], None]
logger = logging.getLogger(__name__)
LONGEST = 300  # characters of a reason in the log; `show` tells all


def together(database: Database, watches: list[Watch], write: Write) -> list[tuple[Watch, DatabaseError]]:
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
        return together(database, watches[:half], write) + together(database, watches[half:], write)
    return []


def write_epochs(database: Database, watches: list[Watch]) -> None:
    with database.writing() as session:  # if a claim is lost, the heartbeat says so
        leases.record_epochs(session, [(watch.claim, watch.reports) for watch in watches])


def write_ends(database: Database, watches: list[Watch]) -> None:
    """One transaction: the last reports, and the move of each job, noted in its watch.

    Of several attempts at one job only the newest can count: the others have lost their claim to it.
    """
    newest = {one.job: one.attempt for one in sorted((watch.claim for watch in watches), key=lambda one: one.attempt)}
    watches = [watch for watch in watches if watch.claim.attempt == newest[watch.claim.job]]
    results = [(watch.claim, watch.outcome) for watch in watches if isinstance(watch.outcome, TrainResult)]
    others = [watch for watch in watches if not isinstance(watch.outcome, TrainResult) and not is_lost(watch)]
    reports = [(watch.claim, watch.reports) for watch in others if watch.reports]
    with database.writing() as session:
        if results and others:
            fence.lock(session, [watch.claim for watch in watches])
        finished = ending.finish(session, results) if results else set()
        if reports:
            leases.record_epochs(session, reports)
        preempted = {watch.claim.job for watch in others if watch.preempted}
        became = ending.let_go(session, [(watch.claim, _failure(watch)) for watch in others], preempted)
    for watch in watches:
        watch.became = JobState.SUCCEEDED if watch.claim.job in finished else _told(watch, became)


def _failure(watch: Watch) -> Failure | None:
    return watch.outcome if isinstance(watch.outcome, Failure) else None


def _told(watch: Watch, became: dict[int, JobState]) -> str | None:
    if watch.claim.job not in became:
        return None
    return f"{watch.in_words}; the job is now {became[watch.claim.job]}"


def in_words(watch: Watch) -> tuple[int, str]:
    """How the log tells what the database made of an attempt: the level and the words."""
    told, failure = watch.became or "lost its claim", _failure(watch)
    if watch.became is None or failure is None:
        return logging.INFO, told
    reason = next((line.strip() for line in failure.error.splitlines() if line.strip()), "")
    return logging.WARNING, f"{told}: {reason[:LONGEST]}" if reason else told


def is_lost(watch: Watch) -> bool:
    """Whether the trainer stopped because the job belongs to another attempt: nothing is to be written."""
    return getattr(watch.outcome, "answer", None) is Answer.CLAIM_LOST


def free(database: Database, store: str, watch: Watch) -> None:
    """Remove the best model of a result that does not count; its last checkpoint may serve the next attempt.

    Args:
        store: its URL.

    Raises:
        DatabaseAway: whether it counts cannot be asked.
    """
    best = watch.outcome.best if isinstance(watch.outcome, TrainResult) else None
    if best is None or best.path is None or _is_kept(database, watch.claim.job, best.path):
        return
    try:
        Store(store).remove(best.path)
    except StoreError as error:
        logger.warning("job %d: a model that does not count stays in the store: %s", watch.claim.job, error)


def _is_kept(database: Database, job: int, path: str) -> bool:
    """Whether it is the recorded model of its job: then the result had been recorded before, and does count."""
    try:
        with database.reading() as session:
            return results.best_model(session, job).path == path
    except NotFound:
        return False
