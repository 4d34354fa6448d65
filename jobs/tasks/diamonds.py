"""Diamonds (ggplot2, 2008): the price of a cut diamond in USD."""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from jobs import mixed, tabular
from jobs.catalogue.tables import DiamondsParams
from jobs.mixed import Mixed
from jobs.problem import Model, Problem, Signature
from jobs.splits import by_group

FEATURES = ("carat", "cut", "color", "clarity", "depth", "table", "x", "y", "z")
SIZES = {"x", "y", "z"}  # in mm


@cache
def diamonds() -> tuple[Mixed, NDArray[np.int64]]:
    """53,940 rows, and of each the number of the first one that equals it: 146 are copies."""
    raw, sheet = mixed.of_set("diamonds", "diamonds.csv", target="price", unit="USD", inputs=FEATURES)
    groups = sheet.cells.groupby([*FEATURES, "price"], sort=False).ngroup().to_numpy().astype(np.int64)
    flat = np.any([cells.values == 0 for cells in raw.inputs if cells.name in SIZES], axis=0)
    copies = len(groups) - len(np.unique(groups))
    notes = (
        f"{copies:,} rows are copies of an earlier one, and in the same part of the split",
        f"{np.count_nonzero(flat):,} rows have a length, width or depth of 0 mm; they are used as they are",
    )
    return replace(raw, notes=notes), groups


def model(params: DiamondsParams, signature: Signature) -> Model:
    return tabular.regressor(params, signature, log=params.log_target)


def build(params: DiamondsParams, seed: int) -> Problem:
    """Cut, color and clarity are an input for each of their values but the first."""
    raw, groups = diamonds()
    parts = by_group(groups, params, seed)
    table = raw.table(parts[0], drop_first=True)
    return tabular.regression(table, model(params, table.signature), params, seed, parts=parts)
