"""CSV and Parquet files as columns of cells, with the row numbers of the file. Torch-free.

Rows are numbered as a spreadsheet numbers them: in a CSV the header is row 1, in Parquet the first row of data is.
"""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from jobs.errors import InputError, did_you_mean

Record = tuple[int, list[str]]  # a row's number and its cells
SEPARATORS = ",;\t|"
SAMPLE = 20  # rows that are looked at to find the separator


@dataclass(frozen=True)
class Sheet:
    """A table as it was read, nothing converted."""

    cells: pd.DataFrame  # the index holds the numbers of the rows in the file
    name: str  # of the file
    separator: str = ""  # of a CSV: what a comma in a number means depends on it

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.cells.columns]

    def check_columns(self, names: Iterable[str]) -> None:
        """Raises:
        InputError: there is no column of one of these names.
        """
        for name in names:
            if name not in self.names:
                there = f"{did_you_mean(name, self.names)} Its columns: {', '.join(self.names)}"
                raise InputError(f'{self.name} has no column "{name}"{there}')

    def row(self, place: int) -> str:
        """'data.csv, row 17', of the place-th row of data, from 0."""
        return f"{self.name}, row {self.cells.index[place]}"

    def rows(self, places: list[int], most: int = 5) -> str:
        """'row 17', or 'rows 17, 18 and 3 more'."""
        numbers = [str(self.cells.index[place]) for place in places]
        more = f" and {len(numbers) - most:,} more" if len(numbers) > most else ""
        return f"row{'s' if len(numbers) > 1 else ''} {', '.join(numbers[:most])}{more}"


def of_frame(frame: pd.DataFrame, name: str = "the table") -> Sheet:
    """A frame of a caller; its rows are numbered from 1, whatever its index.

    Raises:
        InputError: two columns have one name, or a cell holds several values.
    """
    cells = frame.set_axis(pd.RangeIndex(1, len(frame) + 1)).set_axis([str(label) for label in frame.columns], axis=1)
    _check_names(list(cells.columns), name)
    for label, column in cells.items():
        _refuse_lists(column, f'column "{label}"', name)
    return Sheet(cells, name)


def _refuse_lists(column: pd.Series, label: str, name: str) -> None:
    """Of Parquet's lists, maps and structs. They have no one number or word, and cannot be compared."""
    if not (pd.api.types.is_object_dtype(column) or isinstance(column.dtype, pd.ArrowDtype)):
        return
    several = column.map(pd.api.types.is_list_like).to_numpy(bool)
    if several.any():
        row = column.index[int(several.argmax())]
        raise InputError(
            f"{name}, row {row}: {label} holds several values in one cell; give each a column of its own, "
            "or leave the column out of the table"
        )


def read(path: Path) -> Sheet:
    """A CSV (separated by commas, semicolons, tabs or bars; UTF-8) or Parquet file.

    Raises:
        InputError: it is neither, or is broken; the message names the row.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder. Allowed are CSV and Parquet files")
        with path.open("rb") as file:
            start = file.read(4)
        if start == b"PAR1":
            return of_frame(pd.read_parquet(path), path.name)
        _refuse_other_kinds(start, path)
        return _csv(path.read_bytes(), path.name)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path.name} cannot be read: {reason}") from None


def _refuse_other_kinds(start: bytes, path: Path) -> None:
    if start == b"PK\x03\x04":
        excel = zipfile.is_zipfile(path) and "xl/workbook.xml" in zipfile.ZipFile(path).namelist()
        kind = "an Excel workbook; save its sheet as CSV (UTF-8)" if excel else "a ZIP archive; unpack it"
        raise InputError(f"{path.name} is {kind}. Allowed are CSV and Parquet")
    if start[:2] == b"\x1f\x8b":
        raise InputError(f"{path.name} is compressed by gzip; unpack it. Allowed are CSV and Parquet")


def _csv(content: bytes, name: str) -> Sheet:
    text = _decoded(content, name)
    separator = _separator(text)
    numbered = _records(text, separator, name)
    _, header = next(numbered, (1, []))
    if not header:
        raise InputError(f"{name} is empty")
    names = [label.strip() or f"column {place}" for place, label in enumerate(header, 1)]
    _check_header(names, name)
    records = dict(_checked(numbered, header, name))
    if not records:
        raise InputError(f"{name} has a header and no rows")
    columns = dict(zip(names, zip(*records.values(), strict=True), strict=True))
    return Sheet(pd.DataFrame(columns, index=pd.Index(records), dtype="str"), name, separator)


def _decoded(content: bytes, name: str) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        mark = len(content) - len(error.object)  # a byte order mark is not counted by the error
        read = content[: mark + error.start].decode(encoding, errors="ignore")
        reason = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        if encoding == "utf-16":
            reason = "the file starts as UTF-16, and here it is broken or cut off"
        row = read.count("\n") + 1
        raise InputError(f"{name}, row {row}: {reason}; save the file as UTF-8") from None


def _separator(text: str) -> str:
    """The one by which most of the first rows have as many cells as the header; of several, that of most cells."""
    start = "".join(text.splitlines(keepends=True)[:SAMPLE])

    def fits(separator: str) -> tuple[int, int]:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(start, newline=""), delimiter=separator) if row]
        except csv.Error:
            return 0, 0
        return (widths.count(widths[0]), widths[0]) if widths and widths[0] > 1 else (0, 0)

    return max(SEPARATORS, key=fits)


def _records(text: str, separator: str, name: str) -> Iterator[Record]:
    """Each row that is not blank, with its number."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 0
    try:
        for number, record in enumerate(reader, 1):
            if record and any(map(str.strip, record)):
                yield number, record
    except csv.Error as error:
        raise InputError(f"{name}, row {number + 1} is broken: {error}; look for a quote that is not closed") from None


def _checked(numbered: Iterator[Record], header: list[str], name: str) -> Iterator[Record]:
    """The same rows; each has the header's width and is not the header again."""
    width = len(header)
    for number, record in numbered:
        if len(record) != width:
            hint = "quote a cell that holds the separator" if len(record) > width else "look for a cell left out"
            raise InputError(f"{name}, row {number} has {len(record)} cells, the header has {width}; {hint}")
        if record == header:
            raise InputError(f"{name}, row {number} is the header again; remove it")
        yield number, record


def _check_header(names: list[str], name: str) -> None:
    if all(_is_number(label) for label in names):
        first = ", ".join(names[:3])
        raise InputError(f"{name} has no header: its first row holds {first} …; put the names of the columns there")
    _check_names(names, name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_names(names: list[str], name: str) -> None:
    label, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise InputError(f'{name} has {count} columns called "{label}"; give each a name of its own')
