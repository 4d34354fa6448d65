"""A person's table as the raw rows of a model: float64, one column each as `Signature.about["columns"]` says."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jobs import sheets
from jobs.cells import Floats, as_told
from jobs.errors import InputError
from jobs.schema import Column, columns_of
from jobs.sheets import Sheet

if TYPE_CHECKING:  # it imports torch
    from jobs.problem import Signature


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a model on a table takes."""

    values: Floats  # (N, raw columns), what its forward takes; NaN: a missing cell
    numbers: list[int]  # (N,) of the rows in the file, as a spreadsheet numbers them; of a frame, from 1
    notes: tuple[str, ...]  # what its owner should know, such as columns that were not used


def read_rows(source: Path | pd.DataFrame, signature: "Signature") -> Rows:
    """The rows of a CSV or Parquet file, or of a frame, for any model whose `signature.kind` is "table".

    Other columns are not used, and named in the notes; the target may be among them.

    Raises:
        InputError: the file cannot be read; a column is missing; a cell is not what its column holds; the message
            names file, row and column.
    """
    sheet = sheets.of_frame(source) if isinstance(source, pd.DataFrame) else sheets.read(source)
    values = encode(sheet, columns_of(signature))
    if not signature.about.get("columns"):  # it cannot fill a missing cell
        _refuse_missing(values, sheet, signature.features)
    target, used = signature.about.get("target"), set(signature.features)
    extra = [str(name) for name in sheet.cells.columns if name not in used and name != target]
    notes = (f"not used: column{'s' if len(extra) > 1 else ''} {', '.join(extra)}",) if extra else ()
    return Rows(values=values, numbers=[int(number) for number in sheet.cells.index], notes=notes)


def encode(sheet: Sheet, columns: tuple[Column, ...]) -> Floats:
    """(N, columns) float64.

    Raises:
        InputError: a column is missing, or a cell is not what it holds.
    """
    sheet.check_columns([column.name for column in columns])
    encoded = [as_told(sheet, column).encoded(column) for column in columns]
    return np.column_stack(encoded) if encoded else np.empty((len(sheet.cells), 0))


def _refuse_missing(values: Floats, sheet: Sheet, features: tuple[str, ...]) -> None:
    missing = np.argwhere(np.isnan(values))
    if len(missing):
        row, column = missing[0]
        raise InputError(f'{sheet.row(int(row))}: column "{features[column]}" is empty; this model needs every number')
