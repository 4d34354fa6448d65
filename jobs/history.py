"""The epochs of a job in eight bytes a number: a million jobs keep theirs in the database."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict

if TYPE_CHECKING:
    from jobs.spec import EpochReport

NUMBER_BYTES = 8  # of a float64


@dataclass(frozen=True, kw_only=True)
class History:
    """Epochs of a job, column by column: "epoch", "seconds", then each metric. Exact; NaN and infinity are kept.

    Raises:
        ValueError: the bytes are not whole columns of one length.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    names: list[str]  # of the columns; none: no epochs
    content: bytes  # float64, little-endian: the first column's epochs, then the second's, …

    def __post_init__(self) -> None:
        columns, width = len(self.names), len(self.names) * NUMBER_BYTES
        if len(self.content) % width if columns else self.content:
            raise ValueError(f"{len(self.content)} bytes are not {columns} columns of float64")

    @classmethod
    def of(cls, reports: Sequence["EpochReport"]) -> "History":
        """The history that these reports tell. A metric that an epoch does not have is NaN there."""
        if not reports:
            return cls(names=[], content=b"")
        names = list(dict.fromkeys(name for report in reports for name in report.metrics))
        columns: list[list[float]] = [[report.epoch for report in reports], [report.seconds for report in reports]]
        columns += [[report.metrics.get(name, float("nan")) for report in reports] for name in names]
        values = [value for column in columns for value in column]
        return cls(names=["epoch", "seconds", *names], content=struct.pack(f"<{len(values)}d", *values))

    def __len__(self) -> int:
        """Number of epochs."""
        return len(self.content) // (NUMBER_BYTES * len(self.names)) if self.names else 0

    def columns(self) -> dict[str, list[float]]:
        """Each column with a number per epoch."""
        length = len(self)
        values = struct.unpack(f"<{length * len(self.names)}d", self.content)
        return {name: list(values[at * length : (at + 1) * length]) for at, name in enumerate(self.names)}

    def epochs(self) -> list[dict[str, float]]:
        """Each epoch by column, in order."""
        columns = self.columns()
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
