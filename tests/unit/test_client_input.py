"""What the Python client is given where it takes an id or a name: one message, and never a traceback of ours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gridyard.client import Yard
from jobs.errors import InputError, NotFound

WRONG: dict[str, tuple[Callable[[Yard], object], str]] = {
    "a word as a job": (lambda yard: yard.job("a"), "the id of a job is a whole number, such as 7, not 'a'"),  # type: ignore[arg-type]
    "no job": (lambda yard: yard.job(None), "the id of a job is a whole number, such as 7, not None"),  # type: ignore[arg-type]
    "a part of a job": (lambda yard: yard.job(1.5), "whole number, such as 7, not 1.5"),  # type: ignore[arg-type]
    "a word as a sweep": (lambda yard: yard.sweep("a"), "the id of a sweep is a whole number"),  # type: ignore[arg-type]
    "a leaderboard of a word": (lambda yard: yard.ranked(sweep="a"), "the id of a sweep is a whole number"),  # type: ignore[arg-type]
    "a task that is no text": (lambda yard: yard.leaderboard(task=3), "the name of a task is a text, not 3"),
    "a metric that is no text": (
        lambda yard: yard.ranked(task="iris", metric=3),  # type: ignore[arg-type]
        "the name of a metric is a text, not 3",
    ),
    "words as jobs to compare": (lambda yard: yard.compare("ab"), "the id of a job is a whole number"),  # type: ignore[arg-type]
    "a word as a number of rows": (lambda yard: yard.ranked("x"), "top is a whole number from 1 to .*, not 'x'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("ask", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_id_or_name_is_named_with_what_is_allowed(
    yard: Yard, ask: Callable[[Yard], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ask(yard)


def test_an_id_may_be_a_number_of_numpy_as_those_of_a_leaderboard_are(yard: Yard) -> None:
    sweep, job = map(np.int64, (yard.submit(task="iris").id, 99))
    found: Any = yard  # NumPy's numbers are no int to mypy
    assert found.sweep(sweep).status().total == 1
    with pytest.raises(NotFound, match="there is no job 99"):
        found.job(job)
