"""How values in options are read: as in a sweep file. And what `extend` says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gridyard.cli.common import counted
from jobs.errors import InputError
from scheduler.formats import NotReadable, parse_yaml
from scheduler.places import dotted

if TYPE_CHECKING:
    from scheduler.extend import Extended


def extension(grid: Sequence[str], cells: Sequence[str], seeds: str | None, epochs: int | None) -> dict[str, Any]:
    """The arguments of `Sweep.extend`; values are read as in a sweep file.

    Raises:
        InputError: a text cannot be read.
    """
    read_seeds = None if seeds is None else _read("--seeds", seeds, seeds)
    return {
        "grid": _grid(grid) if grid else None,
        "cells": [_read("--cell", text, text) for text in cells] if cells else None,
        "seeds": _list("--seeds", seeds) if seeds and isinstance(read_seeds, str) else read_seeds,
        "epochs": epochs,
    }


def _grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not (name and equals and values):
            raise InputError(f"--grid {text}: is not PARAM=VALUES; write for example --grid lr=0.3,0.1")
        if name in found:
            raise InputError(f"--grid {text}: {name} is given twice; give all its values in one list")
        found[name] = _list(f"--grid {name}", values)
    return found


def conditions(texts: Sequence[str]) -> dict[str, Any]:
    """`lr=0.01` becomes {"lr": 0.01}; values are read as in a sweep file.

    Raises:
        InputError: a text has no "=", its value cannot be read, or a parameter is given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        name = key.strip()
        if not equals or not name:
            raise InputError(f"--where {text}: is not key=value; write for example --where lr=0.01")
        if name in found:
            raise InputError(f"--where {text}: {name} is given twice; a job has one value of it, keep one of them")
        found[name] = _read("--where", value, text)
    return found


def _list(option: str, text: str) -> list[Any]:
    """`0.3,0.1` as `[0.3, 0.1]`; `[16, 8],[32]` as a list of lists."""
    try:
        whole = parse_yaml(text).data
    except NotReadable:  # several lists
        whole = None
    values = whole if isinstance(whole, list) else _read(option, f"[{text}]", text)
    assert isinstance(values, list)
    return values


def _read(option: str, text: str, given: str) -> Any:
    try:
        document = parse_yaml(text)
    except NotReadable as error:
        raise InputError(f"{option} {given}: its value {error.message}") from None
    for path, _, _ in document.twice:
        raise InputError(f"{option} {given}: the key {dotted(path)} stands twice; keep one of them")
    return document.data


def extended(extended: "Extended") -> str:
    """What an extension gave, in words."""
    if not extended.jobs and not extended.again:
        return "nothing new; it has all that already"
    cells = f" in {counted(extended.cells, 'new cell')}" if extended.cells else ""
    parts = [f"{counted(extended.jobs, 'job')} more{cells}"] if extended.jobs else []
    if extended.again:
        parts.append(f"{counted(extended.again, 'job')} of before {'trains' if extended.again == 1 else 'train'} on")
    return ", ".join(parts)
