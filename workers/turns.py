"""Adapter, to be deleted when jobs/engine.py trains packs: today's engine behind the interface of the new one."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from jobs import devices, engine
from jobs.spec import Answer, Assignment, EpochReport, Failure, Outcome
from jobs.store import Store

ROWS = int(os.environ.get("TURNS_ROWS", "8"))


def train(
    assignments: Sequence[Assignment],
    *,
    store: Store,
    options: engine.Options,
    report: Callable[[Sequence[EpochReport], int], Sequence[Answer]],
    joining: Callable[[], Sequence[Assignment]],
) -> Iterator[Outcome]:
    device, arrived, rows = devices.choose(options.device), list(assignments), dict[int, Any]()
    while arrived or rows:
        for assignment in arrived:
            row = engine.guarded(assignment, 0, partial(engine.start, assignment, device, store))
            if isinstance(row, Failure):
                yield row
            else:
                rows[assignment.spec.job] = row
        entries = {job: engine.guarded(row.assignment, row.epoch, row.advance) for job, row in rows.items()}
        reports = [entry for entry in entries.values() if isinstance(entry, EpochReport)]
        answers = dict(zip([r.job for r in reports], report(reports, max(0, ROWS - len(reports))), strict=True))
        for job, entry in entries.items():
            row = rows[job]
            settle = partial(engine.settle, row, answers.get(job, Answer.GO_ON), store, options)
            outcome = entry if isinstance(entry, Failure) else engine.guarded(row.assignment, row.epoch, settle)
            if outcome is not None:
                del rows[job]
                yield outcome
        arrived = list(joining()) if rows else []
