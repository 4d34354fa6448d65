"""Auto MPG (Quinlan 1993): how many miles a car goes on a gallon."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from jobs import mixed, tabular
from jobs.catalogue.tables import AutoMpgParams
from jobs.mixed import Mixed
from jobs.problem import Problem
from jobs.splits import split

FEATURES = ("cylinders", "displacement", "horsepower", "weight", "acceleration", "origin", "model_year")

model = tabular.regressor


@cache
def cars() -> Mixed:
    """398 rows; the horsepower of 6 is not known."""
    return mixed.of_set("auto_mpg", "mpg.csv", target="mpg", unit="miles per gallon", inputs=FEATURES)[0]


def build(params: AutoMpgParams, seed: int) -> Problem:
    """Of the 392 complete rows; their numbers are those of all 398. The three origins are an input each."""
    missing = np.isnan([cells.values for cells in cars().inputs]).any(0)
    complete = torch.from_numpy(np.flatnonzero(~missing))
    train, val, test = (complete[part] for part in split(len(complete), params, seed))
    known = cars() if params.model_year else replace(cars(), inputs=cars().inputs[:-1])
    table = known.table(train)
    return tabular.regression(table, model(params, table.signature), params, seed, parts=(train, val, test))
