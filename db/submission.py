"""How a sweep comes in: in chunks, under a sweep that opens when the last one is in."""

import itertools
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db import bulk, counts
from db.clock import now
from db.models import Job, Sweep
from db.rows import execute_update, spec_as_json, table
from jobs.errors import DatabaseError
from jobs.spec import Json, SweepSpec
from jobs.states import JobState, SweepState

JOBS = table(Job)


def add_sweep(session: Session, spec: SweepSpec, spec_hash: str, total: int) -> int:
    """Begin a sweep; its id. Nothing of it can be claimed before `open_sweep`."""
    sweep = Sweep(
        uid=uuid.uuid4().hex,
        name=spec.name,
        task=spec.task,
        state=SweepState.SUBMITTING,
        queue=spec.queue,
        priority=spec.priority,
        spec=spec_as_json(replace(spec, cells=[])),  # listed cells are in the jobs; every claim reads the spec
        spec_hash=spec_hash,
        metric=spec.objective.metric,
        mode=spec.objective.mode,
        retries=spec.retries,
        retry_on=spec.retry_on,
        epochs=spec.epochs,
        max_running=spec.max_running,
        total=total,
        created_at=now(),
        touched_at=now(),
    )
    session.add(sweep)
    session.flush()
    return sweep.id


def add_jobs(
    session: Session, sweep: int, rows: Sequence[tuple[int, int, Json]], packs: Iterable[int] = itertools.repeat(0)
) -> None:
    """Add jobs, given as (cell, seed, params), to a sweep that is being submitted, and count them.

    Args:
        packs: the pack number of each job.

    Raises:
        DatabaseError: the sweep is no longer being submitted, or has this cell and seed already.
    """
    submitting = (Sweep.id == sweep, Sweep.state == SweepState.SUBMITTING)
    touched = session.execute(
        update(Sweep).where(*submitting).values(touched_at=now()).returning(Sweep.task, Sweep.metric)
    ).one_or_none()
    if touched is None:
        raise DatabaseError(f"sweep {sweep} is no longer being submitted")
    insert_jobs(session, sweep, touched.task, touched.metric, rows, packs)


def insert_jobs(
    session: Session, sweep: int, task: str, metric: str, rows: Sequence[tuple[int, int, Json]], packs: Iterable[int]
) -> None:
    """Add ready jobs to a sweep whose row is locked, and count them. Arguments as those of `add_jobs`.

    Raises:
        DatabaseError: it has such a cell and seed already.
    """
    same = (sweep, task, metric, JobState.READY.value, 0, 0, 0)
    bulk.insert(
        session,
        JOBS,
        ("sweep_id", "task", "metric", "state", "attempt", "failures", "epoch", "cell", "seed", "params", "pack"),
        [
            (*same, cell, seed, bulk.as_json(params), pack)
            for (cell, seed, params), pack in zip(rows, packs, strict=False)
        ],
    )
    counts.add(session, {(sweep, JobState.READY): len(rows)})


def open_sweep(session: Session, sweep: int) -> bool:
    """submitting → open: from now on its jobs are claimed. False when it is not whole, or no longer being submitted."""
    submitting = (Sweep.id == sweep, Sweep.state == SweepState.SUBMITTING)
    # Locked before the number of its jobs is read: whoever removes it has then either not begun or come to an end.
    session.execute(select(Sweep.id).where(*submitting).with_for_update())
    whole = (*submitting, Sweep.total == counts.total())
    return bool(execute_update(session, update(Sweep).where(*whole).values(state=SweepState.OPEN)))


def find_same(session: Session, spec_hash: str) -> tuple[int, int] | None:
    """(id, number of jobs) of the first sweep with this spec that was not cancelled or deleted, if there is one.

    Until the transaction ends nobody else who asks for the same is answered: of two who find none, one adds it.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(spec_hash, 0))))
    same = (Sweep.spec_hash == spec_hash, Sweep.state.not_in([SweepState.CANCELLED, SweepState.DELETING]))
    row = session.execute(select(Sweep.id, Sweep.total).where(*same).order_by(Sweep.id).limit(1)).one_or_none()
    return None if row is None else (row.id, row.total)
