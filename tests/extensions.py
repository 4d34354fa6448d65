"""What tests of extensions share: a small grid, its jobs trained at once, and how it stands."""

from typing import Any

from sqlalchemy import select

from db import claiming, ending, status
from db.models import Job
from db.session import Database
from jobs.history import History
from jobs.spec import BestModel, Claim, EpochReport, TrainResult
from scheduler import sweep_file
from scheduler.submit import submit

GRID: dict[str, Any] = {"task": "iris", "grid": {"lr": [0.1, 0.2], "hidden": [[8], [16]]}, "seeds": 2, "epochs": 10}


def submitted(database: Database, **changes: Any) -> int:
    return submit(database, sweep_file.parse(GRID | changes)).sweep


def claim(database: Database, limit: int = 1) -> list[Claim]:
    with database.writing() as session:
        return claiming.claim(session, "cpu", "w", 60.0, limit=limit)


def finish(database: Database, claims: list[Claim], score: float = 0.5, trained: int | None = None) -> None:
    """Each has trained all its epochs, or so many."""
    with database.writing() as session:
        assert len(ending.finish(session, [(one, result(one, score, trained)) for one in claims])) == len(claims)


def result(claim: Claim, score: float, trained: int | None) -> TrainResult:
    epochs = trained or claim.spec.epochs
    told = [EpochReport(job=claim.job, epoch=n, metrics={"val_accuracy": score}, seconds=0.1) for n in range(1, epochs)]
    return TrainResult(
        job=claim.job,
        score=score,
        metrics={"val_accuracy": score},
        best_epoch=1,
        epochs=epochs,
        seconds=1.0,
        history=History.of(told),
        best=BestModel(sha256=f"{claim.job}/{claim.attempt}", size=1, content=b"x"),
    )


def rows(database: Database, sweep: int) -> list[Job]:
    with database.reading() as session:
        return list(session.scalars(select(Job).where(Job.sweep_id == sweep).order_by(Job.cell, Job.seed)))


def cells(database: Database, sweep: int) -> list[tuple[int, int, Any, Any]]:
    return [(job.cell, job.seed, job.params.get("lr"), job.params.get("hidden")) for job in rows(database, sweep)]


def stand(database: Database, sweep: int) -> status.SweepStatus:
    with database.reading() as session:
        return status.sweep_status(session, sweep)
