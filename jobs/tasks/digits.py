"""Handwritten digits (UCI, 1998), 8 x 8 pixels: which digit it is."""

from functools import cache

from jobs import data, tabular
from jobs.catalogue.tables import DigitsParams
from jobs.problem import Problem
from jobs.tabular import Table

model = tabular.classifier


@cache
def table() -> Table:
    """1,797 rows: 64 features, the pixels row by row (0 white to 16 black), 10 classes."""
    return data.bundled("digits")


def build(params: DigitsParams, seed: int) -> Problem:
    return tabular.classification(table(), model(params, table().signature), params, seed)
