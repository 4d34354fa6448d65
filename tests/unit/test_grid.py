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


def test_cells_that_differ_only_in_numbers_of_their_rows_are_one_pack() -> None:
    spec = sweep(grid={"hidden": [[8], [4]], "lr": [0.2, 0.1], "batch_size": [16, 32], "dropout": [0.0]}, seeds=[7, 3])
    assert [params["hidden"] for _, _, params in grid.jobs(spec)][::4] == [[8], [8], [4], [4]]
    assert list(grid.packs(spec)) == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]


def test_listed_cells_are_one_pack_where_all_but_the_numbers_of_their_rows_is_the_same() -> None:
    """What a cell does not name is as in `fixed`."""
    cells = [{"lr": 0.2}, {"hidden": [4]}, {"hidden": [8], "dropout": 0.1}, {}, {"lr": 0.1, "hidden": [4]}]
    assert list(grid.packs(sweep(cells=cells, fixed={"hidden": [8]}))) == [0, 1, 0, 0, 1]


def test_where_nothing_is_trained_only_seeds_are_one_pack() -> None:
    spec = SweepSpec(name="t", task="kogpt2", epochs=1, objective=OBJECTIVE, grid={"top_k": [1, 2]}, seeds=[0, 1])
    assert list(grid.packs(spec)) == [0, 0, 1, 1]


@given(st.dictionaries(st.sampled_from(["lr", "hidden", "dropout", "init"]), st.integers(1, 4)), st.integers(1, 3))
def test_packs_of_a_grid_are_those_of_its_cells_in_a_list(sizes: dict[str, int], seeds: int) -> None:
    spec = sweep(grid={name: list(range(size)) for name, size in sizes.items()}, seeds=list(range(seeds)))
    listed = sweep(cells=[params for _, params in grid.expand(spec)], seeds=list(range(seeds)))
    assert list(grid.packs(spec)) == list(grid.packs(listed))


def test_a_large_grid_takes_no_more_memory_than_a_small_one() -> None:
    spec = sweep(grid={"lr": list(range(1000)), "momentum": list(range(1000)), "dropout": list(range(1000))})
    assert grid.count(spec) == 10**9
    tracemalloc.start()
    last = next(itertools.islice(grid.jobs(spec), 50_000, None))
    assert next(itertools.islice(grid.packs(spec), 50_000, None)) == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last == (50_000, 0, {"lr": 0, "momentum": 50, "dropout": 0})
    assert peak < 200_000  # bytes
