"""Why a leaderboard has no rows: nothing has succeeded yet, or nothing is what was asked for."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from db.leaderboard import RANKED
from db.models import Job, Sweep
from db.strangers import metric_of

SHOWN = 10  # values of a parameter that a sentence lists


def why_empty(
    session: Session,
    *,
    sweep: int | None = None,
    task: str | None = None,
    metric: str | None = None,
    where: Mapping[str, Any] | None = None,
) -> str:
    """One sentence; the arguments are those with which `db.leaderboard` found nothing."""
    of = f" of sweep {sweep}" if sweep is not None else f" of {task}" if task is not None else ""
    chosen = [Job.sweep_id == sweep] if sweep is not None else [Job.task == task] if task is not None else []
    if not _is_one_ranked(session, *chosen):
        return f"no job{of} has succeeded yet"
    if task is not None:
        metric = metric_of(session, task, metric)
        if not _is_one_ranked(session, Job.task == task, Job.metric == metric):
            return _why_without(session, task, metric)
    where = where or {}
    for name, value in where.items() if sweep is not None else ():
        values = list(_values(session.scalars(select(Sweep.spec).where(Sweep.id == sweep)).one(), name.split(".")))
        if not any(_equal(value, other) for other in values):
            return f"no job{of} has {name} = {_shown(value)}{_listed(values)}"
    asked = " and ".join(f"{name} = {_shown(value)}" for name, value in where.items())
    return f"no job{of} with {asked} has succeeded"


def _is_one_ranked(session: Session, *conditions: ColumnElement[bool]) -> bool:
    return session.scalar(select(Job.id).where(RANKED, *conditions).limit(1)) is not None


def _why_without(session: Session, task: str, metric: str) -> str:
    metrics = set(session.scalars(select(Sweep.metric).where(Sweep.task == task).distinct()))
    if metric in metrics:
        return f"no job of a sweep of {task} that is ranked by {metric} has succeeded yet"
    return f"no sweep of {task} was ranked by {metric}; its sweeps were ranked by {', '.join(sorted(metrics))}"


def _values(spec: Mapping[str, Any], path: list[str]) -> Iterator[Any]:
    """The different values that a sweep's jobs have of a parameter; none of them for a part that no job has."""
    top, *rest = path
    fixed = [spec["fixed"][top]] if top in spec["fixed"] else []
    listed = [cell[top] for cell in spec.get("cells", []) if top in cell]
    is_fixed_in_one = not listed or len(listed) < len(spec["cells"])
    seen = set()
    for value in [*spec.get("grid", {}).get(top, []), *listed, *(fixed if is_fixed_in_one else [])]:
        for name in rest:
            value = value.get(name) if isinstance(value, dict) else None
        text = json.dumps(value, sort_keys=True)
        if text not in seen and not (rest and value is None):
            seen.add(text)
            yield value


def _equal(value: Any, other: Any) -> bool:
    """As JSON is: 1 equals 1.0, true is no number."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _listed(values: list[Any]) -> str:
    if not values:
        return ""
    more = ", …" if len(values) > SHOWN else ""
    shown = ", ".join(map(_shown, values[:SHOWN])) + more
    return f"; its value is {shown}" if len(values) == 1 else f"; its values are {shown}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
