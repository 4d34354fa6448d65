"""What happened to a job: its row as the triggers saw it, faults at that time, its attempts, its lines in the logs."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.audit import Records
from tests.chaos.hand import Done
from tests.chaos.timeline import Timeline

LINES = 60  # of the logs


def of(job: int, timeline: Timeline, records: Records, done: Sequence[Done], logs: Iterable[Path]) -> Iterator[str]:
    """The story of a job, in order of time."""
    yield f"--- job {job}"
    told: list[tuple[float, str]] = []
    changes = timeline.by_job.get(job, [])
    for change in changes:
        told.append(
            (
                change.at,
                f"{change.old_state} -> {change.state}, attempt {change.attempt}, epoch {change.epoch},"
                f" worker {change.worker or change.old_worker}, written by {change.writer}",
            )
        )
    if changes:
        first, last = changes[0].at, changes[-1].at
        told += [(one.at, f"    fault: {one.fault}: {one.who}") for one in done if first - 5 <= one.at <= last + 5]
    for at, line in sorted(told):
        yield f"{datetime.fromtimestamp(at, UTC):%H:%M:%S.%f} {line}"
    for row in records.rows("SELECT * FROM attempts WHERE job_id = :job ORDER BY attempt", job=job):
        error = (row["error"] or "").splitlines()[:1]
        yield f"attempt {row['attempt']}: {row['outcome']}, from epoch {row['resumed_from']}, {row['worker']} {error}"
    spoken = re.compile(rf"\bjob {job}\b")
    lines = [f"{log.name}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()]
    yield from [line for line in lines if spoken.search(line)][-LINES:]
