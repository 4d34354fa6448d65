"""Early stopping, and which epoch is the best."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from jobs.spec import EarlyStopping, JobSpec
from jobs.stopping import Ranking, Stopper

NAN, INF = math.nan, math.inf


def stopped_at(values: list[float], **settings: Any) -> int | None:
    """The epoch at which a job of these values stops, going through a saved state each time."""
    wanted = EarlyStopping(monitor="val_x", **settings)
    stopper = Stopper(wanted)
    for epoch, value in enumerate(values, start=1):
        stopper.update({"val_x": value})
        if stopper.stopped:
            return epoch
        state, stopper = stopper.state(), Stopper(wanted)
        stopper.restore(state)
    return None


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        ([3, 2, 1], {"patience": 1}, None),
        ([3, 3], {"patience": 1}, 2),
        ([3, 4, 5, 2, 3, 3, 3], {"patience": 3}, 7),
        ([3, 4, 5, 6], {"patience": 3}, 4),
        ([1, 2, 3, 3, 3], {"mode": "max", "patience": 2}, 5),
        ([1.0, 0.75, 0.75], {"patience": 2, "min_delta": 0.25}, 3),
        ([1.0, 0.75, 0.5, 0.375], {"patience": 2, "min_delta": 0.2}, None),
        ([1, 1.5, 2], {"mode": "max", "patience": 1, "min_delta": 0.5}, 2),
        ([NAN, 5, 4], {"patience": 1}, None),
        ([5, NAN, NAN], {"patience": 2}, 3),
        ([5, -INF, INF], {"patience": 2}, 3),
        ([5, INF, INF], {"mode": "max", "patience": 2}, 3),
    ],
)
def test_a_job_stops_when_patience_is_spent(
    values: list[float], settings: dict[str, object], expected: int | None
) -> None:
    assert stopped_at(values, **settings) == expected


def test_slow_progress_counts_once_it_adds_up_to_min_delta() -> None:
    """The anchor stays where it is until then, so many small steps are one improvement."""
    assert stopped_at([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], patience=3, min_delta=0.25) is None


def test_without_early_stopping_a_job_never_stops() -> None:
    stopper = Stopper(None)
    for _ in range(100):
        stopper.update({"val_loss": 1.0})
    assert not stopper.stopped


class TestRanking:
    def test_the_objective_chooses_the_best_epoch_unless_early_stopping_names_another(
        self, make_spec: Callable[..., JobSpec]
    ) -> None:
        first = {"val_accuracy": 0.9, "val_loss": 0.5}
        second = {"val_accuracy": 0.8, "val_loss": 0.4}
        assert not Ranking(make_spec()).better(second, first)
        assert Ranking(make_spec(early_stopping=EarlyStopping())).better(second, first)

    def test_of_equal_epochs_the_one_of_lower_loss_is_better_else_the_earlier(
        self, make_spec: Callable[..., JobSpec]
    ) -> None:
        ranking = Ranking(make_spec())
        first = {"val_accuracy": 0.9, "val_loss": 0.5}
        assert ranking.better({**first, "val_loss": 0.4}, first)
        assert not ranking.better(first, first)
        assert not ranking.better({**first, "val_loss": 0.6}, first)

    def test_a_value_that_is_not_finite_is_never_better(self, make_spec: Callable[..., JobSpec]) -> None:
        ranking = Ranking(make_spec())
        finite, wrong = {"val_accuracy": 0.1, "val_loss": 1.0}, {"val_accuracy": NAN, "val_loss": 0.1}
        assert not ranking.better(wrong, finite)
        assert ranking.better(finite, wrong)
        assert not ranking.better({**wrong, "val_accuracy": INF}, finite)
