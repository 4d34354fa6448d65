"""Fills a database with sweeps whose jobs have ended: a million claims, one after the other, would take an hour."""

import random
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, text

from db import counts, submission
from db.models import Job
from db.rows import rank_key
from db.session import Database
from jobs.spec import Objective, SweepSpec
from jobs.states import JobState

CHUNK = 10_000  # rows of one transaction
SMALL_SWEEPS = 20  # beside the large one
LARGE_SHARE = 0.8  # of all jobs are the large sweep's
TASKS = ("iris", "digits", "breast_cancer")
STATES = [JobState.SUCCEEDED] * 97 + [JobState.FAILED] * 1 + [JobState.READY] * 2  # of a hundred jobs
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VALUES = [round(1e-5 * 1.01**step, 12) for step in range(1_000)]  # a grid of two such parameters has a million cells


def spec(number: int) -> SweepSpec:
    """A sweep as people submit them."""
    return SweepSpec(
        name=f"sweep {number}",
        task=TASKS[number % len(TASKS)],
        grid={"lr": VALUES, "weight_decay": VALUES},
        fixed={"optimizer": "adam", "hidden": [32, 16], "batch_size": 16, "dropout": 0.1, "scheduler": None},
        epochs=30,
        objective=Objective(metric="val_accuracy", mode="max"),
    )


def sweeps(jobs: int) -> list[int]:
    """How many jobs each sweep has: a large one first."""
    large = int(jobs * LARGE_SHARE)
    return [large, *[(jobs - large) // SMALL_SWEEPS] * SMALL_SWEEPS]


def fill(database: Database, jobs: int, progress: Callable[[int, int], None]) -> list[int]:
    """Add open sweeps with so many jobs in all, most of them succeeded; their ids, the large one first."""
    draw, done, added = random.Random(0), 0, []
    for number, size in enumerate(sweeps(jobs)):
        with database.writing() as session:
            sweep = submission.add_sweep(session, spec(number), uuid.uuid4().hex, size)
        for start in range(0, size, CHUNK):
            rows = [job(sweep, number, cell, draw) for cell in range(start, min(size, start + CHUNK))]
            with database.writing() as session:
                session.execute(insert(Job), rows)
                counts.add(session, Counter((sweep, row["state"]) for row in rows))
            done += len(rows)
            progress(done, sum(sweeps(jobs)))
        with database.writing() as session:
            assert submission.open_sweep(session, sweep)
        added.append(sweep)
    tidy(database)
    return added


def job(sweep: int, number: int, cell: int, draw: random.Random) -> dict[str, Any]:
    """The columns of a job."""
    state, score = draw.choice(STATES), round(draw.random(), 3)  # many equal scores
    succeeded, over = state == JobState.SUCCEEDED, state != JobState.READY
    named = [f"{part}_{metric}" for part in ("train", "val", "test") for metric in ("loss", "accuracy", "f1")]
    return {
        "sweep_id": sweep,
        "cell": cell,
        "seed": 0,
        "params": {"lr": VALUES[cell // 1_000 % 1_000], "weight_decay": VALUES[cell % 1_000]},
        "task": TASKS[number % len(TASKS)],
        "metric": "val_accuracy",
        "state": state,
        "attempt": int(over),
        "failures": int(state == JobState.FAILED),
        "epoch": 30 * over,
        "reason": "diverged" if state == JobState.FAILED else None,
        "error": "train_loss is nan in epoch 3" if state == JobState.FAILED else None,
        "finished_at": NOON + timedelta(seconds=cell) if over else None,
        "score": score if succeeded else None,
        "rank_key": rank_key(score, "max") if succeeded else None,
        "metrics": dict.fromkeys(named, score) if succeeded else None,
        "best_epoch": 21 if succeeded else None,
        "epochs": 30 if succeeded else None,
        "seconds": 1.25 if succeeded else None,
    }


def tidy(database: Database) -> None:
    """What autovacuum does by itself after a while, here at once: it would disturb what is measured."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE" if database.dialect == "postgresql" else "ANALYZE"))
