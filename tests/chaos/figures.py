"""What the disturbance cost: attempts, rescues, epochs trained again, time to the next progress."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.audit import Records
from tests.chaos.faults import DEATHS, Fault
from tests.chaos.hand import Done
from tests.chaos.timeline import SUCCEEDED, Held, Timeline
from tests.chaos.verdict import starts

LAST_WORDS = 0.2  # seconds: what was on its way to the database when the fault came


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How jobs got on after a kind of fault."""

    fault: str
    times: int
    jobs: int  # that ran where it happened, each counted each time
    median: float | None  # seconds from the fault to the job's next report of an epoch, or its end
    worst: float | None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one disturbed run."""

    jobs: int
    faults: int
    seconds: float  # from the first fault to the end of the last job
    attempts: dict[str, int]  # by outcome
    rescues: int  # jobs that the scheduler took back from silent workers
    most_attempts: int  # of one job
    epochs: int  # of all jobs, as their results tell
    repeated: int  # that had been reported, and were trained again by a later attempt
    resumed: int  # attempts that went on from a checkpoint
    recoveries: list[Recovery]  # by kind of fault, and of all


def of(timeline: Timeline, records: Records, done: Sequence[Done]) -> Figures:
    """The figures of a run that has ended."""
    tried = records.rows("SELECT job_id, attempt, outcome FROM attempts")
    outcomes = Counter(row["outcome"] or "unknown" for row in tried)
    ends = [change.at for changes in timeline.by_job.values() for change in changes]
    begun = starts(records)
    epochs = records.rows("SELECT sum(epochs) AS epochs FROM jobs")[0]["epochs"]
    return Figures(
        jobs=len(timeline.by_job),
        faults=len(done),
        seconds=max(ends) - min(fault.at for fault in done),
        attempts=dict(outcomes.most_common()),
        rescues=outcomes["lost"],
        most_attempts=max(row["attempt"] for row in tried),
        epochs=int(epochs or 0),
        repeated=_repeated(records, begun),
        resumed=sum(epoch > 0 for epoch in begun.values()),
        recoveries=_recoveries(timeline, records, done),
    )


def _repeated(records: Records, begun: dict[tuple[int, int], int]) -> int:
    """Epochs that were in the database, and that a later attempt trained again."""
    query = "SELECT job, attempt, max(last_epoch) AS last FROM chaos_epochs GROUP BY job, attempt ORDER BY job, attempt"
    reached: Counter[int] = Counter()
    repeated = 0
    for row in records.rows(query):
        job = row["job"]
        repeated += max(0, reached[job] - begun.get((job, row["attempt"]), 0))
        reached[job] = row["last"]
    return repeated


def _recoveries(timeline: Timeline, records: Records, done: Sequence[Done]) -> list[Recovery]:
    by_kind = {str(kind): [one for one in done if one.fault is kind] for kind in Fault}
    faults = {**{kind: found for kind, found in by_kind.items() if found}, "all": done}
    return [_recovery(name, _delays(timeline, records, found), len(found)) for name, found in faults.items()]


def _recovery(name: str, seconds: Sequence[float], times: int) -> Recovery:
    return Recovery(
        fault=name,
        times=times,
        jobs=len(seconds),
        median=statistics.median(seconds) if seconds else None,
        worst=max(seconds, default=None),
    )


def _delays(timeline: Timeline, records: Records, faults: Sequence[Done]) -> list[float]:
    """Of every job that was held where a fault happened: seconds until it got on, whatever else came between.

    From the beginning of the fault, also where it lasts: a server's absence is part of the wait.
    """
    workers: dict[int, set[str]] = {}
    for row in records.rows("SELECT id, info FROM workers"):
        info = row["info"] if isinstance(row["info"], dict) else json.loads(row["info"])
        workers.setdefault(info["pid"], set()).add(row["id"])
    found: list[float] = []
    for fault in faults:
        there = frozenset(name for pid in fault.pids for name in workers.get(pid, ())) if fault.pids else None
        found += [
            got_on - fault.at
            for held in timeline.running(fault.at, there)
            if (got_on := _got_on(timeline, fault, held)) is not None
        ]
    return found


def _got_on(timeline: Timeline, fault: Done, held: Held) -> float | None:
    """When a job got on after a fault; None: it was done in time, or never got on."""
    if fault.fault in DEATHS:
        return None if held.became == SUCCEEDED else timeline.next_progress(held.job, fault.at, beyond=held.attempt)
    return timeline.next_progress(held.job, fault.at + LAST_WORDS)


def table(figures: Figures) -> list[str]:
    """The recoveries as lines of a Markdown table."""
    lines = ["| fault | times | jobs it reached | to their next progress: median | worst |", "|---|---|---|---|---|"]
    for one in figures.recoveries:
        lines.append(
            f"| {one.fault} | {one.times} | {one.jobs or ''} | {_seconds(one.median)} | {_seconds(one.worst)} |"
        )
    return lines


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def summary(figures: Figures) -> list[tuple[str, Any]]:
    """The rest, as names and values."""
    share = figures.repeated / figures.epochs if figures.epochs else 0.0
    attempts = ", ".join(f"{count:,} {name}" for name, count in figures.attempts.items())
    return [
        ("faults", f"{figures.faults} in {figures.seconds:.0f} s"),
        ("jobs", f"{figures.jobs:,}, each with one result"),
        ("attempts", f"{attempts}; at most {figures.most_attempts} of one job"),
        ("rescues", figures.rescues),
        ("attempts that went on from a checkpoint", figures.resumed),
        ("epochs trained again", f"{figures.repeated:,} of {figures.epochs:,} ({share:.1%})"),
    ]
