"""Splits that keep rows together."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.params import TrainingParams
from jobs.splits import by_group, by_time


@st.composite
def numbered(draw: st.DrawFn) -> np.ndarray:
    """The group of each row, from 0; three groups at least."""
    given = draw(st.lists(st.integers(0, 9), min_size=3, max_size=60).filter(lambda rows: len(set(rows)) >= 3))
    return np.unique(given, return_inverse=True)[1]


@settings(deadline=None, max_examples=60)
@given(numbered(), st.integers(0, 2**32 - 1))
def test_a_group_is_never_divided_and_no_part_is_empty(groups: np.ndarray, seed: int) -> None:
    parts = [part.numpy() for part in by_group(groups, TrainingParams(), seed)]
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    found = [set(groups[part].tolist()) for part in parts]
    assert all(found)
    assert sum(map(len, found)) == groups.max() + 1


@settings(deadline=None, max_examples=60)
@given(numbered())
def test_no_row_is_newer_than_one_of_a_later_part(times: np.ndarray) -> None:
    train, val, test = (times[part.numpy()] for part in by_time(times))
    assert train.max() < val.min() <= val.max() < test.min()


def test_parts_of_many_small_groups_are_60_20_20_and_follow_the_seed() -> None:
    groups = np.arange(1000) // 2
    train, val, test = by_group(groups, TrainingParams(), 0)
    assert (len(train), len(val), len(test)) == (600, 200, 200)
    assert by_group(groups, TrainingParams(), 0)[2].tolist() == test.tolist()
    assert by_group(groups, TrainingParams(), 1)[2].tolist() != test.tolist()
    assert by_group(groups, TrainingParams(split_seed=0), 1)[2].tolist() == test.tolist()
