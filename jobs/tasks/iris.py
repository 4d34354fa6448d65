"""Iris (Fisher 1936): the species of a flower from the length and width of its sepals and petals."""

from functools import cache

from sklearn.datasets import load_iris

from jobs import tabular
from jobs.catalogue import IrisParams
from jobs.problem import Problem
from jobs.tabular import Table

model = tabular.classifier


@cache
def table() -> Table:
    """150 rows: 4 features in cm, 3 classes of 50."""
    bunch = load_iris()
    return Table(
        rows=bunch.data,
        labels=bunch.target,
        features=tuple(bunch.feature_names),
        classes=tuple(map(str, bunch.target_names)),
    )


def build(params: IrisParams, seed: int) -> Problem:
    return tabular.classification(table(), model(params, table().signature), params, seed)
