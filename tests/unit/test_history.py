"""A history keeps every number of every epoch, in eight bytes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from jobs.history import History
from jobs.spec import EpochReport


def report(epoch: int, seconds: float = 0.5, **metrics: float) -> EpochReport:
    return EpochReport(job=1, epoch=epoch, metrics=metrics, seconds=seconds)


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_every_number_comes_back_to_the_last_bit(numbers: list[float]) -> None:
    history = History.of([report(epoch, val_loss=number) for epoch, number in enumerate(numbers, start=1)])
    columns = history.columns()
    assert list(columns) == ["epoch", "seconds", "val_loss"]
    assert columns["epoch"] == list(range(1, len(numbers) + 1))
    assert repr(columns["val_loss"]) == repr(numbers), "NaN equals itself only as text, and -0.0 is not 0.0"
    assert len(history) == len(numbers)
    assert len(history.content) == 8 * 3 * len(numbers)


def test_a_metric_that_an_epoch_does_not_have_is_no_number_there() -> None:
    history = History.of([report(1, a=1.0), report(2, b=2.0)])
    assert list(history.columns()) == ["epoch", "seconds", "a", "b"]
    first, second = history.epochs()
    assert (first["a"], second["b"]) == (1.0, 2.0)
    assert math.isnan(first["b"])
    assert math.isnan(second["a"])


def test_no_epochs_are_a_history_too() -> None:
    history = History.of([])
    assert (len(history), history.columns(), history.epochs()) == (0, {}, [])


def test_a_history_travels_as_json() -> None:
    history = History.of([report(1, val_loss=math.inf), report(2, val_loss=1 / 3)])
    adapter = TypeAdapter(History)
    assert adapter.validate_json(adapter.dump_json(history)) == history


@pytest.mark.parametrize(("names", "content"), [([], b"12345678"), (["epoch", "seconds"], bytes(24)), (["a"], b"1")])
def test_bytes_that_are_not_whole_columns_are_refused(names: list[str], content: bytes) -> None:
    with pytest.raises(ValueError, match="bytes are not"):
        History(names=names, content=content)
