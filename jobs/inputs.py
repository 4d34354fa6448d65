"""What a person gives a model to predict from, as raw rows in batches: a table or pictures, as its signature says."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike, cpu_count
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from jobs import columns
from jobs.errors import InputError, did_you_mean
from jobs.images.reading import read_picture
from jobs.problem import Signature
from jobs.schema import columns_of

ROWS = 4096  # of a table in one batch
PIXELS = 1 << 21  # of the pictures in one batch
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # files of a folder that are tried
TABLES = (".csv", ".parquet", ".tsv", ".txt", ".xlsx")

Given = str | PathLike[str] | Mapping[str, Any] | pd.DataFrame | Sequence[Any]
Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Raw rows that are predicted together."""

    names: list[str | int]  # what to call them: the number of a row in its file, a picture's path
    rows: Tensor  # (B, *input_shape)


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A picture that cannot be read; the others can."""

    name: str
    error: str


def read(given: Given, signature: Signature, note: Note) -> Iterator[Batch | Broken]:
    """What was given, in its order.

    Args:
        given: for a table: a file, a frame, one row or several as {column: value}; for images: files and folders.
        note: told what the owner of the data should know, such as columns that are not used.

    Raises:
        InputError: it cannot be read as rows of this model.
    """
    return pictures(given, signature) if signature.kind == "image" else rows(given, signature, note)


def rows(given: Given, signature: Signature, note: Note) -> Iterator[Batch]:
    """The rows of one table."""
    found = columns.read_rows(table(given, signature), signature)
    for line in found.notes:
        note(line)
    values = torch.from_numpy(found.values)
    for first in range(0, len(values), ROWS):
        part = slice(first, first + ROWS)
        yield Batch(names=list(found.numbers[part]), rows=values[part])


def table(given: Given, signature: Signature) -> Path | pd.DataFrame:
    """A file as its path, all else as a frame."""
    if isinstance(given, pd.DataFrame):
        return given
    several = given if isinstance(given, list | tuple) else [given]
    told = [one for one in several if isinstance(one, Mapping)]
    if told and len(told) == len(several):
        return pd.DataFrame([named(row, signature) for row in told])
    if len(several) != 1 or not isinstance(several[0], str | PathLike):
        raise InputError(f"give one table, or one row as {example(signature)}; {len(several)} inputs were given")
    path = Path(several[0])
    if path.suffix.lower() in PICTURES:
        raise InputError(f"{path} is a picture, and this model predicts from a table with {described(signature)}")
    return path


def named(row: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    """The row with its columns called as the model does: `sepal_length` is `sepal length (cm)`, where that is plain.

    Raises:
        InputError: a column is not one of the model's, or one that it needs is not given.
    """
    known = {simple(name): name for name in reversed(signature.features)}
    found: dict[str, Any] = {}
    for given, value in row.items():
        name = given if given in signature.features else known.get(simple(given))
        if name is None or name in found:
            wrong = f"column {given!r} is given twice" if name else f"there is no column {given!r}"
            raise InputError(f"{wrong}{did_you_mean(given, signature.features)} The model takes {described(signature)}")
        found[name] = value
    needed = [column.name for column in columns_of(signature) if not column.missing and column.name not in found]
    if needed:
        raise InputError(f"give also {', '.join(needed)}; the model takes {described(signature)}")
    return {name: found.get(name, "") for name in signature.features}


def simple(name: str) -> str:
    """A column's name without its unit in parentheses, and with nothing but letters, digits and _."""
    return re.sub(r"\W+", "_", re.sub(r"\(.*\)", "", name).strip().casefold()).strip("_")


def described(signature: Signature) -> str:
    """The columns, or the first of many."""
    names = signature.features
    few = ", ".join(names[:12])
    return f"columns {few}" if len(names) <= 12 else f"{len(names)} columns: {few}, …"


def example(signature: Signature) -> str:
    """How a row is typed."""
    return " ".join([f"{simple(name)}=…" for name in signature.features[:3]] + ["…"] * (len(signature.features) > 3))


def pictures(given: Given, signature: Signature) -> Iterator[Batch | Broken]:
    """The pictures of files and folders; decoded by several threads, a batch at a time."""
    paths = picture_files(given)
    size = max(1, PIXELS // max(1, signature.input_shape[-1] * signature.input_shape[-2]))
    with ThreadPoolExecutor(cpu_count()) as threads:  # Pillow decodes without Python's lock
        for first in range(0, len(paths), size):
            some = paths[first : first + size]
            found = list(threads.map(lambda path: picture(path, signature), some))
            yield from (one for one in found if isinstance(one, Broken))
            whole = [(str(path), one) for path, one in zip(some, found, strict=True) if isinstance(one, Tensor)]
            if whole:
                yield Batch(names=[name for name, _ in whole], rows=torch.stack([one for _, one in whole]))


def picture(path: Path, signature: Signature) -> Tensor | Broken:
    try:
        return read_picture(path, signature)
    except InputError as error:
        return Broken(name=str(path), error=str(error))


def picture_files(given: Given) -> list[Path]:
    """Files as they are given, and those of folders by their names, also in folders within.

    Raises:
        InputError: what was given is no path, one is not there, or a folder has no pictures.
    """
    places = [given] if isinstance(given, str | PathLike) else given
    if isinstance(places, pd.DataFrame | Mapping) or not all(isinstance(place, str | PathLike) for place in places):
        raise InputError("this model predicts from pictures: give picture files, or a folder of them")
    return [path for place in places for path in files_of(Path(place))]


def files_of(path: Path) -> list[Path]:
    if not path.exists():
        hint = "; this model predicts from pictures, not from columns" if "=" in path.name else ""
        raise InputError(f"{path}: there is no such file or folder{hint}")
    if not path.is_dir():
        if path.suffix.lower() in TABLES:
            raise InputError(
                f"{path} is a table, and this model predicts from pictures: give picture files or a folder"
            )
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES and file.is_file())
    if not found:
        raise InputError(f"{path}: no pictures are in this folder; they end in {', '.join(PICTURES)}")
    return found
