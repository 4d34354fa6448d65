"""A table of numbers, dates and categories as it was read, whatever the split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jobs import data, sheets, sources
from jobs.cells import Cells, guessed
from jobs.sheets import Sheet
from jobs.tabular import Table


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Raw data of any kind; which values of a category are known, the training rows of a split say."""

    inputs: tuple[Cells, ...]
    labels: NDArray[Any]  # (N,) class numbers from 0, or values
    target: str
    fingerprint: str  # sha256 of the file
    unit: str = ""  # of the labels
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def table(self, training: Tensor, *, drop_first: bool = False) -> Table:
        """As numbers. training: row numbers; drop_first: a category's first value has no input of its own."""
        rows = training.numpy()
        columns = tuple(cells.column(rows, drop_first=drop_first) for cells in self.inputs)
        return Table(
            rows=np.column_stack([cells.encoded(column) for cells, column in zip(self.inputs, columns, strict=True)]),
            labels=self.labels,
            features=tuple(cells.name for cells in self.inputs),
            classes=self.classes,
            columns=columns,
            target=self.target,
            unit=self.unit,
            source=self.fingerprint,
            notes=self.notes,
        )


def of_set(name: str, file: str, *, target: str, unit: str, inputs: Sequence[str]) -> tuple[Mixed, Sheet]:
    """A regression on a CSV of a data set, which is fetched if it is not here; and the file as it was read.

    Raises:
        DataMissing: it could not be fetched.
        InputError: the file has other columns, or is broken.
    """
    path = data.get(name) / file
    sheet = sheets.read(path)
    sheet.check_columns((*inputs, target))
    mixed = Mixed(
        inputs=tuple(guessed(sheet, column) for column in inputs),
        labels=guessed(sheet, target).values,
        target=target,
        unit=unit,
        fingerprint=sources.fingerprint(path),
    )
    return mixed, sheet
