"""A sweep of a task that this machine does not have, such as another user's own, is read like every other."""

from collections.abc import Callable
from typing import Any

import pytest

from db import claiming, emptiness, ending, leaderboard, results, status
from db.session import Database
from jobs.errors import InputError, UnknownTask
from jobs.spec import Objective, TrainResult

AddSweep = Callable[..., int]
FIXED = {"gates": 2, "scheduler": {"name": "step", "gamma": 0.5}}


@pytest.fixture
def ranked(database: Database, add_sweep: AddSweep, result: Callable[..., TrainResult]) -> int:
    """A sweep of two jobs of a task that is nowhere here, one of which has succeeded."""
    objective = Objective(metric="val_recall", mode="max")
    sweep = add_sweep(2, task="growers", fixed=FIXED, grid={"lr": [0.1, 1.1]}, objective=objective)
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "worker", 60.0)
        assert ending.finish(session, [(claim, result(claim.job, score=0.9))])
    return sweep


def test_it_is_on_the_leaderboard_of_its_task_by_its_newest_sweeps_metric(database: Database, ranked: int) -> None:
    with database.reading() as session:
        for scope in ({"task": "growers"}, {"sweep": ranked}, {"task": "growers", "metric": "val_recall"}, {}):
            (row,) = leaderboard.top(session, **scope)
            assert (row.task, row.metric, row.score, row.params["gates"]) == ("growers", "val_recall", 0.9, 2)
            assert len(leaderboard.by_cell(session, **scope)) == 1


@pytest.mark.parametrize("where", [{"gates": 2}, {"lr": 0.1}, {"scheduler.name": "step"}, {"scheduler.gamma": 0.5}])
def test_it_can_be_filtered_by_the_parameters_of_its_sweep(
    database: Database, ranked: int, where: dict[str, Any]
) -> None:
    with database.reading() as session:
        for scope in ({"task": "growers"}, {"sweep": ranked}, {}):
            assert len(leaderboard.top(session, where=where, **scope)) == 1


def test_what_its_sweeps_do_not_have_is_refused(database: Database, ranked: int) -> None:
    with database.reading() as session:
        with pytest.raises(InputError, match=r"no parameter 'gats' .*did you mean \"gates\""):
            leaderboard.top(session, task="growers", where={"gats": 2})
        with pytest.raises(InputError, match="'growers' is not ranked by 'val_loss'; choose one of val_recall"):
            leaderboard.top(session, task="growers", metric="val_loss")


def test_a_task_that_neither_the_catalogue_nor_a_sweep_has_is_unknown(database: Database, ranked: int) -> None:
    with database.reading() as session:
        for where in ({}, {"gates": 2}):
            with pytest.raises(UnknownTask, match="GRIDYARD_TASKS"):
                leaderboard.top(session, task="grower", where=where)


def test_it_is_shown_with_its_status_and_its_jobs(database: Database, ranked: int) -> None:
    with database.reading() as session:
        assert status.sweep_status(session, ranked).task == "growers"
        assert results.job_details(session, 1).params == FIXED | {"lr": 0.1}


def test_why_its_leaderboard_is_empty_is_said(database: Database, ranked: int) -> None:
    with database.reading() as session:
        said = emptiness.why_empty(session, task="growers", where={"gates": 3})
        assert said == "no job of growers with gates = 3 has succeeded"
