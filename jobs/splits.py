"""Which rows are for training, validation and test: a function of the seed, or of groups that stay whole."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.params import TrainingParams
from jobs.randomness import Purpose, generator

Parts = tuple[Tensor, Tensor, Tensor]  # row numbers of training, validation and test, int64

VALIDATION, TEST = 0.2, 0.2  # parts of all rows


def split(rows: int, params: TrainingParams, seed: int, classes: NDArray[Any] | None = None) -> Parts:
    """Row numbers of training, validation and test; with `classes`, each part has the same share of every class.

    Of a class, or of all rows, the first in a drawn order are for testing and the next for validation. How many is
    rounded so that the parts have their sizes exactly, and no class in a part is more than one row off its share.
    """
    shuffled = _shuffled(rows, params, seed)
    label = np.zeros(rows) if classes is None else classes[shuffled]
    groups = [shuffled[torch.from_numpy(label == value)] for value in np.unique(label)]
    ends = torch.tensor([len(group) for group in groups]).cumsum(0)
    test, kept = shares(ends, TEST), shares(ends, TEST + VALIDATION)
    parts = [torch.tensor_split(group, cuts) for group, *cuts in zip(groups, test, kept, strict=True)]
    tests, vals, trains = (torch.cat(part) for part in zip(*parts, strict=True))
    return trains, vals, tests


def shares(ends: Tensor, part: float) -> list[int]:
    """How many rows of each group make this part of all, given where the groups end (cumulative sizes)."""
    return torch.diff((ends * part).round().long(), prepend=torch.zeros(1, dtype=torch.long)).tolist()


def by_group(groups: NDArray[np.int64], params: TrainingParams, seed: int) -> Parts:
    """All rows of a group lie in one part, so none of them tells about another. groups: (N,) from 0, three at least."""
    return _whole(groups, _shuffled(int(groups.max()) + 1, params, seed).numpy())


def by_time(times: NDArray[np.int64]) -> Parts:
    """The newest rows are for testing, those before for validation. times: (N,) ranks from 0, three at least.

    Rows of one time stay together, so parts may be a little off their shares.
    """
    return _whole(times, np.arange(times.max() + 1)[::-1])


def _shuffled(number: int, params: TrainingParams, seed: int) -> Tensor:
    seed = seed if params.split_seed is None else params.split_seed
    return torch.randperm(number, generator=generator(seed, Purpose.SPLIT))


def _whole(groups: NDArray[np.int64], order: NDArray[np.int64]) -> Parts:
    """The first groups for testing, the next for validation, as near to their shares as whole groups come."""
    ends = np.bincount(groups)[order].cumsum()
    test, kept = (int(np.abs(ends - part * len(groups)).argmin()) + 1 for part in (TEST, TEST + VALIDATION))
    test = min(test, len(order) - 2)
    kept = min(max(kept, test + 1), len(order) - 1)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    part = np.digitize(place[groups], [test, kept])  # 0 test, 1 validation, 2 training
    trains, vals, tests = (torch.from_numpy(np.flatnonzero(part == number)) for number in (2, 1, 0))
    return trains, vals, tests
