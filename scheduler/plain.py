"""What a sweep is made of, whatever format it comes from: objects, lists, texts, finite numbers, booleans, null."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

from scheduler.places import Path, Problems, key_name
from scheduler.wording import given

MAX_DEPTH = 32
TOO_DEEP = "is nested too deeply; a sweep needs no more than a few levels"
MAX_INT = 2**63 - 1  # what a column of the database holds


def plain(value: Any, problems: Problems, path: Path = ()) -> Any:
    """A copy made of dict, list, str, int, float, bool and None; what is something else becomes None and a problem."""
    if len(path) > MAX_DEPTH:
        problems.add(path, TOO_DEEP)
        return None
    if isinstance(value, Mapping):
        return _mapping(value, problems, path)
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item, problems, (*path, index)) for index, item in enumerate(value)]
    if refused := _refused(value):
        problems.add(path, refused)
        return None
    return value


def _mapping(value: Mapping[Any, Any], problems: Problems, path: Path) -> dict[str, Any]:
    result = {}
    for key, item in value.items():
        name = key_name(key)
        if not isinstance(key, str):
            problems.add((*path, name), f"the key {name} is not a text; put it in quotes", at_key=True)
        if refused := _refused(name):
            problems.add((*path, name), refused, at_key=True)
        else:
            result[name] = plain(item, problems, (*path, name))
    return result


def _refused(value: Any) -> str | None:
    """Why a scalar is refused; None when it is not."""
    if isinstance(value, str):
        storable = "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
        return None if storable else f"was given {given(value)}, which has characters that cannot be stored"
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if abs(value) <= MAX_INT else f"is a whole number too large to store; allowed is at most {MAX_INT}"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"was given {value}; allowed is a finite number"
    if isinstance(value, date | time):
        return f"was given the date {value}; a sweep knows no dates, put a text in quotes"
    return (
        f"was given a value of type {type(value).__name__}; allowed are texts, numbers, true, false, lists and objects"
    )
