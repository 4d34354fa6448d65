"""A submitted sweep, as the Python client shows it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db import status, steering
from db.leaderboard import Ranked, RankedCell
from db.status import FailedJob, SweepStatus
from gridyard.ids import check_id
from gridyard.job import Job
from jobs.errors import InputError, NotFound, did_you_mean
from jobs.states import FailureReason

if TYPE_CHECKING:
    import pandas

    from gridyard.cleaning import Cleaned
    from gridyard.client import Yard
    from scheduler.extend import Extended


class Sweep:
    """A submitted sweep."""

    def __init__(self, yard: "Yard", sweep: int, new: bool = False) -> None:
        self.yard = yard
        self.id = sweep
        self.new = new  # this submit made it

    def __repr__(self) -> str:
        return f"<Sweep {self.id}>"

    def status(self) -> SweepStatus:
        """Where it stands: state, jobs per state, best score so far."""
        with self.yard.database.reading() as session:
            return status.sweep_status(session, self.id)

    def wait(self, timeout: float | None = None, *, slots: int | None = None) -> SweepStatus:
        """Wait until every job is final, with a progress bar; failed jobs are counted in the status, not raised.

        Without a broker and without a living worker, this process starts a local one, as `gridyard run` does.

        Args:
            timeout: seconds.
            slots: of the local worker; None: as many as GPUs or cores; 0: start none.

        Raises:
            TimeoutError: some jobs are not final yet.
        """
        from gridyard import local, progress

        deadline = None if timeout is None else time.monotonic() + timeout
        if slots == 0 or not local.is_needed(self):
            return progress.follow(self.status, deadline=deadline)
        with local.workers(self, slots) as tend:
            return progress.follow(self.status, tend=tend, deadline=deadline)

    def leaderboard(
        self, top: int | None = None, *, by: str = "job", where: Mapping[str, Any] | None = None
    ) -> "pandas.DataFrame":
        """Its best jobs, or cells, as a table, best first; see `Yard.ranked`."""
        return self.yard.leaderboard(top, by=by, sweep=self.id, where=where)

    def ranked(
        self, top: int | None = None, *, by: str = "job", where: Mapping[str, Any] | None = None
    ) -> Sequence[Ranked] | Sequence[RankedCell]:
        """Its best jobs, or cells, best first; see `Yard.ranked`."""
        return self.yard.ranked(top, by=by, sweep=self.id, where=where)

    def best(self) -> Job:
        """Its best job so far.

        Raises:
            NotFound: no job has succeeded yet.
        """
        job = self.status().best_job
        if job is None:
            raise NotFound(f"no job of sweep {self.id} has succeeded yet")
        return Job(self.yard, job)

    def failed(self, limit: int = 10) -> list[FailedJob]:
        """Its first failed jobs, with their reasons."""
        with self.yard.database.reading() as session:
            return status.failed_jobs(session, self.id, limit=limit)

    def cancel(self) -> int:
        """Stop it; the number of jobs that will not be finished."""
        return self._change(steering.cancel_sweep)

    def pause(self, *, now: bool = False) -> bool:
        """Start no more jobs, until it is resumed; False when it is not open.

        Args:
            now: running jobs stop at their last checkpoint and are given back; else they finish. Also of a sweep that
                is paused already.
        """
        with self.yard.database.writing() as session:
            return steering.pause_sweep(session, self.id, halt=now)

    def resume(self) -> int:
        """Carry a paused or cancelled sweep on; the number of cancelled jobs that are ready again."""
        return self._change(steering.resume_sweep)

    def retry(self, *, reasons: Iterable[str] = (), jobs: Iterable[int] = ()) -> int:
        """Try its failed jobs again, with all their retries; their number.

        Args:
            reasons: only those that failed for one of these, such as "timeout".
            jobs: only those of these ids.

        Raises:
            InputError: there is no such reason, or one of the jobs is no failed job of this sweep.
        """
        chosen, ids = [_reason(reason) for reason in reasons], [check_id("job", job) for job in jobs]
        if chosen and ids:
            raise InputError("reasons and jobs are both given; keep one of them")
        return self._change(partial(steering.retry_sweep, reasons=chosen, jobs=ids))

    def extend(
        self,
        *,
        grid: Mapping[str, Sequence[Any]] | None = None,
        cells: Sequence[Mapping[str, Any]] | None = None,
        seeds: int | Sequence[int] | None = None,
        epochs: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> "Extended":
        """Add what it does not have yet, while it runs or after its end. What it has keeps its numbers and results.

        Args:
            grid: more values of its grid's parameters.
            cells: more cells, of a sweep that lists them.
            seeds: as in a sweep file: n means the seeds 0 … n-1.
            epochs: the most a job trains. Jobs that have trained all theirs go on, and keep their results until then.
            progress: called with the number of new jobs stored so far, and of all.

        Raises:
            InputError: it is cancelled, or something is wrong; nothing is changed.
        """
        from scheduler import extend

        keys = {"grid": grid, "cells": cells, "seeds": seeds, "epochs": epochs}
        extended = extend.extend(self.yard.database, self.id, keys, progress=progress)
        self.yard.ring(extended.queue, extended.jobs + extended.again)
        return extended

    @property
    def priority(self) -> int:
        """Jobs of a higher one are claimed first; it may be set at any time."""
        return self.status().priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._set("priority", priority, steering.prioritise_sweep)

    @property
    def max_running(self) -> int | None:
        """How many of its jobs run at once, None for no limit; it may be set at any time."""
        return self.status().max_running

    @max_running.setter
    def max_running(self, max_running: int | None) -> None:
        self._set("max_running", max_running, steering.limit_sweep)
        found = self.status()
        self.yard.ring(found.queue, found.jobs["ready"])

    def _set(self, name: str, value: int | None, change: Callable[..., None]) -> None:
        from scheduler.validate import check_key

        check_key(name, value)
        with self.yard.database.writing() as session:
            change(session, self.id, value)

    def delete(self, archive: str | PathLike[str] | None = None) -> None:
        """Delete it: its rows, and its files in the store. The yard goes on meanwhile; a progress bar is shown.

        When it is interrupted, the scheduler does the rest, or whoever calls it again.

        Args:
            archive: a file that is written first, in a folder that is there: JSON lines in gzip; docs/json.md has its
                shape.

        Raises:
            InputError: it has neither finished nor been cancelled, or the archive cannot be written.
            StoreError: a file of the store cannot be removed.
        """
        from gridyard import removal

        removal.delete(self, None if archive is None else Path(archive))

    def clean(self, *, best: int | None = None, yes: bool = False) -> "Cleaned":
        """What could be freed of it: checkpoints of jobs that have ended, models that it does not keep.

        Args:
            best: keep the models of so many jobs, whatever its file says.
            yes: free it.

        Raises:
            StoreError: the store cannot be listed, or a file cannot be removed.
        """
        from gridyard import cleaning

        return cleaning.clean(self.yard, self.id, best=best, yes=yes)

    def _change(self, change: Callable[..., int]) -> int:
        found = self.status()  # says so when it is not there
        with self.yard.database.writing() as session:
            changed = change(session, self.id)
        self.yard.ring(found.queue, changed)
        return changed


def _reason(reason: str) -> FailureReason:
    try:
        return FailureReason(reason)
    except ValueError:
        known = [found.value for found in FailureReason]
        hint = did_you_mean(str(reason), known)
        raise InputError(f"there is no reason {reason!r}{hint} Reasons: {', '.join(known)}") from None
