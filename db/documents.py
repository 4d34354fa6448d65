"""JSON documents of rows, read with suspicion: whoever may write rows must not be able to stop who reads them.

What is no JSON, or nested so deep that walking it would end in a RecursionError, is read as None; each reader asks for
the kind of document that it needs, and gets an empty one where another stands.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from jobs.spec import Json

DEEPEST = 64  # lists and objects within each other; ours have five


def read(text: str | bytes) -> Any:
    """The document of a column; None where it cannot be read. For `create_engine(json_deserializer=…)`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    opening = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    return None if opening > DEEPEST and _is_deep(document) else document


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(DEEPEST):
        level = [inner for one in level if isinstance(one, list | dict) for inner in _members(one)]
        if not level:
            return False
    return True


def _members(document: list[Any] | dict[str, Any]) -> list[Any]:
    return document if isinstance(document, list) else list(document.values())


def mapping(document: Any) -> Json:
    """An object."""
    return document if isinstance(document, dict) else {}


def parameters(*documents: Any) -> Json:
    """Parameters of all these objects; where several have one, the last counts.

    By their names, for one order on all databases: JSONB of PostgreSQL keeps none, and gives short names first.
    """
    found = {name: value for document in documents for name, value in mapping(document).items()}
    return {name: _by_name(value) for name, value in sorted(found.items())}


def _by_name(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _by_name(inner) for name, inner in sorted(value.items())}


def numbers(document: Any) -> dict[str, float | None]:
    """Metrics by name; without those that are no numbers."""
    return {name: value for name, value in mapping(document).items() if value is None or _is_number(value)}


def objects(document: Any) -> list[Json]:
    """A list of objects."""
    return [one for one in document if isinstance(one, dict)] if isinstance(document, list) else []


def whole(value: Any, least: int = 0, most: int = 1 << 53) -> int | None:
    """A whole number of this range."""
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most else None


def environment(document: Any) -> Json:
    """What a result depends on besides its job; what readers rely on is left out where it is of another kind."""
    return {name: value for name, value in mapping(document).items() if name not in _KINDS or _KINDS[name](value)}


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_pack(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("mode"), str) and whole(value.get("jobs"), 1) is not None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "data": _is_text,
    "device": _is_text,
    "threads": lambda value: whole(value, 1, 1 << 16) is not None,
    "parameters": lambda value: whole(value) is not None,
    "pack": _is_pack,
    "notes": _are_texts,
    "rows": lambda value: isinstance(value, dict),
}
