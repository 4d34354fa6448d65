"""Breast Cancer Wisconsin (Diagnostic), 1995: malignant or benign, from measures of cell nuclei."""

from functools import cache

from jobs import data, tabular
from jobs.catalogue.tables import BreastCancerParams
from jobs.problem import Problem
from jobs.tabular import Table

model = tabular.classifier


@cache
def table() -> Table:
    """569 rows: 30 features, 212 malignant (class 0) and 357 benign (class 1)."""
    return data.bundled("breast_cancer")


def build(params: BreastCancerParams, seed: int) -> Problem:
    return tabular.classification(table(), model(params, table().signature), params, seed)
