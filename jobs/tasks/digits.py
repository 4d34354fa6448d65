"""Handwritten digits (UCI, 1998), 8 x 8 pixels: which digit it is."""

from functools import cache

from sklearn.datasets import load_digits

from jobs import tabular
from jobs.catalogue import DigitsParams
from jobs.problem import Problem
from jobs.tabular import Table

model = tabular.classifier


@cache
def table() -> Table:
    """1,797 rows: 64 features, the pixels row by row (0 white to 16 black), 10 classes."""
    bunch = load_digits()
    return Table(
        rows=bunch.data,
        labels=bunch.target,
        features=tuple(map(str, bunch.feature_names)),
        classes=tuple(map(str, bunch.target_names)),
    )


def build(params: DigitsParams, seed: int) -> Problem:
    return tabular.classification(table(), model(params, table().signature), params, seed)
