"""Stores a sweep with all its jobs, or nothing: in chunks, under a sweep that opens when the last one is in."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable

from db import removal, submission
from db.session import Database
from jobs.errors import DatabaseError
from jobs.spec import SweepSpec
from scheduler import grid

CHUNK = 4_000  # rows of one transaction
# SQLite has no queue for its write lock: who waits looks again after 1 to 25 ms, and every 50 to 100 ms from 128 ms on.
# While 200,000 jobs were stored, another writer waited 0.13 s at worst; with shorter chunks and pauses (2,000 and a
# quarter) 0.63 s, for it missed the pauses; without any 4.4 s.
PAUSE = 0.33  # of the time the last chunk took


@dataclasses.dataclass(frozen=True, kw_only=True)
class Submitted:
    """What a submission gave."""

    sweep: int
    jobs: int
    new: bool  # False: `once` found an equal sweep


def submit(
    database: Database,
    spec: SweepSpec,
    *,
    once: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Submitted:
    """Store a sweep and its jobs, all or nothing. Memory does not grow with the number of cells of a grid.

    What was stored is removed when anything interrupts it; if even that fails, the scheduler removes it later.

    Args:
        once: give the first sweep of an equal spec that was not cancelled, if there is one.
        progress: called after each chunk with the number of stored jobs and of all.

    Raises:
        DatabaseError: the database is away or refuses, or the sweep was removed meanwhile.
    """
    digest, total = spec_hash(spec), grid.count(spec) * len(spec.seeds)
    with database.writing() as session:
        if once and (same := submission.find_same(session, digest)):
            sweep, jobs = same
            return Submitted(sweep=sweep, jobs=jobs, new=False)
        sweep = submission.add_sweep(session, spec, digest, total)
    try:
        _store_jobs(database, sweep, spec, total, progress)
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(DatabaseError):  # the first error is the one to tell
            removal.remove(database, sweep)
        raise
    return Submitted(sweep=sweep, jobs=total, new=True)


def _store_jobs(
    database: Database, sweep: int, spec: SweepSpec, total: int, progress: Callable[[int, int], None] | None
) -> None:
    rows, packs, done = grid.jobs(spec), grid.packs(spec), 0
    while chunk := list(itertools.islice(rows, CHUNK)):
        started = time.monotonic()
        with database.writing() as session:
            submission.add_jobs(session, sweep, chunk, itertools.islice(packs, len(chunk)))
        done += len(chunk)
        if database.dialect == "sqlite" and done < total:
            time.sleep(PAUSE * (time.monotonic() - started))
        if progress:
            progress(done, total)
    with database.writing() as session:
        if not submission.open_sweep(session, sweep):
            raise DatabaseError(f"sweep {sweep} was removed while it was being submitted; submit it again")


def spec_hash(spec: SweepSpec) -> str:
    """Equal for specs that give the same jobs under the same name, whatever the order of their keys."""
    facts = dataclasses.asdict(spec)
    if spec.max_running is None:  # as in versions that knew no limit
        del facts["max_running"]
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
