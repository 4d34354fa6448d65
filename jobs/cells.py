"""What the cells of a column hold: numbers, dates or categories, as float64. Torch-free."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.errors import InputError
from jobs.schema import Column
from jobs.sheets import Sheet

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MISSING = {"", "na", "n/a", "#n/a", "nan", "nat", "null", "<na>", "?"}  # in any case
NO_NUMBER = MISSING | {"none", "-", "--"}  # words of a category, perhaps; among numbers they stand for a missing one
LARGEST = 1e37  # what float32 holds, with room for a difference
MOST_WRONG = 0.05  # of a column's cells: so few that are no numbers among numbers are mistakes, more are categories
MOST_VALUES = 32  # of a category; all others are one together

Mark = Literal["", ".", ","]  # what stands before the decimals; "": nothing tells
MARKS = {"": "a number", ".": "a number with a decimal point", ",": "a number with a decimal comma"}
GROUPED = r"[1-9]\d{0,2}(\.\d{3})+"
DECIMAL_COMMA = re.compile(rf"[+-]?({GROUPED}|\d*),\d+([eE][+-]?\d+)?")
ANY_COMMA = re.compile(rf"[+-]?({GROUPED}|\d*)(,\d*)?([eE][+-]?\d+)?")
DECIMAL_POINT = re.compile(rf"[+-]?(?!{GROUPED}$)(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")
THOUSANDS_COMMA = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?")
DAY_FORMATS = ("%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y")
FORMATS = ("ISO8601", *(day + clock for day in DAY_FORMATS for clock in ("", " %H:%M", " %H:%M:%S")))
EPOCH = pd.Timestamp("1970-01-01")
DAY = pd.Timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A column of all rows: NaN where a cell is missing."""

    name: str
    kind: Literal["number", "category", "date"]
    values: Floats  # (N,) numbers, days since 1970, or places in `names`
    names: tuple[str, ...] = ()  # of a category: every value of the file, sorted
    decimal: Mark = ""
    format: str = ""

    def column(self, training: NDArray[np.int64], *, drop_first: bool = False) -> Column:
        """What the training rows say of it: which values it has, and whether any are missing."""
        values = self.values[training]
        present = values[~np.isnan(values)]
        facts: dict[str, object] = {"name": self.name, "kind": self.kind, "missing": len(present) < len(values)}
        facts["decimal"] = self.decimal
        if self.kind == "date":
            facts |= {"format": self.format, "clock": bool((present % 1).any())}
        if self.kind == "category":
            counts = np.bincount(present.astype(np.int64), minlength=len(self.names))
            common = np.argsort(-counts, kind="stable")[:MOST_VALUES]
            kept = tuple(self.names[code] for code in sorted(common[counts[common] > 0]))
            facts |= {"values": kept, "other": len(kept) < np.count_nonzero(counts), "drop_first": drop_first}
        return Column.model_validate(facts)

    def encoded(self, column: Column) -> Floats:
        """(N,) as the column's description says."""
        if self.kind != "category":
            return self.values
        place = {value: code for code, value in enumerate(column.values)}
        codes = np.array([place.get(name, -1) for name in self.names] + [np.nan])  # a missing cell finds the last
        found: Floats = codes[np.nan_to_num(self.values, nan=len(self.names)).astype(np.int64)]
        return found


def guessed(sheet: Sheet, name: str) -> Cells:
    """A column read as what it looks like: numbers, else dates, else categories.

    Raises:
        InputError: nearly all of its cells are numbers, or dates, and some are not; the message names the first.
    """
    series = sheet.cells[name]
    decimal = decimal_mark(series, sheet.separator)
    values, wrong = numbers(series, sheet.separator, decimal)
    present = np.count_nonzero(~np.isnan(values) | wrong)
    mixed = _of_other_mark(series, wrong, sheet.separator, decimal)
    if np.count_nonzero(wrong & ~mixed) <= MOST_WRONG * present:
        _refuse(wrong, sheet, name, MARKS[decimal] if mixed.any() else "a number")
        return Cells(name=name, kind="number", values=values, decimal=decimal)
    form, days, wrong = _dates(series)
    if form is not None:
        _refuse(wrong, sheet, name, "a date")
        return Cells(name=name, kind="date", values=days, format=form)
    return categories(series, name)


def as_told(sheet: Sheet, column: Column) -> Cells:
    """A column read as its description says, whatever other rows there are.

    Raises:
        InputError: a cell is no number, or no date; the message names it.
    """
    series, name = sheet.cells[column.name], column.name
    if column.kind == "category":
        return categories(series, name)
    by_number = column.kind == "number"
    if by_number:
        values, wrong = numbers(series, sheet.separator, column.decimal)
    else:
        values, wrong = dates(series, column.format)
    first = int(np.argmax(wrong))
    if wrong.any():
        allowed = _number(series.iloc[[first]], column.decimal) if by_number else f"a date {_example(column.format)}"
        raise InputError(
            f'{sheet.row(first)}: column "{name}" holds {_shown(series.iloc[first])}; allowed is {allowed}'
        )
    return Cells(name=name, kind=column.kind, values=values)


def _refuse(wrong: Mask, sheet: Sheet, name: str, allowed: str) -> None:
    if wrong.any():
        first, others = int(np.argmax(wrong)), int(wrong.sum()) - 1
        more = f", and {others:,} more such cells," if others else ""
        raise InputError(
            f'{sheet.row(first)}: column "{name}" holds {_shown(sheet.cells[name].iloc[first])}{more} where all others '
            f"hold {allowed}; correct it, leave it empty, or leave the column out with ignore"
        )


def _shown(value: object) -> str:
    text = str(value)
    return f'"{text}"' if len(text) <= 40 else f'"{text[:39]}…"'


def _number(cell: pd.Series, decimal: Mark) -> str:
    """What is allowed in place of this cell; the mark is told where the cell has the other one."""
    other = DECIMAL_POINT if decimal == "," else DECIMAL_COMMA
    return MARKS[decimal if _match(words(cell, NO_NUMBER)[0], other).any() else ""]


def _example(form: str) -> str:
    return "such as " + EPOCH.replace(year=2024, day=31).strftime("%Y-%m-%d" if form in ("", "ISO8601") else form)


def words(series: pd.Series, missing: set[str]) -> tuple[pd.Series, Mask]:
    """The cells as text without spaces around it, and which of them are missing."""
    texts = series.astype("object").map(str, na_action="ignore").astype("str").str.strip()
    absent = texts.isna() | texts.str.casefold().isin(missing)
    return texts, absent.to_numpy(bool)


def _is_numeric(series: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series))


def decimal_mark(series: pd.Series, separator: str) -> Mark:
    """A comma where a file separated by semicolons or tabs has more decimal commas than decimal points."""
    if _is_numeric(series):
        return ""
    texts, _ = words(series, NO_NUMBER)
    if separator in (";", "\t"):
        commas, points = (np.count_nonzero(_match(texts, shape)) for shape in (DECIMAL_COMMA, DECIMAL_POINT))
        if commas and commas >= points:
            return ","
    telling = "[.,]" if separator == "," else "[.]"  # between commas, a comma in a number is one of thousands
    return "." if texts.str.contains(telling).fillna(False).any() else ""


def _of_other_mark(series: pd.Series, wrong: Mask, separator: str, decimal: Mark) -> Mask:
    """The wrong cells that would be numbers by the other mark. Between commas, 1,2 is rather a list."""
    if separator not in (";", "\t") or not wrong.any():
        return np.zeros_like(wrong)
    texts, _ = words(series, NO_NUMBER)
    return wrong & _match(texts, DECIMAL_POINT if decimal == "," else DECIMAL_COMMA)


def _match(texts: pd.Series, shape: re.Pattern[str]) -> Mask:
    return texts.str.fullmatch(shape).fillna(False).to_numpy(bool)


def numbers(series: pd.Series, separator: str = "", decimal: Mark = "") -> tuple[Floats, Mask]:
    """Numbers, NaN where missing or wrong; and which cells are wrong: not missing, and no finite number.

    decimal: the mark before decimals, where it is known.
    """
    if _is_numeric(series):
        values = series.to_numpy(np.float64, na_value=np.nan)
        wrong = np.abs(values) > LARGEST
    else:
        texts, missing = words(series, NO_NUMBER)
        plain = _without_commas(texts, separator, decimal or decimal_mark(series, separator))
        values = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        wrong = ~missing & ~(np.abs(values) <= LARGEST)
        values = np.where(missing, np.nan, values)
    return np.where(wrong, np.nan, values), wrong


def _without_commas(texts: pd.Series, separator: str, decimal: Mark) -> pd.Series:
    """1.234,5 where the comma is decimal, 1,234.5 of a file separated by commas: as 1234.5; 2.5 beside 1,5 is none."""
    if decimal == ",":
        return texts.str.replace(".", "").str.replace(",", ".").where(_match(texts, ANY_COMMA))
    if separator == ",":
        return texts.where(~_match(texts, THOUSANDS_COMMA), texts.str.replace(",", ""))
    return texts


def _dates(series: pd.Series) -> tuple[str | None, Floats, Mask]:
    """The first format by which nearly all cells are dates; None: there is none."""
    texts, missing = words(series, MISSING)
    nothing = np.empty(0), np.empty(0, bool)
    if pd.api.types.is_datetime64_any_dtype(series):
        return "", *dates(series, "")
    shaped = _match(texts, DATE)
    most = MOST_WRONG * np.count_nonzero(~missing)
    if np.count_nonzero(~missing & ~shaped) > most:
        return None, *nothing
    for form in FORMATS:
        days, wrong = dates(series, form)
        if wrong.sum() <= most:
            return form, days, wrong
    return None, *nothing


def dates(series: pd.Series, form: str) -> tuple[Floats, Mask]:
    """Days since 1970-01-01 (UTC), NaN where missing or wrong; and which cells are wrong."""
    if pd.api.types.is_datetime64_any_dtype(series):
        times, missing = pd.to_datetime(series, utc=True), series.isna().to_numpy(bool)
    else:
        texts, missing = words(series, MISSING)
        times = pd.to_datetime(texts, format=form or "ISO8601", errors="coerce", utc=True)
    days = ((times.dt.tz_localize(None) - EPOCH) / DAY).to_numpy(np.float64, na_value=np.nan)
    return np.where(missing, np.nan, days), np.isnan(days) & ~missing


def categories(series: pd.Series, name: str) -> Cells:
    """Each different text is a value; text that differs in spaces around it is the same."""
    texts, missing = words(series, MISSING)
    names, codes = np.unique(texts.to_numpy(object)[~missing].astype(str), return_inverse=True)
    values = np.full(len(series), np.nan)
    values[~missing] = codes
    return Cells(name=name, kind="category", values=values, names=tuple(map(str, names)))
