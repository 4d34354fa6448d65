"""Breast Cancer Wisconsin (Diagnostic), 1995: malignant or benign, from measures of cell nuclei."""

from functools import cache

from sklearn.datasets import load_breast_cancer

from jobs import tabular
from jobs.catalogue import BreastCancerParams
from jobs.problem import Problem
from jobs.tabular import Table

model = tabular.classifier


@cache
def table() -> Table:
    """569 rows: 30 features, 212 malignant (class 0) and 357 benign (class 1)."""
    bunch = load_breast_cancer()
    return Table(
        rows=bunch.data,
        labels=bunch.target,
        features=tuple(map(str, bunch.feature_names)),
        classes=tuple(map(str, bunch.target_names)),
    )


def build(params: BreastCancerParams, seed: int) -> Problem:
    return tabular.classification(table(), model(params, table().signature), params, seed)
