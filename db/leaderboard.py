"""Which job is best? One query each, ordered by an index: as fast for a million jobs as for ten.

`rank_key` is lower for better whatever the objective's direction, and the largest float for a score that is not finite.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, case, func, select
from sqlalchemy.orm import Session

from db import documents
from db.filters import matching, sqlite_json
from db.models import Job, Sweep, literal
from db.rows import some_at_once
from db.strangers import metric_of, parameters_of
from jobs.errors import InputError, NotFound
from jobs.spec import Json
from jobs.states import SweepState

RANKED = Job.rank_key.is_not(None)  # has succeeded; one that trains more epochs keeps its place by its last result
# Of a sweep that is being deleted nothing is shown. No join: planners would begin with the sweeps, and sort.
KEPT = Job.sweep_id.not_in(select(Sweep.id).where(Sweep.state == literal(SweepState.DELETING)))


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A job and its place on a leaderboard."""

    rank: int  # 1 is best
    job: int
    sweep: int
    task: str
    params: dict[str, Any]  # every parameter: the cell's own values over the sweep's fixed ones
    varied: list[str]  # the parameters that the cell sets
    seed: int
    metric: str  # what the score is, such as "val_accuracy"
    score: float | None  # at the best epoch; None: not finite
    metrics: dict[str, float | None]  # train_*, val_* and test_* values at the best epoch
    best_epoch: int
    epochs: int  # trained
    seconds: float  # of training, over all attempts
    state: str  # succeeded; another, if it is to train more epochs than this result has


@dataclass(frozen=True, kw_only=True)
class RankedCell:
    """A cell, its place on a leaderboard, and how its seeds vary."""

    rank: int  # 1 is best
    sweep: int
    task: str
    cell: int  # number in the sweep's order, from 0
    params: dict[str, Any]  # every parameter
    varied: list[str]  # the parameters that the cell sets
    metric: str
    mean: float | None  # of the scores; None: one of them is not finite
    std: float | None  # sample standard deviation; None: a single job, or a score that is not finite
    n: int  # jobs that succeeded
    jobs: list[int]  # their ids, by seed
    metrics: dict[str, float | None]  # means over the seeds; None: one of the values is not finite
    metrics_std: dict[str, float | None]  # sample standard deviations; None: a single job, or no mean


def top(
    session: Session,
    *,
    sweep: int | None = None,
    task: str | None = None,
    metric: str | None = None,
    where: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> list[Ranked]:
    """The best jobs of a sweep, of a task over all sweeps, or of everything; best first.

    Equal scores: the job of the lower number is better, which is the sweep's order: so places are the same in every
    run. A task's jobs are comparable only when they have one metric: `metric`, else the task's own objective.

    Raises:
        InputError: an unknown task, sweep or parameter, or arguments that exclude each other.
    """
    query = _ranked_columns().where(*_scope(session, sweep, task, metric))
    if where:
        query = query.join(Sweep, Sweep.id == Job.sweep_id).where(*_filters(session, sweep, task, where))
    rows = session.execute(query.order_by(Job.rank_key, Job.id).limit(limit)).all()
    fixed = _fixed(session, rows)
    return [_ranked(rank, row, fixed[row.sweep_id]) for rank, row in enumerate(rows, 1)]


def by_cell(
    session: Session,
    *,
    sweep: int | None = None,
    task: str | None = None,
    metric: str | None = None,
    where: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> list[RankedCell]:
    """The best cells by the mean of their scores in the objective's direction; arguments and errors as `top`.

    A cell with a score that is not finite comes last; of equal means the sweep's order decides. Equal cells of two
    sweeps stay two cells.
    """
    conditions = (*_scope(session, sweep, task, metric), *_filters(session, sweep, task, where or {}))
    cells = _best_cells(conditions, limit).subquery()
    order = (cells.c.key.is_(None), cells.c.key, cells.c.sweep_id, cells.c.cell)
    query = (
        _ranked_columns()
        .add_columns(Job.cell)
        .join(cells, (Job.sweep_id == cells.c.sweep_id) & (Job.cell == cells.c.cell))
        .where(RANKED)
        .order_by(*order, Job.seed)
    )
    found = session.execute(query).all()
    fixed = _fixed(session, found)
    grouped = groupby(found, key=lambda row: (row.sweep_id, row.cell))
    return [_ranked_cell(rank, list(rows), fixed[key[0]]) for rank, (key, rows) in enumerate(grouped, 1)]


def _best_cells(conditions: Sequence[ColumnElement[bool]], limit: int | None) -> Select[Any]:
    all_finite = func.count(Job.score) == func.count()
    key = case((all_finite, func.avg(case((Sweep.mode == "max", -Job.score), else_=Job.score)))).label("key")
    return (
        select(Job.sweep_id, Job.cell, key)
        .join(Sweep, Sweep.id == Job.sweep_id)
        .where(*conditions)
        .group_by(Job.sweep_id, Job.cell)
        .order_by(key.is_(None), key, Job.sweep_id, Job.cell)
        .limit(limit)
    )


def _ranked_columns() -> Select[Any]:
    return select(
        Job.id,
        Job.sweep_id,
        Job.task,
        Job.params,
        Job.seed,
        Job.metric,
        Job.score,
        Job.metrics,
        Job.best_epoch,
        Job.epochs,
        Job.seconds,
        Job.state,
    )


def _fixed(session: Session, rows: Sequence[Row[Any]]) -> dict[int, Json]:
    """The fixed parameters of each of these jobs' sweeps: a spec is read once, and not with each of its jobs."""
    part: ColumnElement[Any] = Sweep.spec["fixed"]
    if session.get_bind().dialect.name == "sqlite":
        part = sqlite_json(Sweep.spec, part)
    fixed, specs = dict[int, Json](), select(Sweep.id, part.label("fixed"))
    for some in some_at_once(sorted({row.sweep_id for row in rows})):
        found = session.execute(specs.where(Sweep.id.in_(some)))
        fixed |= {row.id: documents.mapping(row.fixed) for row in found}
    return fixed


def _scope(
    session: Session, sweep: int | None, task: str | None, metric: str | None
) -> tuple[ColumnElement[bool], ...]:
    if sweep is not None and (task is not None or metric is not None):
        raise InputError("a leaderboard is of a sweep, which has its own metric, or of a task: give only one of them")
    if sweep is not None:
        check_kept(session, sweep)
        return RANKED, Job.sweep_id == sweep
    if task is not None:
        return RANKED, KEPT, Job.task == task, Job.metric == metric_of(session, task, metric)
    if metric is not None:
        raise InputError("a metric belongs to a task: name the task too")
    return RANKED, KEPT


def check_kept(session: Session, sweep: int) -> None:
    """Raises:
    NotFound: there is no such sweep, or it is being deleted.
    """
    state = session.scalar(select(Sweep.state).where(Sweep.id == sweep))
    if state is None:
        raise NotFound(f"there is no sweep {sweep}; `gridyard status` lists them")
    if state == SweepState.DELETING:
        raise NotFound(f"sweep {sweep} is being deleted; `gridyard status` lists those that are kept")


def _filters(
    session: Session, sweep: int | None, task: str | None, where: Mapping[str, Any]
) -> list[ColumnElement[bool]]:
    return matching(session, where, parameters_of(session, sweep, task)) if where else []


def _ranked(rank: int, row: Row[Any], fixed: Json) -> Ranked:
    return Ranked(
        rank=rank,
        job=row.id,
        sweep=row.sweep_id,
        task=row.task,
        params=documents.parameters(fixed, row.params),
        varied=sorted(documents.mapping(row.params)),
        seed=row.seed,
        metric=row.metric,
        score=row.score,
        metrics=documents.numbers(row.metrics),
        best_epoch=row.best_epoch,
        epochs=row.epochs,
        seconds=row.seconds,
        state=row.state,
    )


def _ranked_cell(rank: int, rows: list[Row[Any]], fixed: Json) -> RankedCell:
    first, scores = rows[0], [row.score for row in rows]
    measured = [documents.numbers(row.metrics) for row in rows]
    metrics = {name: [one.get(name) for one in measured] for name in measured[0]}
    return RankedCell(
        rank=rank,
        sweep=first.sweep_id,
        task=first.task,
        cell=first.cell,
        params=documents.parameters(fixed, first.params),
        varied=sorted(documents.mapping(first.params)),
        metric=first.metric,
        mean=_mean(scores),
        std=_std(scores),
        n=len(rows),
        jobs=[row.id for row in rows],
        metrics={name: _mean(values) for name, values in metrics.items()},
        metrics_std={name: _std(values) for name, values in metrics.items()},
    )


def _mean(values: list[float | None]) -> float | None:
    finite = _finite(values)
    return statistics.fmean(finite) if finite else None


def _std(values: list[float | None]) -> float | None:
    finite = _finite(values)
    return statistics.stdev(finite) if len(finite) > 1 else None


def _finite(values: list[float | None]) -> list[float]:
    """The values; none of them when one is not finite."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return finite if len(finite) == len(values) else []
