"""An extension by epochs: what has trained trains on, and keeps its result until it has the next."""

from typing import Any

import pytest

from db import ending, leaderboard, leases, results, steering, upkeep
from db.session import Database
from jobs.spec import EpochReport, Failure
from jobs.states import FailureReason, JobState, SweepState
from scheduler import extend as extending
from scheduler.extend import extend
from tests.extensions import claim, finish, rows, stand, submitted


class TestEpochs:
    def succeeded(self, database: Database, **changes: Any) -> int:
        """A finished sweep whose jobs have trained all their epochs."""
        sweep = submitted(database, **changes)
        finish(database, claim(database, limit=100))
        while claims := claim(database, limit=100):
            finish(database, claims)
        with database.writing() as session:
            assert upkeep.close_finished(session) == 1
        return sweep

    def test_jobs_that_have_trained_all_theirs_train_on(self, database: Database) -> None:
        sweep = self.succeeded(database)
        given = extend(database, sweep, {"epochs": 20})
        assert (given.jobs, given.again) == (0, 8)
        assert stand(database, sweep).state == SweepState.OPEN
        (one,) = claim(database)
        assert (one.spec.epochs, one.attempt) == (20, 2)
        finish(database, [one])
        (job,) = [job for job in rows(database, sweep) if job.id == one.job]
        assert (job.state, job.epochs, job.until) == (JobState.SUCCEEDED, 20, 20)

    def test_jobs_that_are_not_done_train_as_many_at_once(self, database: Database) -> None:
        sweep = submitted(database)
        extend(database, sweep, {"epochs": 20})
        assert {one.spec.epochs for one in claim(database, limit=8)} == {20}
        assert stand(database, sweep).jobs["succeeded"] == 0

    def test_a_job_that_runs_meanwhile_trains_on_when_it_has_ended(self, database: Database) -> None:
        sweep = submitted(database)
        running = claim(database)
        assert extend(database, sweep, {"epochs": 20}).again == 0
        finish(database, running, score=0.7)
        (job,) = [job for job in rows(database, sweep) if job.id == running[0].job]
        assert (job.state, job.score, job.until) == (JobState.READY, 0.7, 10)
        finish(database, claim(database, limit=100))
        while claims := claim(database, limit=100):
            finish(database, claims)
        assert {job.epochs for job in rows(database, sweep)} == {20}

    @pytest.mark.parametrize(("schedule", "again"), [(None, 0), ({"name": "cosine"}, 1)])
    def test_one_that_stopped_early_would_stop_there_again_unless_its_rates_follow_the_epochs(
        self, database: Database, schedule: Any, again: int
    ) -> None:
        keys = {"grid": {"lr": [0.1]}, "seeds": 1, "fixed": {"scheduler": schedule}}
        sweep = submitted(database, **keys, early_stopping={"patience": 3})
        finish(database, claim(database), trained=6)
        assert extend(database, sweep, {"epochs": 20}).again == again
        (job,) = rows(database, sweep)
        assert job.state == (JobState.READY if again else JobState.SUCCEEDED)
        running = submitted(database, **keys, early_stopping={"patience": 3})
        with database.writing() as session:
            steering.pause_sweep(session, sweep)
        claims = claim(database)
        extend(database, running, {"epochs": 20})
        finish(database, claims, trained=6)
        (job,) = rows(database, running)
        assert job.state == (JobState.READY if again else JobState.SUCCEEDED)

    def test_results_stay_on_the_leaderboard_until_there_are_new_ones(self, database: Database) -> None:
        sweep = self.succeeded(database, seeds=1)
        with database.reading() as session:
            before = leaderboard.top(session, sweep=sweep)
        extend(database, sweep, {"epochs": 20})
        with database.reading() as session:
            during = leaderboard.top(session, sweep=sweep)
        assert [(row.job, row.score, row.rank) for row in during] == [(row.job, row.score, row.rank) for row in before]
        assert {row.state for row in during} == {"ready"}
        assert stand(database, sweep).best == 0.5
        (one,) = claim(database)
        finish(database, [one], score=0.9)
        with database.reading() as session:
            best = leaderboard.top(session, sweep=sweep)[0]
            assert results.best_model(session, one.job).sha256 == f"{one.job}/2"
        assert (best.job, best.score, best.epochs, best.state) == (one.job, 0.9, 20, "succeeded")

    @pytest.mark.parametrize("end", ["failed", "cancelled"])
    def test_no_result_is_lost_when_the_extension_fails(self, database: Database, end: str) -> None:
        sweep = self.succeeded(database, seeds=1, retries=0)
        extend(database, sweep, {"epochs": 20})
        (one,) = claim(database)
        with database.writing() as session:
            told = [EpochReport(job=one.job, epoch=1, metrics={"val_accuracy": 0.1}, seconds=0.1)]
            leases.record_epochs(session, [(one, told)])
            if end == "failed":
                failure = Failure(job=one.job, reason=FailureReason.DIVERGED, error="it broke")
                assert ending.let_go(session, [(one, failure)]) == {one.job: JobState.FAILED}
            else:
                steering.cancel_sweep(session, sweep)
                assert ending.let_go(session, [(one, None)]) == {one.job: JobState.CANCELLED}
        with database.reading() as session:
            ranked = {row.job: row for row in leaderboard.top(session, sweep=sweep)}
            details = results.job_details(session, one.job)
            assert results.best_model(session, one.job).sha256 == f"{one.job}/1"
            assert results.job_spec(session, one.job).epochs == 10  # what its result can be repeated with
        assert (ranked[one.job].score, ranked[one.job].state, ranked[one.job].epochs) == (0.5, end, 10)
        assert len(details.history) == 9
        again = steering.retry_sweep if end == "failed" else steering.resume_sweep
        with database.writing() as session:
            assert again(session, sweep)
        assert any(claimed.job == one.job for claimed in claim(database, limit=100))

    def test_in_many_steps_and_killed_between_them(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extending, "PROLONGED", 3)
        sweep = self.succeeded(database)
        steps = extending._Steps(database, sweep, None)
        prolong = extending._Steps._prolong
        monkeypatch.setattr(extending._Steps, "_prolong", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extend(database, sweep, {"epochs": 20})
        monkeypatch.setattr(extending._Steps, "_prolong", prolong)
        assert steps.step()
        assert stand(database, sweep).jobs["ready"] == 3
        assert extend(database, sweep, {"epochs": 20}).again == 5
        assert stand(database, sweep).jobs["ready"] == 8

    def test_a_second_extension_of_epochs_goes_on_from_the_first(self, database: Database) -> None:
        sweep = self.succeeded(database, seeds=1)
        extend(database, sweep, {"epochs": 20})
        while claims := claim(database, limit=100):
            finish(database, claims)
        assert extend(database, sweep, {"epochs": 20}).again == 0
        assert extend(database, sweep, {"epochs": 30, "seeds": 2}).again == 4
        assert {one.spec.epochs for one in claim(database, limit=100)} == {30}
