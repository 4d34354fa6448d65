"""What the record tells of each job, one after the other: who held it when, and when it got on."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.chaos.audit import Change

RUNNING = "running"
SUCCEEDED = "succeeded"
FINAL = frozenset({SUCCEEDED, "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class Held:
    """A worker had a job."""

    job: int
    attempt: int
    worker: str
    since: float
    until: float | None  # None: to the end of the record
    became: str  # the job's state afterwards


class Timeline:
    """The changes of all jobs."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.by_job: dict[int, list[Change]] = defaultdict(list)
        for change in changes:
            self.by_job[change.job].append(change)
        self.held = [held for job in self.by_job for held in self._holdings(job)]
        self._progress = {job: [c for c in found if _gets_on(c)] for job, found in self.by_job.items()}

    def _holdings(self, job: int) -> Iterable[Held]:
        claimed: Change | None = None
        for change in self.by_job[job]:
            if claimed is not None and (change.state != RUNNING or change.attempt != claimed.attempt):
                yield _held(claimed, change)
                claimed = None
            if change.state == RUNNING and change.old_state != RUNNING:
                claimed = change
        if claimed is not None:
            yield _held(claimed, None)

    def running(self, at: float, workers: frozenset[str] | None) -> list[Held]:
        """What these workers had at this time; None: all workers."""
        return [
            held
            for held in self.held
            if held.since <= at and (held.until is None or held.until > at)
            if workers is None or held.worker in workers
        ]

    def next_progress(self, job: int, after: float, beyond: int = 0) -> float | None:
        """When the job next reported an epoch or ended, in an attempt beyond this one."""
        later = (change.at for change in self._progress[job] if change.at > after and change.attempt > beyond)
        return next(later, None)


def _gets_on(change: Change) -> bool:
    if change.old_state != RUNNING:
        return False
    return change.state in FINAL or (change.state == RUNNING and change.epoch > 0)


def _held(claimed: Change, end: Change | None) -> Held:
    assert claimed.worker is not None
    until, became = (None, RUNNING) if end is None else (end.at, end.state)
    return Held(
        job=claimed.job, attempt=claimed.attempt, worker=claimed.worker, since=claimed.at, until=until, became=became
    )
