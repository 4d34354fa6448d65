"""Reads a sweep: a YAML, JSON or TOML file, or the arguments of `yard.submit`. Checks all of it without torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import settings
from jobs.errors import InputError, Problem, SweepFileError
from jobs.spec import Keep, SweepSpec
from scheduler.formats import Document, NotReadable, parse_json, parse_toml, parse_yaml
from scheduler.places import Path as DataPath
from scheduler.places import Places, Problems, dotted, in_text
from scheduler.plain import plain
from scheduler.validate import validate
from scheduler.wording import given

FORMATS = {".yaml": parse_yaml, ".yml": parse_yaml, ".json": parse_json, ".toml": parse_toml}


def read(path: Path, sets: Sequence[str] = ()) -> SweepSpec:
    """The sweep of a file, its `--set key=value` applied.

    Raises:
        InputError: there is no such file, it cannot be read, or its name does not tell its format.
        SweepFileError: it is wrong; the error has every problem with its place.
        SettingsError: the settings cannot be read.
    """
    source = str(path)
    try:
        document = _parser(path)(_text(path))
    except NotReadable as error:
        raise error.as_error(source) from None
    return _spec(document, source, sets, path.stem, None)


def parse(data: Mapping[str, Any], source: str = "sweep", *, max_cells: int | None = None) -> SweepSpec:
    """The sweep of a mapping with the keys of a sweep file; tuples and NumPy arrays may stand for lists.

    Args:
        source: what a message calls it.
        max_cells: the most cells it may have; None: the setting `max_cells`.

    Raises:
        SweepFileError: it is wrong; the error has every problem with its path.
        SettingsError: the settings cannot be read.
    """
    return _spec(Document(data, lambda path, at_key: None), source, (), None, max_cells)


def _spec(
    document: Document, source: str, sets: Sequence[str], default_name: str | None, max_cells: int | None
) -> SweepSpec:
    data = document.data
    if not isinstance(data, Mapping):
        was = "is empty" if data is None else f"holds {given(data)}"
        raise SweepFileError(source, [Problem("", f"{was}; allowed are keys with values, such as task: iris")])
    problems = Problems(source, Places(document.locate))
    for path, first, second in document.twice:
        message = f"this key stands twice, first in line {first[0]}; keep one of them"
        problems.note(f"{in_text(second)}, {dotted(path)}", message, second, at_key=True)
    replaced = [found for text in sets if (found := _split(text, problems))]
    problems.places = Places(document.locate, [path for path, _ in replaced])
    for path, value in replaced:
        _replace(data, path, value, problems)
    ours = settings.load()
    keep = Keep(best=ours.keep_best, last=ours.keep_last)
    return validate(plain(data, problems), problems, default_name, max_cells or ours.max_cells, keep)


def _parser(path: Path) -> Any:
    suffix = path.suffix.lower()
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a sweep file")
    if suffix not in FORMATS:
        was = f'ends in "{path.suffix}"' if suffix else "has no ending"
        raise InputError(
            f"{path}: the name of a sweep file tells its format, and this one {was}; allowed are {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise NotReadable(f"is not text in UTF-8 (byte 0x{byte:02x}); save it as UTF-8", (line, 0)) from None


def _split(text: str, problems: Problems) -> tuple[DataPath, Any] | None:
    """Path and value of one `--set key=value`, the value read as YAML; None when it is wrong."""
    key, equals, value = text.partition("=")
    parts = tuple(part.strip() for part in key.split("."))
    place = f"--set {text}"
    if equals and not value.strip():
        problems.note(place, f"has no value; write {key}=null for none, or leave it out for the default")
        return None
    if not equals or not all(parts):
        problems.note(place, "is not key=value; write for example --set epochs=20 or --set grid.lr=[0.1,0.01]")
        return None
    try:
        document = parse_yaml(value)
    except NotReadable as error:
        problems.note(place, f"its value {error.message}")
        return None
    for path, _, _ in document.twice:
        problems.note(place, f"the key {dotted(path)} stands twice; keep one of them")
    return parts, document.data


def _replace(data: Any, path: DataPath, value: Any, problems: Problems) -> None:
    """Set one value, making the objects on the way to it where there are none."""
    *parents, last = path
    target: Any = data
    for depth, part in enumerate(parents, start=1):
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            place = ".".join(str(name) for name in path[:depth])
            problems.add(path, f"{place} is {given(target)} and has no keys; set it as a whole: --set {place}=…")
            return
    target[last] = value
