"""From raw columns of any kind to what a network takes, fitted on training rows; and targets learned as logarithms."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jobs.layers import Unstandardise
from jobs.schema import Column

CLIP = (
    10.0  # standard deviations: an outlier beyond is as far as one at it, and no network is blown up by a typing error
)
YEAR, WEEK, THURSDAY = 365.2425, 7, 4  # days; 1970-01-01 was a Thursday, and weeks begin with Sunday


class Expand(nn.Module):
    """Raw rows (B, columns), NaN where a cell is missing -> (B, inputs).

    Numbers and dates are standardised, missing ones are the training rows' median; a column with missing cells in
    training has an input that says which; each value of a category has one that is 1 for it; a date also has its place
    in the year, its weekday and, where dates have one, its time of day.
    """

    median: Tensor  # (numbers and dates,)
    mean: Tensor  # same
    std: Tensor  # same, population standard deviation
    number_of: Tensor  # (…,) int64: raw column of each standardised input
    missing_of: Tensor  # same, of each input that tells what is missing
    code_of: Tensor  # same, of each value of a category
    code: Tensor  # (…,) which value
    date_of: Tensor
    clock_of: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        places = dict(enumerate(columns))
        codes = [(place, code) for place, column in places.items() for code in _codes(column)]
        sources = {
            "number_of": [place for place, column in places.items() if column.kind != "category"],
            "missing_of": [place for place, column in places.items() if column.missing],
            "code_of": [place for place, _ in codes],
            "date_of": [place for place, column in places.items() if column.kind == "date"],
            "clock_of": [place for place, column in places.items() if column.clock],
        }
        for name, found in sources.items():  # they follow from the columns, so no file keeps them
            self.register_buffer(name, torch.tensor(found, dtype=torch.int64), persistent=False)
        self.register_buffer("code", torch.tensor([float(code) for _, code in codes]), persistent=False)
        for name in ("median", "mean", "std"):
            self.register_buffer(name, torch.ones(len(sources["number_of"])))
        dates, clocks = sources["date_of"], sources["clock_of"]
        whole = sources["number_of"] + sources["missing_of"] + sources["code_of"]
        self.origins = [*whole, *dates * 2, *(place for place in dates for _ in range(WEEK)), *clocks * 2]

    @property
    def inputs(self) -> int:
        """How many the network takes; `origins` has the raw column of each."""
        return len(self.origins)

    def fit(self, rows: Tensor) -> None:
        """rows: (N, columns) raw training rows."""
        if not len(self.number_of):
            return
        values = rows.index_select(1, self.number_of).double()
        self.median.copy_(values.nanmedian(0).values.nan_to_num(0.0))
        filled = torch.where(values.isnan(), self.median.double(), values)
        mean, std = filled.mean(0), filled.std(0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > (1e-7 * mean.abs()).clamp(min=1e-30), std, 1.0))  # less is rounding

    def forward(self, rows: Tensor) -> Tensor:
        values = rows.index_select(1, self.number_of)
        filled = torch.where(values.isnan(), self.median, values)
        parts = [
            ((filled - self.mean) / self.std).clamp(-CLIP, CLIP),
            rows.index_select(1, self.missing_of).isnan().to(rows.dtype),
            (rows.index_select(1, self.code_of) == self.code).to(rows.dtype),
        ]
        if len(self.date_of):
            parts += self.calendar(rows)
        return torch.cat(parts, dim=1)

    def calendar(self, rows: Tensor) -> list[Tensor]:
        """Of each date: sine and cosine of its place in the year, 1 for its weekday, sine and cosine of its time."""
        days = rows.index_select(1, self.date_of)
        weekday = (days.floor() + THURSDAY).remainder(WEEK)[:, :, None] == torch.arange(WEEK, device=rows.device)
        clock = rows.index_select(1, self.clock_of)
        return [*_circle(days / YEAR), weekday.flatten(1).to(rows.dtype), *_circle(clock - clock.floor())]


def _codes(column: Column) -> list[int]:
    codes = list(range(len(column.values)))
    return codes[int(column.drop_first) :] + ([-1] if column.other else [])


def _circle(turns: Tensor) -> list[Tensor]:
    angle = 2 * math.pi * turns
    return [angle.sin().nan_to_num(0.0), angle.cos().nan_to_num(0.0)]


class UnstandardiseLog(Unstandardise):
    """Targets learned as log(1 + y), standardised. Predictions end a factor of e beyond the training rows' values."""

    low: Tensor  # one row's shape, of log(1 + y)
    high: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.register_buffer("low", torch.zeros(shape))
        self.register_buffer("high", torch.ones(shape))

    def fit(self, rows: Tensor) -> None:
        logs = rows.double().log1p()
        super().fit(logs)
        self.low.copy_(logs.amin(0) - 1)
        self.high.copy_(logs.amax(0) + 1)

    def standardise(self, rows: Tensor) -> Tensor:
        return super().standardise(rows.log1p())

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(rows).clamp(self.low, self.high).expm1()
