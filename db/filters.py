"""Filters on parameters: `where={"lr": 0.01, "scheduler.name": "step"}` becomes conditions that the database checks.

A job's effective value is its cell's own, else the sweep's fixed one. Values are equal as JSON is: 1 equals 1.0, true
is no number, lists and objects by their contents.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, case, cast, func, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from db.models import Job, Sweep
from jobs.errors import InputError, did_you_mean


def matching(session: Session, where: Mapping[str, Any], known: Collection[str]) -> list[ColumnElement[bool]]:
    """One condition on jobs joined with sweeps per parameter of `where`.

    Args:
        known: names of all parameters that there are.

    Raises:
        InputError: there is no such parameter; the message names the nearest.
    """
    for name in where:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"there is no parameter {name!r} ({', '.join(sorted(known))}){hint}")
    equal = _postgresql_equal if session.get_bind().dialect.name == "postgresql" else _sqlite_equal
    return [equal(name.split("."), value) for name, value in where.items()]


def parameter_names(model: type[BaseModel]) -> Iterator[str]:
    """Every name a filter may use: `lr`, `scheduler`, `scheduler.name`, …"""
    for name, field in model.model_fields.items():
        yield name
        for nested in models_in(field.annotation):
            yield from (f"{name}.{inner}" for inner in parameter_names(nested))


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The parameter models inside a type such as `StepScheduler | CosineScheduler | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def _postgresql_equal(keys: list[str], value: Any) -> ColumnElement[bool]:
    top, *rest = keys
    found: ColumnElement[Any] = func.coalesce(
        func.jsonb_extract_path(Job.params, top), func.jsonb_extract_path(Sweep.spec, "fixed", top), type_=JSONB
    )
    found = func.jsonb_extract_path(found, *rest, type_=JSONB) if rest else found
    return found == cast(value, JSONB)  # JSON null is a value here, SQL's NULL means that there is none


def _sqlite_equal(keys: list[str], value: Any) -> ColumnElement[bool]:
    own, fixed = _path("$", keys), _path("$", ["fixed", *keys])
    params, spec = sqlite_json(Job.params), sqlite_json(Sweep.spec)
    set_by_cell = func.json_type(params, _path("$", keys[:1]))  # NULL: the cell does not have it
    return or_(
        and_(set_by_cell.is_not(None), _sqlite_value_equal(params, own, value)),
        and_(set_by_cell.is_(None), _sqlite_value_equal(spec, fixed, value)),
    )


def sqlite_json(column: Any, part: Any = None) -> ColumnElement[Any]:
    """A column, or a part of it, that holds JSON; NULL where it holds other text, at which SQLite's functions fail."""
    return case((func.json_valid(column), column if part is None else part))


def _path(start: str, keys: list[str]) -> str:
    return start + "".join(f".{json.dumps(key)}" for key in keys)


def _sqlite_value_equal(document: Any, path: str, value: Any) -> ColumnElement[bool]:
    """Equality of JSON by its parts: SQLite compares JSON as text only, where 1 and 1.0 differ."""
    kind, found = func.json_type(document, path), func.json_extract(document, path)
    match value:
        case None:
            return kind == "null"
        case bool():
            return kind == ("true" if value else "false")
        case int() | float():
            return and_(kind.in_(("integer", "real")), found == value)
        case str():
            return and_(kind == "text", found == value)
        case list() | tuple():
            parts = [_sqlite_value_equal(document, f"{path}[{i}]", item) for i, item in enumerate(value)]
            return and_(kind == "array", func.json_array_length(document, path) == len(value), *parts)
        case dict():
            keys = select(func.count()).select_from(func.json_each(document, path).table_valued("key"))
            parts = [_sqlite_value_equal(document, _path(path, [key]), item) for key, item in value.items()]
            return and_(kind == "object", keys.scalar_subquery() == len(value), *parts)
    raise InputError(f"a parameter's value is a number, a text, true, false, null, a list or an object; got {value!r}")
