"""A grid is expanded lazily, in one fixed order, and each job comes exactly once."""

import itertools
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobs.spec import Objective, SweepSpec
from scheduler import grid

OBJECTIVE = Objective(metric="val_loss", mode="min")


def sweep(**changes: Any) -> SweepSpec:
    return SweepSpec(name="tests", task="iris", epochs=1, objective=OBJECTIVE, **changes)


def test_the_last_parameter_changes_fastest_and_seeds_come_inside_each_cell() -> None:
    spec = sweep(grid={"lr": [0.2, 0.1], "hidden": [[8], [4]]}, seeds=[7, 3])
    assert list(grid.expand(spec)) == [
        (0, {"lr": 0.2, "hidden": [8]}),
        (1, {"lr": 0.2, "hidden": [4]}),
        (2, {"lr": 0.1, "hidden": [8]}),
        (3, {"lr": 0.1, "hidden": [4]}),
    ]
    assert [(cell, seed) for cell, seed, _ in grid.jobs(spec)] == [(cell, seed) for cell in range(4) for seed in (7, 3)]


def test_listed_cells_keep_their_order() -> None:
    spec = sweep(cells=[{"lr": 0.2}, {}, {"dropout": 0.1}])
    assert list(grid.expand(spec)) == [(0, {"lr": 0.2}), (1, {}), (2, {"dropout": 0.1})]
    assert grid.count(spec) == 3


def test_a_sweep_without_a_grid_is_one_cell() -> None:
    assert list(grid.jobs(sweep(seeds=[0, 1]))) == [(0, 0, {}), (0, 1, {})]
    assert grid.count(sweep()) == 1


@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(), min_size=1, max_size=4, unique=True)),
    st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
)
def test_every_combination_with_every_seed_comes_exactly_once(values: dict[str, list[int]], seeds: list[int]) -> None:
    spec = sweep(grid=values, seeds=seeds)
    found = [(tuple(params.items()), seed) for _, seed, params in grid.jobs(spec)]
    combinations = [tuple(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
    assert found == [(combination, seed) for combination in combinations for seed in seeds]
    assert len(set(found)) == len(found) == grid.count(spec) * len(seeds)
    assert [cell for cell, _ in grid.expand(spec)] == list(range(grid.count(spec)))


def test_a_large_grid_takes_no_more_memory_than_a_small_one() -> None:
    spec = sweep(grid={"lr": list(range(1000)), "momentum": list(range(1000)), "dropout": list(range(1000))})
    assert grid.count(spec) == 10**9
    tracemalloc.start()
    last = next(itertools.islice(grid.jobs(spec), 50_000, None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last == (50_000, 0, {"lr": 0, "momentum": 50, "dropout": 0})
    assert peak < 200_000  # bytes
