"""The leaderboard on both databases: order, filters, cells, and the index that serves it."""

import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from db import counts, leaderboard
from db.models import Job, Sweep
from db.session import Database
from jobs.errors import InputError, NotFound, UnknownTask

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIXED = {
    "lr": 0.01,
    "optimizer": "adam",
    "hidden": [16, 8],
    "nesterov": False,
    "clip_norm": None,
    "scheduler": {"name": "step", "step_size": 30, "gamma": 0.5},
}


def add_sweep(session: Session, *, task: str = "iris", metric: str = "val_accuracy", mode: str = "max") -> Sweep:
    sweep = Sweep(
        uid=f"uid-{session.query(Sweep).count()}",
        name="test",
        task=task,
        state="open",
        queue="cpu",
        priority=0,
        spec={"fixed": FIXED},
        spec_hash="",
        metric=metric,
        mode=mode,
        retries=2,
        total=0,
        created_at=NOON,
        touched_at=NOON,
    )
    session.add(sweep)
    session.flush()
    return sweep


def add_job(
    session: Session,
    sweep: Sweep,
    score: float,
    *,
    cell: int,
    seed: int = 0,
    params: dict[str, Any] | None = None,
    minutes: int = 0,
) -> int:
    finite = math.isfinite(score)
    job = Job(
        sweep_id=sweep.id,
        cell=cell,
        seed=seed,
        params=params or {},
        task=sweep.task,
        metric=sweep.metric,
        state="succeeded",
        attempt=1,
        finished_at=NOON + timedelta(minutes=minutes),
        score=score if finite else None,
        rank_key=(-score if sweep.mode == "max" else score) if finite else sys.float_info.max,
        metrics={"val_accuracy": score if finite else None, "test_accuracy": 0.5},
        best_epoch=3,
        epochs=5,
        seconds=1.5,
    )
    session.add(job)
    session.flush()
    counts.add(session, {(sweep.id, "succeeded"): 1})
    return job.id


def jobs_of(ranked: Sequence[leaderboard.Ranked]) -> list[int]:
    return [row.job for row in ranked]


def test_the_best_comes_first_in_the_direction_of_the_objective(database: Database) -> None:
    with database.writing() as session:
        highest = add_sweep(session)
        low, high = (add_job(session, highest, score, cell=cell) for cell, score in enumerate((0.5, 0.9)))
        lowest = add_sweep(session, metric="val_loss", mode="min")
        large, small = (add_job(session, lowest, score, cell=cell) for cell, score in enumerate((0.5, 0.1)))
    with database.reading() as session:
        assert jobs_of(leaderboard.top(session, sweep=highest.id)) == [high, low]
        assert jobs_of(leaderboard.top(session, sweep=lowest.id)) == [small, large]


def test_equal_scores_rank_in_the_sweeps_order_whoever_finished_first_and_non_finite_ones_come_last(
    database: Database,
) -> None:
    with database.writing() as session:
        sweep = add_sweep(session)
        infinite = add_job(session, sweep, math.inf, cell=0)
        first = add_job(session, sweep, 0.9, cell=1, minutes=5)
        second = add_job(session, sweep, 0.9, cell=2, minutes=1)
    with database.reading() as session:
        ranked = leaderboard.top(session, sweep=sweep.id)
    assert jobs_of(ranked) == [first, second, infinite]
    assert [row.rank for row in ranked] == [1, 2, 3]
    assert ranked[-1].score is None


def test_a_row_has_everything_a_reader_needs(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session)
        job = add_job(session, sweep, 0.9, cell=0, seed=7, params={"lr": 0.1})
    with database.reading() as session:
        (row,) = leaderboard.top(session, sweep=sweep.id)
    assert row == leaderboard.Ranked(
        rank=1,
        job=job,
        sweep=sweep.id,
        task="iris",
        params=FIXED | {"lr": 0.1},
        varied=["lr"],
        seed=7,
        metric="val_accuracy",
        score=0.9,
        metrics={"val_accuracy": 0.9, "test_accuracy": 0.5},
        best_epoch=3,
        epochs=5,
        seconds=1.5,
        state="succeeded",
    )


def test_a_task_is_ranked_over_its_sweeps_by_its_own_objective_or_a_chosen_metric(database: Database) -> None:
    with database.writing() as session:
        first, second, other = add_sweep(session), add_sweep(session), add_sweep(session, task="digits")
        by_loss = add_sweep(session, metric="val_loss", mode="min")
        good, better = add_job(session, first, 0.8, cell=0), add_job(session, second, 0.9, cell=0)
        digits, loss = add_job(session, other, 0.99, cell=0), add_job(session, by_loss, 0.1, cell=0)
    with database.reading() as session:
        assert jobs_of(leaderboard.top(session, task="iris")) == [better, good]
        assert jobs_of(leaderboard.top(session, task="iris", metric="val_loss")) == [loss]
        assert jobs_of(leaderboard.top(session)) == [digits, better, good, loss]
        assert jobs_of(leaderboard.top(session, limit=2)) == [digits, better]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"lr": 0.1}, ["own"]),
        ({"lr": 1e-2}, ["plain", "lists", "nulls"]),
        ({"hidden": [16, 8]}, ["plain", "own", "nulls"]),
        ({"hidden": [16.0, 8]}, ["plain", "own", "nulls"]),
        ({"hidden": [32]}, ["lists"]),
        ({"hidden": [32, 8]}, []),
        ({"optimizer": "adam", "lr": 0.1}, ["own"]),
        ({"nesterov": False}, ["plain", "lists", "nulls"]),
        ({"nesterov": 0}, []),
        ({"clip_norm": None}, ["plain", "lists", "nulls"]),
        ({"clip_norm": 1}, ["own"]),
        ({"scheduler.name": "step"}, ["plain", "lists"]),
        ({"scheduler.name": "cosine"}, ["own"]),
        ({"scheduler.step_size": 30.0}, ["plain", "lists"]),
        ({"scheduler": {"gamma": 0.5, "step_size": 30, "name": "step"}}, ["plain", "lists"]),
        ({"scheduler": {"name": "step"}}, []),
        ({"scheduler": None}, ["nulls"]),
    ],
    ids=str,
)
def test_where_compares_effective_values_as_json_does(
    database: Database, where: dict[str, Any], expected: list[str]
) -> None:
    own = {"lr": 0.1, "nesterov": True, "clip_norm": 1.0, "scheduler": {"name": "cosine", "min_lr": 0.0}}
    with database.writing() as session:
        sweep = add_sweep(session)
        names = {
            add_job(session, sweep, 0.9, cell=0): "plain",
            add_job(session, sweep, 0.8, cell=1, params=own): "own",
            add_job(session, sweep, 0.7, cell=2, params={"hidden": [32]}): "lists",
            add_job(session, sweep, 0.6, cell=3, params={"scheduler": None}): "nulls",
        }
    with database.reading() as session:
        assert [names[job] for job in jobs_of(leaderboard.top(session, sweep=sweep.id, where=where))] == expected
        cells = leaderboard.by_cell(session, sweep=sweep.id, where=where)
        assert [names[cell.jobs[0]] for cell in cells] == expected


def test_cells_rank_by_the_mean_of_their_seeds(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session)
        steady = [add_job(session, sweep, 0.8, cell=0, seed=seed) for seed in range(3)]
        lucky = [add_job(session, sweep, score, cell=1, seed=seed) for seed, score in enumerate((1.0, 0.5, 0.6))]
        single = add_job(session, sweep, 0.75, cell=2, params={"lr": 0.1})
        infinite = [add_job(session, sweep, score, cell=3, seed=seed) for seed, score in enumerate((1.0, math.nan))]
    with database.reading() as session:
        cells = leaderboard.by_cell(session, sweep=sweep.id)
        best_two = leaderboard.by_cell(session, sweep=sweep.id, limit=2)
    assert [cell.jobs for cell in cells] == [steady, [single], lucky, infinite]
    assert [cell.rank for cell in cells] == [1, 2, 3, 4]
    assert [cell.n for cell in cells] == [3, 1, 3, 2]
    assert [cell.mean for cell in cells] == [pytest.approx(0.8), 0.75, pytest.approx(0.7), None]
    # sqrt((0.3² + 0.2² + 0.1²) / (3 - 1))
    assert [cell.std for cell in cells] == [pytest.approx(0), None, pytest.approx(math.sqrt(0.07)), None]
    assert cells[1].params == FIXED | {"lr": 0.1}
    assert cells[2].metrics == {"val_accuracy": pytest.approx(0.7), "test_accuracy": 0.5}
    assert cells[2].metrics_std == {"val_accuracy": pytest.approx(math.sqrt(0.07)), "test_accuracy": 0}
    assert cells[1].metrics_std == {"val_accuracy": None, "test_accuracy": None}
    assert (cells[3].metrics["val_accuracy"], cells[3].metrics_std["val_accuracy"]) == (None, None)
    assert best_two == cells[:2]


def test_cells_of_equal_means_rank_in_the_sweeps_order_whoever_finished_first(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session)
        for cell, minutes in ((1, 1), (0, 5), (2, 3)):
            add_job(session, sweep, 0.5, cell=cell, minutes=minutes)
    with database.reading() as session:
        assert [cell.cell for cell in leaderboard.by_cell(session, sweep=sweep.id)] == [0, 1, 2]


def test_cells_of_an_objective_to_minimise_rank_by_the_lowest_mean(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session, metric="val_loss", mode="min")
        worse = add_job(session, sweep, 0.9, cell=0)
        better = add_job(session, sweep, 0.1, cell=1)
    with database.reading() as session:
        assert [cell.jobs for cell in leaderboard.by_cell(session, sweep=sweep.id)] == [[better], [worse]]


def test_jobs_that_have_not_succeeded_are_not_ranked(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session)
        add_job(session, sweep, 0.9, cell=0)
        same = {"sweep_id": sweep.id, "params": {}, "task": "iris", "metric": "val_accuracy"}
        session.add(Job(**same, cell=1, seed=0, state="ready"))
        session.add(Job(**same, cell=2, seed=0, state="failed", reason="diverged", finished_at=NOON))
        counts.add(session, {(sweep.id, "ready"): 1, (sweep.id, "failed"): 1})
    with database.reading() as session:
        assert len(leaderboard.top(session, sweep=sweep.id)) == 1
        assert len(leaderboard.by_cell(session, sweep=sweep.id)) == 1


def test_what_does_not_exist_is_named_with_the_nearest_that_does(database: Database) -> None:
    with database.writing() as session:
        sweep = add_sweep(session).id
    with database.reading() as session:
        with pytest.raises(NotFound, match="there is no sweep 99"):
            leaderboard.top(session, sweep=99)
        with pytest.raises(UnknownTask, match='did you mean "iris"'):
            leaderboard.top(session, task="irsi")
        with pytest.raises(InputError, match=r"no parameter 'dropuot' \(.*\); did you mean \"dropout\""):
            leaderboard.top(session, sweep=sweep, where={"dropuot": 0.1})
        with pytest.raises(InputError, match=r'did you mean "scheduler\.name"'):
            leaderboard.by_cell(session, where={"scheduler.nmae": "step"})
        with pytest.raises(InputError, match="choose one of val_loss, val_accuracy"):
            leaderboard.top(session, task="iris", metric="val_mse")
        with pytest.raises(InputError, match="only one of them"):
            leaderboard.top(session, sweep=sweep, task="iris")


@pytest.mark.parametrize(
    ("scope", "index"),
    [
        ({"sweep": 2}, "ix_jobs_rank_sweep"),
        ({"task": "iris"}, "ix_jobs_rank_task"),
        ({}, "ix_jobs_rank_all"),
    ],
    ids=str,
)
def test_the_leaderboard_reads_an_index_in_order_and_sorts_nothing(
    database: Database, scope: dict[str, Any], index: str
) -> None:
    with database.writing() as session:
        for _ in range(3):
            sweep = add_sweep(session)
            for cell in range(1_000):
                session.add(_succeeded(sweep, cell))
            counts.add(session, {(sweep.id, "succeeded"): 1_000})
    with database.writing() as session:
        session.execute(text("ANALYZE"))
    plan = plan_of(database, scope)
    assert index in plan
    assert "sort" not in plan.lower()
    assert "temp b-tree" not in plan.lower()  # SQLite's words for sorting


def _succeeded(sweep: Sweep, cell: int) -> Job:
    same = {"sweep_id": sweep.id, "params": {}, "task": "iris", "metric": "val_accuracy", "state": "succeeded"}
    return Job(**same, cell=cell, seed=0, attempt=1, finished_at=NOON, score=0.5, rank_key=-(cell % 100) / 100)


def plan_of(database: Database, scope: dict[str, Any]) -> str:
    """How the database executes the leaderboard's query of jobs, with the values it was really given."""
    sent: list[tuple[str, Any]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: sent.append((args[2], args[3])))
    explain = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}[database.dialect]
    with database.reading() as session:
        leaderboard.top(session, limit=10, **scope)
        ((statement, values),) = [one for one in sent if "FROM jobs" in one[0]]
        rows = session.connection().exec_driver_sql(explain + statement, values)
        return "\n".join(str(row) for row in rows)
