"""YAML, JSON and TOML: a text becomes plain data, and every value keeps its place."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from jobs.errors import Problem, SweepFileError
from scheduler.places import Path, Position, in_text, key_name
from scheduler.plain import MAX_DEPTH, TOO_DEEP

MAX_VALUES = 5_000_000  # aliases of aliases of aliases (&a, *a) grow without end


@dataclass(frozen=True)
class Document:
    """A parsed text."""

    data: Any
    locate: Callable[[Path, bool], Position | None]
    twice: list[tuple[Path, Position, Position]] = field(default_factory=list)  # keys: path, first and second place


class NotReadable(Exception):
    """The text is not of its format."""

    def __init__(self, message: str, position: Position | None = None) -> None:
        super().__init__(message)
        self.message, self.position = message, position

    def as_error(self, source: str) -> SweepFileError:
        return SweepFileError(source, [Problem(in_text(self.position) if self.position else "", self.message)])


def parse_yaml(text: str) -> Document:
    """
    Raises:
        NotReadable: the text is not YAML 1.2, or holds what a sweep has no use for, such as tags of other programs.
    """
    reader = _YamlReader()
    try:
        root = reader.yaml.compose(text)
        data = None if root is None else reader.value(root, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotReadable(f"is not YAML: {error.problem or error.context}", mark and _position(mark)) from None
    except YAMLError as error:
        raise NotReadable(f"is not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise NotReadable(TOO_DEEP) from None
    return Document(data, lambda path, at_key: _find_node(root, path, at_key), reader.twice)


class _YamlReader:
    """Builds plain values from YAML's nodes, which know their lines; ruamel's own constructor forgets them."""

    def __init__(self) -> None:
        self.yaml = YAML(typ="safe", pure=True)
        self.twice: list[tuple[Path, Position, Position]] = []
        self._values = 0

    def value(self, node: Node, path: Path) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise NotReadable(f"has more than {MAX_VALUES} values", _position(node.start_mark))
        if len(path) > MAX_DEPTH:
            raise NotReadable(TOO_DEEP, _position(node.start_mark))
        self._refuse_tag(node)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self.yaml.constructor.construct_object(node, deep=True)
        except ValueError as error:
            raise NotReadable(f"has a value that cannot be read: {error}", _position(node.start_mark)) from None

    def _refuse_tag(self, node: Node) -> None:
        """A tag may say that `foo` is a boolean: what a value is, its own look tells."""
        plain = isinstance(node, ScalarNode) and node.style is None
        tag = str(node.tag)
        if tag != str(self.yaml.resolver.resolve(type(node), node.value, (plain, not plain))):
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            raise NotReadable(
                f"has the tag {shown}; leave it out, and put a text in quotes", _position(node.start_mark)
            )

    def _mapping(self, node: MappingNode, path: Path) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        first: dict[Any, Position] = {}
        for key_node, value_node in node.value:
            position = _position(key_node.start_mark)
            if isinstance(key_node, MappingNode | SequenceNode):
                raise NotReadable("has a key that is a list or an object; a key is a name", position)
            merge = key_node.tag == "tag:yaml.org,2002:merge"  # YAML 1.1's; an unknown key like any other here
            key = key_node.value if merge else self.value(key_node, path)
            if key in result:
                self.twice.append(((*path, key_name(key)), first[key], position))
            first[key] = position
            result[key] = self.value(value_node, (*path, key_name(key)))
        return result


def _find_node(node: Node | None, path: Path, at_key: bool) -> Position | None:
    """Place of a value, or of the key before it."""
    key_node = node
    for part in path:
        if isinstance(node, MappingNode) and isinstance(part, str):
            key_node, node = next((pair for pair in reversed(node.value) if pair[0].value == part), (None, None))
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            key_node = node = node.value[part]
        else:
            return None
    found = key_node if at_key else node
    return _position(found.start_mark) if found else None


def _position(mark: Any) -> Position:
    return mark.line + 1, mark.column + 1


def parse_json(text: str) -> Document:
    """
    Raises:
        NotReadable: the text is not JSON.
    """
    twice = False

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        result = dict(found)
        twice = twice or len(result) < len(found)
        return result

    try:
        data = json.loads(text, object_pairs_hook=pairs)
        _limit_depth(data)
    except json.JSONDecodeError as error:
        raise NotReadable(f"is not JSON: {error.msg}", (error.lineno, error.colno)) from None
    except ValueError as error:  # a number of thousands of digits
        raise NotReadable(f"is not JSON that can be read: {error}") from None
    except RecursionError:
        raise NotReadable(TOO_DEEP) from None
    scan = cache(lambda: _JsonScan(text))  # most files are right: nobody asks for places
    return Document(
        data,
        lambda path, at_key: (scan().keys if at_key else scan().values).get(path),
        scan().twice if twice else [],
    )


def _limit_depth(data: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise NotReadable(TOO_DEEP)
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            _limit_depth(value, depth + 1)


class _JsonScan:
    """Places of all keys and values of a text that is JSON: Python's own decoder does not tell them."""

    _blank = re.compile(r"[ \t\r\n]*")
    _decoder = json.JSONDecoder()
    _scalar = re.compile(r"[^,\]} \t\r\n]+")

    def __init__(self, text: str) -> None:
        self.keys: dict[Path, Position] = {}
        self.values: dict[Path, Position] = {}
        self.twice: list[tuple[Path, Position, Position]] = []
        self._text = text
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]  # offsets of line starts
        self._line = 0  # of the last place asked for; they only grow
        self._value(0, ())

    def _skip(self, at: int, pattern: re.Pattern[str] = _blank) -> int:
        match = pattern.match(self._text, at)
        return match.end() if match else at

    def _place(self, at: int) -> Position:
        while self._line + 1 < len(self._lines) and self._lines[self._line + 1] <= at:
            self._line += 1
        return self._line + 1, at - self._lines[self._line] + 1

    def _value(self, at: int, path: Path) -> int:
        """Reads one value and the blanks around it; returns the offset behind."""
        at = self._skip(at)
        self.values[path] = self._place(at)
        if not path or not isinstance(path[-1], str):
            self.keys[path] = self.values[path]
        match self._text[at]:
            case "{":
                at = self._object(at + 1, path)
            case "[":
                at = self._array(at + 1, path)
            case '"':
                _, at = self._decoder.raw_decode(self._text, at)
            case _:
                at = self._skip(at, self._scalar)
        return self._skip(at)

    def _object(self, at: int, path: Path) -> int:
        at = self._skip(at)
        while self._text[at] != "}":
            place = self._place(at)
            key, at = self._decoder.raw_decode(self._text, at)
            if (*path, key) in self.keys:
                self.twice.append(((*path, key), self.keys[*path, key], place))
            self.keys[*path, key] = place
            at = self._value(self._skip(at) + 1, (*path, key))
            at = self._skip(at + (self._text[at] == ","))
        return at + 1

    def _array(self, at: int, path: Path) -> int:
        at, index = self._skip(at), 0
        while self._text[at] != "]":
            at = self._value(at, (*path, index))
            at, index = self._skip(at + (self._text[at] == ",")), index + 1
        return at + 1


def parse_toml(text: str) -> Document:
    """
    Raises:
        NotReadable: the text is not TOML.
    """
    try:
        data = tomllib.loads(text)
        _limit_depth(data)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        message = str(error)[: place.start()] if place else str(error)
        position = (int(place[1]), int(place[2])) if place else None
        raise NotReadable(f"is not TOML: {message}", position) from None
    except ValueError as error:  # a number of thousands of digits
        raise NotReadable(f"is not TOML that can be read: {error}") from None
    except RecursionError:
        raise NotReadable(TOO_DEEP) from None
    lines = dict(reversed(list(_toml_lines(text))))  # [[cells]] is where the first stands
    return Document(data, lambda path, at_key: _nearest(lines, path))


def _nearest(lines: dict[Path, int], path: Path) -> Position | None:
    """The line of the nearest key that begins a line: Python's TOML reader tells no places at all."""
    while path and path not in lines:
        path = path[:-1]
    return (lines[path], 0) if path else None


def _toml_lines(text: str) -> Iterator[tuple[Path, int]]:
    """Lines of `[table]`, `[[table]]` and `key =`; keys inside values in braces are not looked for."""
    name = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
    names = rf"{name}(?:\s*\.\s*{name})*"
    header = re.compile(rf"\s*(\[\[?)\s*({names})\s*\]")
    entry = re.compile(rf"\s*({names})\s*=")
    table: Path = ()
    rows: dict[Path, int] = {}  # [[cells]] stands once for each cell
    for number, line in enumerate(text.splitlines(), start=1):
        if match := header.match(line):
            table = _toml_path(name, match[2])
            yield table, number
            if match[1] == "[[":
                rows[table] = rows.get(table, -1) + 1
                table = (*table, rows[table])
                yield table, number
        elif match := entry.match(line):
            path = (*table, *_toml_path(name, match[1]))
            yield from ((path[: len(table) + 1 + depth], number) for depth in range(len(path) - len(table)))


def _toml_path(name: str, dots: str) -> Path:
    return tuple(part.strip("\"'") for part in re.findall(name, dots))
