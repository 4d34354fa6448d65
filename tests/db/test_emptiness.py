"""What a leaderboard without rows says of itself, on both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from db import claiming, emptiness, ending
from db.models import Sweep
from db.session import Database
from jobs.spec import TrainResult

SPEC = {
    "grid": {"lr": [0.1, 1.1], "hidden": [[16, 8]]},
    "fixed": {"batch_size": 16, "scheduler": {"name": "step", "gamma": 0.5}},
}


@pytest.fixture
def sweep(database: Database, add_sweep: Callable[..., int], result: Callable[..., TrainResult]) -> int:
    """A sweep with lr 0.1, which has succeeded, and 1.1, which has not."""
    sweep = add_sweep(2, **SPEC)
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "worker", 20)
        assert ending.finish(session, [(claim, result(claim.job))])
    return sweep


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"lr": 0.5}, "no job of sweep 1 has lr = 0.5; its values are 0.1, 1.1"),
        ({"batch_size": 32}, "no job of sweep 1 has batch_size = 32; its value is 16"),
        ({"scheduler.gamma": 0.1}, "no job of sweep 1 has scheduler.gamma = 0.1; its value is 0.5"),
        ({"scheduler.min_lr": 0.1}, "no job of sweep 1 has scheduler.min_lr = 0.1"),
        ({"hidden": [8]}, "no job of sweep 1 has hidden = [8]; its value is [16, 8]"),
        ({"batch_size": 16.0, "lr": 1.1}, "no job of sweep 1 with batch_size = 16.0 and lr = 1.1 has succeeded"),
    ],
)
def test_a_filter_that_matches_nothing_is_told_with_the_values_that_there_are(
    database: Database, sweep: int, where: dict[str, Any], reason: str
) -> None:
    with database.reading() as session:
        told = emptiness.why_empty(session, sweep=sweep, where=where)
    assert told == reason.replace("sweep 1", f"sweep {sweep}")


def test_a_listed_cell_without_a_parameter_has_the_fixed_value_of_it(
    database: Database, add_sweep: Callable[..., int], result: Callable[..., TrainResult]
) -> None:
    sweep = add_sweep(2)
    spec = {"cells": [{"lr": 0.1}, {"batch_size": 8}], "fixed": {"batch_size": 16}}
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "worker", 20)
        assert ending.finish(session, [(claim, result(claim.job))])
        session.execute(update(Sweep).where(Sweep.id == sweep).values(spec=spec))
    with database.reading() as session:
        told = emptiness.why_empty(session, sweep=sweep, where={"batch_size": 32})
    assert told.endswith("has batch_size = 32; its values are 8, 16")


def test_what_no_sweep_was_ranked_by_is_told_with_what_they_were(database: Database, sweep: int) -> None:
    with database.reading() as session:
        told = emptiness.why_empty(session, task="iris", metric="val_loss")
        other_task = emptiness.why_empty(session, task="digits")
        filtered = emptiness.why_empty(session, task="iris", where={"lr": 7})
    assert told == "no sweep of iris was ranked by val_loss; its sweeps were ranked by val_accuracy"
    assert other_task == "no job of digits has succeeded yet"
    assert filtered == "no job of iris with lr = 7 has succeeded"


def test_before_the_first_success_nothing_else_matters(database: Database, add_sweep: Callable[..., int]) -> None:
    sweep = add_sweep(2, **SPEC)
    with database.reading() as session:
        assert emptiness.why_empty(session, where={"lr": 7}) == "no job has succeeded yet"
        told = emptiness.why_empty(session, sweep=sweep, where={"lr": 7})
    assert told == f"no job of sweep {sweep} has succeeded yet"
