"""What every writer of rows needs: the outcome of an UPDATE, numbers a database can hold, specs as JSON."""

import dataclasses
import math
import sys
from typing import Any, cast

from pydantic import TypeAdapter
from sqlalchemy import CursorResult, Delete, Update
from sqlalchemy.orm import Session

from db.models import Sweep
from jobs.spec import JobSpec, Json, SweepSpec

_SPEC = TypeAdapter(SweepSpec)


def execute_update(session: Session, statement: Update | Delete) -> int:
    """Execute an UPDATE or DELETE; the number of rows it changed."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast(CursorResult[Any], result).rowcount


def finite_or_none(value: float) -> float | None:
    """JSON and leaderboards know no NaN and no infinity."""
    return value if math.isfinite(value) else None


def rank_key(score: float, mode: str) -> float:
    """What jobs are ranked by: lower is better, whatever the mode; a score that is not finite comes last."""
    if not math.isfinite(score):
        return sys.float_info.max
    return -score if mode == "max" else score


def spec_as_json(spec: SweepSpec) -> Json:
    """A spec as it is stored in `sweeps.spec`."""
    return dataclasses.asdict(spec)


def sweep_spec(sweep: Sweep) -> SweepSpec:
    """The spec of a stored sweep."""
    return _SPEC.validate_python(sweep.spec)


def job_spec(sweep: Sweep, spec: SweepSpec, job: int, params: Json, seed: int) -> JobSpec:
    """What a trainer needs to know of a job: its row's own values over those of its sweep."""
    return JobSpec(
        job=job,
        sweep=sweep.id,
        sweep_uid=sweep.uid,
        task=spec.task,
        params={**spec.fixed, **params},
        seed=seed,
        epochs=spec.epochs,
        objective=spec.objective,
        early_stopping=spec.early_stopping,
    )
