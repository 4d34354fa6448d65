"""Where things stand in a sweep file, and the problems found there."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.errors import Problem, SweepFileError

Path = tuple[str | int, ...]  # ("grid", "lr", 1) is the second value of lr
Position = tuple[int, int]  # line and column, from 1; column 0: not known


def dotted(path: Path) -> str:
    """`grid.lr[1]` for ("grid", "lr", 1)."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def key_name(key: Any) -> str:
    """A key as a sweep file says it: true, not True."""
    return json.dumps(key) if key is None or isinstance(key, bool) else str(key)


def in_text(position: Position) -> str:
    line, column = position
    return f"line {line}, column {column}" if column else f"line {line}"


def _nowhere(path: Path, at_key: bool) -> Position | None:
    return None


@dataclass(frozen=True)
class Places:
    """Turns a path into words: "line 7, column 9, grid.lr[1]"."""

    locate: Callable[[Path, bool], Position | None] = _nowhere  # True: of the key, False: of its value
    sets: Sequence[Path] = ()  # what `--set` replaced: the file's line would mislead there

    def of(self, path: Path, *, at_key: bool = False) -> str:
        replaced = next((given for given in self.sets if path[: len(given)] == given), None)
        if replaced is not None:
            return f"--set {dotted(replaced)}" + (f", {dotted(path)}" if path != replaced else "")
        position = self.position(path, at_key=at_key)
        return ", ".join(filter(None, (position and in_text(position), dotted(path))))

    def position(self, path: Path, *, at_key: bool = False) -> Position | None:
        """Of the path, or of the nearest thing around it: a missing key is looked for in its mapping."""
        if not path:
            return None
        return self.locate(path, at_key) or self.position(path[:-1])


class Problems:
    """Every problem of one sweep; the first one at a place hides others at the same place."""

    def __init__(self, source: str, places: Places) -> None:
        self.source, self.places = source, places
        self._found: dict[tuple[str, bool], tuple[Position, Problem]] = {}

    def add(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """`at_key`: the name at the path is wrong, not its value."""
        position = self.places.position(path, at_key=at_key)
        self.note(self.places.of(path, at_key=at_key), message, position, at_key=at_key)

    def note(self, place: str, message: str, position: Position | None = None, *, at_key: bool = False) -> None:
        """A problem whose place no path tells."""
        problem = Problem(printable(place), printable(message))
        self._found.setdefault((place, at_key), (position or (0, 0), problem))

    def raise_if_any(self) -> None:
        """
        Raises:
            SweepFileError: there are problems; it has all of them, in the order of the file.
        """
        if problems := self.in_order():
            raise SweepFileError(self.source, problems)

    def in_order(self) -> list[Problem]:
        """All of them, in the order of the file."""
        return [problem for _, problem in sorted(self._found.values(), key=lambda found: found[0])]


def printable(text: str) -> str:
    """Whatever the file held, the message can be printed on one line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
