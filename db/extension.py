"""How a sweep gets more cells, seeds or epochs: decided in one transaction, done in chunks, while its workers go on.

`sweeps.extending` says what was decided until all of it is done. Nothing is undone: where one is killed, another goes
on (who asks for it again, or the scheduler), and the sweep is not finished before. Two who do the same do no harm: how
far it is follows from the rows that are there, read while the sweep's row is locked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import and_, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from db import counts, steering
from db.clock import is_past, now
from db.models import Attempt, Job, Sweep, literal
from db.rows import execute_update, validated
from db.submission import insert_jobs
from jobs.errors import NotFound
from jobs.spec import Json, SweepSpec
from jobs.states import FailureReason, JobState, SweepState

ABANDONED_SECONDS = 120.0  # an extender that gave no sign for so long is dead
EXTENDED = (SweepState.OPEN, SweepState.PAUSED, SweepState.FINISHED)

_SPEC = TypeAdapter(SweepSpec)

Row = tuple[int, int, Json, int]  # cell, seed, params, pack number
Place = tuple[int, int]  # pack number and id of a job
START: Place = (-1, -1)


@dataclass(frozen=True, kw_only=True)
class Todo:
    """What was decided of an extension, as it is stored."""

    grid: dict[str, int] = field(default_factory=dict)  # parameter -> number of its values before
    cells: list[Json] = field(default_factory=list)  # new listed ones
    seeds: list[int] = field(default_factory=list)  # new ones, which the cells of before get
    jobs: int  # that there were before
    cell: int  # number of the first new one
    pack: int  # number of the first new one


_TODO = TypeAdapter(Todo)


@dataclass(frozen=True, kw_only=True)
class Stand:
    """Where a sweep stands with its extension."""

    sweep: int
    state: str  # SweepState
    spec: SweepSpec  # with all values and seeds, also the new ones; epochs: those it was submitted with
    epochs: int  # by now
    total: int  # jobs it is to have
    stored: int  # jobs it has
    todo: Todo | None  # None: it is whole
    metric: str  # the objective's


def stand(session: Session, sweep: int, *, lock: bool = False) -> Stand:
    """Where it stands.

    Args:
        lock: nobody else extends, closes, cancels or deletes it until the transaction ends.

    Raises:
        NotFound: there is no such sweep.
        RowDamaged: its row cannot be read.
    """
    query = select(Sweep).where(Sweep.id == sweep)
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"there is no sweep {sweep}; `gridyard status` lists them")
    extending = f"the extension of sweep {sweep}"
    return Stand(
        sweep=sweep,
        state=row.state,
        spec=validated(_SPEC, row.spec, f"the spec of sweep {sweep}"),
        epochs=row.epochs,
        total=row.total,
        stored=sum(counts.of_sweeps(session, [sweep])[sweep].values()),
        todo=None if row.extending is None else validated(_TODO, row.extending, extending),
        metric=row.metric,
    )


def decide(session: Session, before: Stand, *, spec: SweepSpec, epochs: int, todo: Todo, jobs: int) -> None:
    """Let the sweep have these values, seeds and epochs, and so many more jobs. From now on it will be whole.

    Args:
        before: where it stands; its row is locked.
    """
    grown = {name: getattr(spec, name) for name in ("grid", "seeds")}
    values = {
        "spec": session.get_one(Sweep, before.sweep).spec | grown,
        "epochs": epochs,
        "extending": _TODO.dump_python(todo),
        "total": before.total + jobs,
        "touched_at": now(),
    }
    execute_update(session, update(Sweep).where(Sweep.id == before.sweep).values(**values))
    if before.state == SweepState.FINISHED:
        steering.reopen(session, before.sweep)


def first_pack(session: Session, sweep: int) -> int:
    """The first pack number that no job of the sweep has."""
    last = (
        select(Job.pack)
        .where(Job.sweep_id == sweep, Job.state == literal(state))
        .order_by(Job.pack.desc(), Job.id.desc())
        .limit(1)
        .scalar_subquery()
        for state in JobState
    )
    return 1 + max((found for found in session.execute(select(*last)).one() if found is not None), default=-1)


def add_jobs(session: Session, before: Stand, rows: Sequence[Row]) -> bool:
    """Store the next ones of the new jobs; False when the sweep does not stand as it did: somebody else was quicker."""
    sweep = before.sweep
    found = stand(session, sweep, lock=True)
    if (found.todo, found.stored) != (before.todo, before.stored) or found.state == SweepState.DELETING:
        return False
    jobs = [(cell, seed, params) for cell, seed, params, _ in rows]
    insert_jobs(session, sweep, found.spec.task, found.metric, jobs, [pack for *_, pack in rows])
    _cancel_too(session, found)
    return True


def cells(session: Session, sweep: int, seed: int, first: int, end: int) -> list[tuple[int, Json, int]]:
    """(cell, params, pack number) of the sweep's cells from `first` to before `end`, each of which has this seed."""
    wanted = (Job.sweep_id == sweep, Job.cell >= first, Job.cell < end, Job.seed == seed)
    found = session.execute(select(Job.cell, Job.params, Job.pack).where(*wanted).order_by(Job.cell))
    return [(row.cell, row.params, row.pack) for row in found]


def prolong_some(session: Session, sweep: int, after: Place, limit: int) -> tuple[Place, int] | None:
    """Make jobs ready that trained fewer epochs than their sweep has by now, once all new jobs are stored.

    Args:
        after: those after this place, in the order of the claim.

    Returns:
        The place to go on from, and the number of jobs that are ready again; None when the extension has come to its
        end, or the sweep is being deleted.
    """
    found = stand(session, sweep, lock=True)
    if found.todo is None or found.state == SweepState.DELETING:
        return None
    if found.stored < found.total:  # another extension has begun since the caller looked
        return START, 0
    if after == START:
        # Who has ended by now and not yet committed did not know of more epochs; who ends later will. So may jobs end
        # whose attempt was taken for lost, until somebody claims them.
        lost = exists().where(
            Attempt.job_id == Job.id, Attempt.attempt == Job.attempt, Attempt.outcome == FailureReason.LOST
        )
        tried = and_(Job.state.in_([JobState.READY, JobState.WAITING]), Job.attempt > 0, lost)
        ending = select(Job.id).where(Job.sweep_id == sweep, or_(Job.state == literal(JobState.RUNNING), tried))
        session.execute(ending.order_by(Job.id).with_for_update(of=Job))
    until = func.coalesce(Job.until, found.spec.epochs)
    short = (Job.sweep_id == sweep, Job.state == literal(JobState.SUCCEEDED), until < found.epochs)
    query = select(Job.id, Job.pack, Job.params, Job.epochs, until.label("until")).where(*short)
    rows = session.execute(query.where(tuple_(Job.pack, Job.id) > after).order_by(Job.pack, Job.id).limit(limit)).all()
    if not rows and after == START:
        execute_update(session, update(Sweep).where(Sweep.id == sweep).values(extending=None))
        return None
    on = [row.id for row in rows if steering.trains_on({**found.spec.fixed, **row.params}, row.epochs or 0, row.until)]
    same = {row.id for row in rows}.difference(on)
    execute_update(session, update(Job).where(Job.id.in_(same)).values(until=found.epochs))
    ready = steering.prolong(session, on)
    _cancel_too(session, found)
    return ((rows[-1].pack, rows[-1].id) if rows else START), ready


def touch(session: Session, sweep: int) -> None:
    """A sign of life of its extender."""
    execute_update(session, update(Sweep).where(Sweep.id == sweep).values(touched_at=now()))


def _cancel_too(session: Session, found: Stand) -> None:
    """What was added to a cancelled sweep is cancelled, too."""
    if found.state == SweepState.CANCELLED:
        steering.cancel_unstarted(session, found.sweep)


def abandoned(session: Session, silent_seconds: float = ABANDONED_SECONDS) -> list[int]:
    """Sweeps whose extension is not at its end, and whose extender went silent."""
    silent: tuple[Any, ...] = (Sweep.extending.is_not(None), is_past(Sweep.touched_at, silent_seconds))
    states = Sweep.state.in_((*EXTENDED, SweepState.CANCELLED))
    return list(session.scalars(select(Sweep.id).where(*silent, states).order_by(Sweep.id)))
