"""A person's table as the raw rows of a model: float64, one column each as `Signature.about["columns"]` says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jobs import sheets
from jobs.cells import Cells, Floats, as_told
from jobs.errors import InputError
from jobs.schema import Column, columns_of
from jobs.sheets import Sheet

if TYPE_CHECKING:  # it imports torch
    from jobs.problem import Signature


MOST_NAMED = 5  # values of a category in a note


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a model on a table takes."""

    values: Floats  # (N, raw columns), what its forward takes; NaN: a missing cell
    numbers: list[int]  # (N,) of the rows in the file, as a spreadsheet numbers them; of a frame, from 1
    notes: tuple[str, ...]  # what its owner should know: columns that were not used, words that the model does not know


def read_rows(source: Path | pd.DataFrame, signature: "Signature") -> Rows:
    """The rows of a CSV or Parquet file, or of a frame, for any model whose `signature.kind` is "table".

    Other columns are not used, and named in the notes; the target may be among them.

    Raises:
        InputError: the file cannot be read; a column is missing; a cell is not what its column holds; the message
            names file, row and column.
    """
    sheet = sheets.of_frame(source) if isinstance(source, pd.DataFrame) else sheets.read(source)
    told = columns_of(signature)
    cells = _cells(sheet, told)
    values = _stacked(sheet, cells, told)
    if not signature.about.get("columns"):  # it cannot fill a missing cell
        _refuse_missing(values, sheet, signature.features)
    target, used = signature.about.get("target"), set(signature.features)
    extra = [str(name) for name in sheet.cells.columns if name not in used and name != target]
    notes = [f"not used: column{'s' if len(extra) > 1 else ''} {', '.join(extra)}"] if extra else []
    notes += [note for one, column in zip(cells, told, strict=True) if (note := _strange(sheet, one, column))]
    return Rows(values=values, numbers=[int(number) for number in sheet.cells.index], notes=tuple(notes))


def _strange(sheet: Sheet, cells: Cells, column: Column) -> str | None:
    """What the model does not know in a category, which it predicts from all the same; None: it knows all."""
    unknown = sorted(set(cells.names) - set(column.values)) if column.kind == "category" else []
    if not unknown:
        return None
    places = np.flatnonzero(np.isin(cells.values, [cells.names.index(name) for name in unknown]))
    how = "rare or new" if column.other else "new"
    return (
        f'column "{column.name}" holds {_listed(unknown)}, {how} to this model ({sheet.rows(places.tolist())}); '
        f"it knows {_listed(column.values)}"
    )


def _listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(f'"{name}"' for name in names[:MOST_NAMED]) + more


def encode(sheet: Sheet, columns: tuple[Column, ...]) -> Floats:
    """(N, columns) float64.

    Raises:
        InputError: a column is missing, or a cell is not what it holds.
    """
    return _stacked(sheet, _cells(sheet, columns), columns)


def _cells(sheet: Sheet, columns: tuple[Column, ...]) -> list[Cells]:
    sheet.check_columns([column.name for column in columns])
    return [as_told(sheet, column) for column in columns]


def _stacked(sheet: Sheet, cells: list[Cells], columns: tuple[Column, ...]) -> Floats:
    encoded = [one.encoded(column) for one, column in zip(cells, columns, strict=True)]
    return np.column_stack(encoded) if encoded else np.empty((len(sheet.cells), 0))


def _refuse_missing(values: Floats, sheet: Sheet, features: tuple[str, ...]) -> None:
    missing = np.argwhere(np.isnan(values))
    if len(missing):
        row, column = missing[0]
        raise InputError(f'{sheet.row(int(row))}: column "{features[column]}" is empty; this model needs every number')
