"""What is known of a job, on both databases."""

import math
from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from db import claiming, ending, leaderboard, results, submission
from db.session import Database
from jobs.errors import NotFound
from jobs.history import History
from jobs.spec import BestModel, Claim, EpochReport, Failure, Objective, SweepSpec, TrainResult
from jobs.states import FailureReason

SPEC = SweepSpec(
    name="one",
    task="iris",
    fixed={"lr": 0.01, "dropout": 0.5},
    epochs=5,
    objective=Objective(metric="val_accuracy", mode="max"),
)
CONTENT = b"safetensors"
BEST = BestModel(sha256="ab12", size=len(CONTENT), content=CONTENT)


def add_job(session: Session) -> int:
    sweep = submission.add_sweep(session, SPEC, "hash", 1)
    submission.add_jobs(session, sweep, [(0, 7, {"dropout": 0.1})])
    assert submission.open_sweep(session, sweep)
    return sweep


def claimed(session: Session) -> Claim:
    (claim,) = claiming.claim(session, "cpu", "w", 20)
    return claim


def report(claim: Claim, epoch: int, loss: float) -> EpochReport:
    return EpochReport(job=claim.job, epoch=epoch, metrics={"val_loss": loss}, seconds=0.5)


def finish(session: Session, claim: Claim, best: BestModel | None) -> None:
    result = TrainResult(
        job=claim.job,
        score=0.9,
        metrics={"val_accuracy": 0.9, "test_loss": math.inf},
        best_epoch=2,
        epochs=2,
        seconds=1.0,
        history=History.of([report(claim, 1, 0.5), report(claim, 2, math.nan)]),
        environment={"device": "cpu"},
        best=best,
        resumed_from=1,
    )
    assert ending.finish(session, [(claim, result)])


def test_the_details_of_a_job_tell_its_whole_story(database: Database) -> None:
    with database.writing() as session:
        sweep = add_job(session)
        lost = claimed(session)
        killed = Failure(job=lost.job, reason=FailureReason.CRASHED, error="killed")
        ending.let_go(session, [(lost, killed)])
        finish(session, claimed(session), BEST)
    with database.reading() as session:
        details = results.job_details(session, lost.job)
    assert (details.sweep, details.task, details.seed, details.state) == (sweep, "iris", 7, "succeeded")
    assert details.params == {"lr": 0.01, "dropout": 0.1}
    assert (details.score, details.best_epoch, details.epochs, details.seconds) == (0.9, 2, 2, 1.0)
    assert details.metrics == {"val_accuracy": 0.9, "test_loss": None}
    assert [(one.attempt, one.outcome, one.error, one.resumed_from) for one in details.attempts] == [
        (1, "crashed", "killed", None),
        (2, "succeeded", None, 1),
    ]
    assert details.history == [
        {"epoch": 1, "seconds": 0.5, "val_loss": 0.5},
        {"epoch": 2, "seconds": 0.5, "val_loss": None},
    ]
    assert details.environment == {"device": "cpu"}
    assert details.artifacts == [results.Artifact(name="best", sha256="ab12", size=len(CONTENT), place="database")]


def test_parameters_are_in_the_order_of_their_names_whatever_the_database(database: Database) -> None:
    fixed = {"weight_decay": 0.0, "lr": 0.1, "scheduler": {"name": "step", "gamma": 0.5}}
    with database.writing() as session:
        sweep = submission.add_sweep(session, replace(SPEC, fixed=fixed), "hash", 1)
        submission.add_jobs(session, sweep, [(0, 7, {"dropout": 0.1, "batch_size": 16})])
        assert submission.open_sweep(session, sweep)
        claim = claimed(session)
        finish(session, claim, BEST)
    with database.reading() as session:
        (ranked,), (cell,) = leaderboard.top(session), leaderboard.by_cell(session)
        for params in (results.job_details(session, claim.job).params, ranked.params, cell.params):
            assert list(params) == ["batch_size", "dropout", "lr", "scheduler", "weight_decay"]
            assert list(params["scheduler"]) == ["gamma", "name"]


def test_a_job_that_has_not_started_has_no_story_yet(database: Database) -> None:
    with database.writing() as session:
        add_job(session)
        job = claimed(session)
        ending.let_go(session, [(job, None)])
    with database.reading() as session:
        details = results.job_details(session, job.job)
    assert (details.state, details.score, details.metrics, details.history, details.artifacts) == (
        "ready",
        None,
        {},
        [],
        [],
    )


def test_a_model_comes_from_the_database_or_names_its_place_in_the_store(database: Database) -> None:
    stored = BestModel(sha256="cd34", size=5_000_000, path="2/1/best.safetensors")
    with database.writing() as session:
        for best in (BEST, stored):
            add_job(session)
            finish(session, claimed(session), best)
    with database.reading() as session:
        assert [results.best_model(session, job) for job in (1, 2)] == [BEST, stored]
        assert results.job_details(session, 2).artifacts[0].place == "2/1/best.safetensors"


def test_what_is_not_there_is_named(database: Database) -> None:
    with database.writing() as session:
        add_job(session)
    with database.reading() as session:
        with pytest.raises(NotFound, match="there is no job 12"):
            results.job_details(session, 12)
        with pytest.raises(NotFound, match="there is no job 12"):
            results.best_model(session, 12)
        with pytest.raises(NotFound, match="job 1 has no model: it is ready"):
            results.best_model(session, 1)


def test_a_recorded_job_is_trained_again_from_what_its_claim_had(database: Database) -> None:
    with database.writing() as session:
        add_job(session)
        spec = claimed(session).spec
    with database.reading() as session:
        assert results.job_spec(session, spec.job) == spec
        with pytest.raises(NotFound, match="there is no job 99"):
            results.job_spec(session, 99)
