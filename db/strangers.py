"""What a leaderboard asks of a task. Of a user's own that this machine does not have, the database's sweeps answer."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import documents
from db.filters import parameter_names
from db.models import Sweep
from jobs import catalogue
from jobs.errors import InputError


def metric_of(session: Session, task: str, metric: str | None) -> str:
    """The metric that ranks a task: this one, else its own objective's, or its newest sweep's where that tells more.

    Raises:
        UnknownTask: neither the catalogue nor a sweep has such a task.
        InputError: it is not ranked by this metric.
    """
    known = catalogue.get(task)
    if known and not known.prepare:
        default, allowed = known.objective.metric, known.validation_metrics
    else:  # not on this machine; or its metrics depend on the data, and its objective with them
        metrics = select(Sweep.metric).where(Sweep.task == task).order_by(Sweep.id.desc())
        ranked = list(dict.fromkeys(session.scalars(metrics)))
        default = ranked[0] if ranked else catalogue.find(task).objective.metric
        allowed = known.validation_metrics if known else ranked
    if metric is not None and metric not in allowed:
        raise InputError(f"task {task!r} is not ranked by {metric!r}; choose one of {', '.join(allowed)}")
    return metric or default


def parameters_of(session: Session, sweep: int | None, task: str | None) -> set[str]:
    """Every name that a filter on a leaderboard of this sweep, of this task, or of everything may use.

    Raises:
        UnknownTask: neither the catalogue nor a sweep has such a task.
    """
    if sweep is not None:
        task = session.scalar(select(Sweep.task).where(Sweep.id == sweep))
    if task is not None:
        return _names_of(session, task)
    in_sweeps = session.scalars(select(Sweep.task).distinct())
    return set().union(*(_names_of(session, name) for name in {*catalogue.tasks(), *in_sweeps}))


def _names_of(session: Session, task: str) -> set[str]:
    known = catalogue.get(task)
    return set(parameter_names(known.params)) if known else _in_newest_sweep(session, task)


def _in_newest_sweep(session: Session, task: str) -> set[str]:
    specs = session.scalars(select(Sweep.spec).where(Sweep.task == task).order_by(Sweep.id.desc()).limit(1)).all()
    if not specs:
        catalogue.find(task)  # raises
    spec = documents.mapping(specs[0] if specs else None)
    values = [documents.mapping(spec.get("fixed")), *documents.objects(spec.get("cells"))]
    grid = documents.mapping(spec.get("grid")).items()
    values += [{name: value} for name, listed in grid if isinstance(listed, list) for value in listed]
    return {name for params in values for name in _names(params)}


def _names(params: Mapping[str, Any]) -> Iterator[str]:
    """`lr`, `scheduler`, `scheduler.name`, …"""
    for name, value in params.items():
        yield name
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in _names(value))
