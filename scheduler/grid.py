"""From a sweep to its cells and jobs, one at a time: a million cells take no more memory than one.

The order is fixed: cell 0, 1, 2, … are `itertools.product` over the grid's parameters in the order of the file, the
last one changing fastest; or the listed cells in their order. Each cell has its seeds one after the other. A stored
sweep has its cells' numbers in its jobs: JSON in a database may lose the order of parameters.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.spec import Json, SweepSpec


def count(spec: SweepSpec) -> int:
    """Number of cells."""
    return len(spec.cells) if spec.cells else product_size(spec.grid)


def product_size(grid: Mapping[str, Sequence[Any]]) -> int:
    """Number of combinations; 1 of an empty grid: the cell whose parameters are all fixed."""
    return math.prod(len(values) for values in grid.values())


def expand(spec: SweepSpec) -> Iterator[tuple[int, Json]]:
    """(cell, params) of each cell: its own parameters, without those that all cells share."""
    if spec.cells:
        return enumerate(spec.cells)
    combinations = itertools.product(*spec.grid.values())
    return enumerate(dict(zip(spec.grid, values, strict=True)) for values in combinations)


def jobs(spec: SweepSpec) -> Iterator[tuple[int, int, Json]]:
    """(cell, seed, params) of each job."""
    for cell, params in expand(spec):
        for seed in spec.seeds:
            yield cell, seed, params
