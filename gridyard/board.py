"""The leaderboard as a table of pandas, which prints all that a reader compares."""

from collections.abc import Callable
from typing import Any

import pandas

from gridyard import tables

LEFT_OUT = "left_out"  # in `attrs`


class Board(pandas.DataFrame):
    """Printed as wide as it is: pandas would put "…" in the place of columns, and of what ranks.

    Metrics of training and validation, of which one is the score, are left out of the text alone.
    """

    @classmethod
    def of(cls, rows: tables.Rows) -> "Board":
        board = cls(tables.flat(rows))
        metrics = {name for row in rows for name in row.metrics if not name.startswith("test_")}
        board.attrs[LEFT_OUT] = sorted(metrics | {f"{name}{tables.STD}" for name in metrics})
        return board

    @property
    def _constructor(self) -> Callable[..., "Board"]:
        """Of its parts, such as `head(3)`."""
        return Board

    def __repr__(self) -> str:
        left_out = self.attrs.get(LEFT_OUT, ())
        shown: list[Any] = [name for name in self.columns if name not in left_out] or list(self.columns)
        most = pandas.get_option("display.max_rows")
        # Of the reader's own, as with `set_index("job")`; those of ours are only numbers.
        named = self.index.name is not None or not pandas.api.types.is_integer_dtype(self.index)
        return self.to_string(columns=shown, index=named, max_rows=most, min_rows=most)
