"""Iris (Fisher 1936): the species of a flower from the length and width of its sepals and petals."""

from functools import cache

from jobs import data, tabular
from jobs.catalogue.tables import IrisParams
from jobs.problem import Problem
from jobs.tabular import Table

model = tabular.classifier


@cache
def table() -> Table:
    """150 rows: 4 features in cm, 3 classes of 50."""
    return data.bundled("iris")


def build(params: IrisParams, seed: int) -> Problem:
    return tabular.classification(table(), model(params, table().signature), params, seed)
