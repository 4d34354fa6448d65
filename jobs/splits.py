"""Which rows are for training, validation and test: a function of the seed, or of groups that stay whole."""

from collections.abc import Sequence
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
    groups = grouped(np.zeros(rows) if classes is None else classes, params, seed)
    counts = [len(group) for group in groups]
    places = zip(shares(counts, TEST), shares(counts, TEST + VALIDATION), strict=True)
    tests, vals, trains = cut(groups, list(places))
    return trains, vals, tests


def grouped(classes: NDArray[Any], params: TrainingParams, seed: int) -> list[Tensor]:
    """The row numbers of each class, in a drawn order. classes: (N,)."""
    shuffled = _shuffled(len(classes), params, seed)
    drawn = classes[shuffled.numpy()]
    return [shuffled[torch.from_numpy(drawn == value)] for value in np.unique(drawn)]


def shares(counts: Sequence[int], part: float) -> list[int]:
    """How many of each group make this part of all: their sum is exact, and none is more than one off its share."""
    ends = np.round(np.cumsum(counts) * part).astype(int)
    return [int(share) for share in np.diff(ends, prepend=0)]


def cut(groups: Sequence[Tensor], places: Sequence[Sequence[int]]) -> list[Tensor]:
    """Each group cut at its places; the first pieces of all groups together, the second ones, and so on."""
    pieces = [torch.tensor_split(group, tuple(cuts)) for group, cuts in zip(groups, places, strict=True)]
    return [torch.cat(part) for part in zip(*pieces, strict=True)]


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
