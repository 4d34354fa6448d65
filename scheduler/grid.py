"""From a sweep to its cells and jobs, one at a time: a million cells take no more memory than one.

The order is fixed: cell 0, 1, 2, … are `itertools.product` over the grid's parameters in the order of the file, the
last one changing fastest; or the listed cells in their order. Each cell has its seeds one after the other. A stored
sweep has its cells' numbers in its jobs: JSON in a database may lose the order of parameters.

Jobs whose cells differ only in rowwise parameters, and in the seed, have the same pack number: they may train together.
Packs are numbered from 0 in the order in which they come up.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs import catalogue
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


def added(spec: SweepSpec, sizes: Mapping[str, int]) -> Iterator[tuple[Json, int]]:
    """(params, pack number) of each cell of the grid but for those of its first so many values, in the same order.

    Args:
        sizes: parameter -> how many of its values are not new.
    """
    places = itertools.product(*(range(len(values)) for values in spec.grid.values()))
    old = [sizes[name] for name in spec.grid]
    for (_, params), place, pack in zip(expand(spec), places, _grid_packs(spec, _rowwise(spec)), strict=True):
        if any(number >= size for number, size in zip(place, old, strict=True)):
            yield params, pack


def listed(spec: SweepSpec) -> Iterator[tuple[Json, int]]:
    """(params, pack number) of each listed cell."""
    return zip(spec.cells, _listed_packs(spec, _rowwise(spec)), strict=True)


def packs(spec: SweepSpec) -> Iterator[int]:
    """The pack number of each job, in the order of `jobs`."""
    rowwise = _rowwise(spec)
    for number in _listed_packs(spec, rowwise) if spec.cells else _grid_packs(spec, rowwise):
        yield from itertools.repeat(number, len(spec.seeds))


def _rowwise(spec: SweepSpec) -> frozenset[str]:
    task = catalogue.get(spec.task)
    return task.rowwise if task else frozenset()


def _grid_packs(spec: SweepSpec, rowwise: frozenset[str]) -> Iterator[int]:
    """Of each cell: the place of its other values among all their combinations, the last parameter changing fastest."""
    parts: list[Sequence[int]] = []
    weight = 1
    for name, values in reversed(spec.grid.items()):
        parts.append([0] * len(values) if name in rowwise else range(0, weight * len(values), weight))
        weight *= 1 if name in rowwise else len(values)
    return map(sum, itertools.product(*reversed(parts)))


def _listed_packs(spec: SweepSpec, rowwise: frozenset[str]) -> Iterator[int]:
    numbers: dict[str, int] = {}
    for cell in spec.cells:
        shape = {name: value for name, value in (spec.fixed | cell).items() if name not in rowwise}
        yield numbers.setdefault(json.dumps(shape, sort_keys=True), len(numbers))
