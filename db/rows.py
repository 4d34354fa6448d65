"""What every writer of rows needs: the outcome of an UPDATE, numbers a database can hold, specs as JSON."""

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import CursorResult, Delete, Table, Update, select
from sqlalchemy.orm import Session

from db.models import Base, Sweep
from jobs.errors import RowDamaged
from jobs.spec import JobSpec, Json, SweepSpec

T = TypeVar("T")
_SPEC = TypeAdapter(SweepSpec)
NAMED_AT_ONCE = 1_000  # ids of a statement: databases limit its values
_KEPT = 256  # specs that a process remembers
_specs: dict[str, SweepSpec] = {}  # by the sweep's uid; what we take of a spec never changes


def table(model: type[Base]) -> Table:
    """The model's table, for statements without the ORM, which costs more than the database does."""
    return cast(Table, model.__table__)


def execute_update(session: Session, statement: Update | Delete) -> int:
    """Execute an UPDATE or DELETE; the number of rows it changed."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast(CursorResult[Any], result).rowcount


def some_at_once(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """As many of them as a statement may name."""
    for start in range(0, len(ids), NAMED_AT_ONCE):
        yield ids[start : start + NAMED_AT_ONCE]


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


def sweep_spec(session: Session, sweep: int, uid: str) -> SweepSpec:
    """The spec of a stored sweep, read once. Its values, seeds and epochs may be those of before an extension.

    Raises:
        RowDamaged: it is none.
    """
    spec = _specs.get(uid)
    if spec is None:
        stored = session.scalars(select(Sweep.spec).where(Sweep.id == sweep)).one()
        spec = validated(_SPEC, stored, f"the spec of sweep {sweep}")
        if len(_specs) >= _KEPT:
            _specs.clear()
        _specs[uid] = spec
    return spec


def validated(adapter: TypeAdapter[T], document: Any, what: str) -> T:
    """What a document of a row says.

    Raises:
        RowDamaged: it is of another kind.
    """
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        raise RowDamaged(
            f"{what} in the database cannot be read: {_first(error)}. Restore its row, or delete the sweep"
        ) from None


def _first(error: ValidationError) -> str:
    """What is wrong, without words of pydantic's, which tell of our classes."""
    place = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))
    return f"{place} is missing or of the wrong kind" if place else "it is no object of JSON"


def job_spec(spec: SweepSpec, sweep: int, uid: str, job: int, params: Json, seed: int, epochs: int) -> JobSpec:
    """What a trainer needs to know of a job: its row's own values over those of its sweep.

    Raises:
        RowDamaged: its parameters are no object.
    """
    if not isinstance(params, dict):
        raise RowDamaged(f"the parameters of job {job} in the database cannot be read")
    return JobSpec(
        job=job,
        sweep=sweep,
        sweep_uid=uid,
        task=spec.task,
        params={**spec.fixed, **params},
        seed=seed,
        epochs=epochs,
        objective=spec.objective,
        early_stopping=spec.early_stopping,
    )
