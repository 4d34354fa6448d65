"""How jobs end in a slot, on both databases: by themselves, by their trainer's death, with their worker, and late."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from db import ending, leases, status, steering, workers
from db.models import Attempt
from db.session import Database
from db.upkeep import rescue
from jobs.errors import DatabaseAway, DatabaseError
from jobs.spec import Answer, BestModel, EpochReport, Failure, Stopped, TrainResult
from jobs.states import FailureReason, JobState
from jobs.store import Store
from tests.stages import Puppet, Row, Script, Stage, after, give_to_another_worker, take_back
from workers import recorder, slot, wire, writing
from workers.delivery import Delivery
from workers.heartbeat import Heartbeat
from workers.holdings import Holdings
from workers.slot import Slot
from workers.slots import Slots
from workers.supervisor import TrainerDied


class TestEnds:
    def test_a_trainer_that_dies_takes_its_jobs_along_and_they_go_on_alone(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script, row: Row
    ) -> None:
        def dying(puppet: Puppet) -> list[wire.Message]:
            if puppet.looks == 1:
                return [puppet.epochs(room=3)]
            if len(puppet.has) < 3:
                return []
            raise TrainerDied("signal 11")

        add_sweep(cells=3)
        _, second = stage.work(dying, after(3, finishing, room=8))
        assert second.packs[0] == [1]
        assert sorted(second.packs) == [[1], [2], [3]]
        assert [(row(job)["state"], row(job)["failures"]) for job in (1, 2, 3)] == [(JobState.SUCCEEDED, 1)] * 3

    def test_a_job_over_its_time_is_told_to_stop_and_its_neighbours_go_on(
        self, stage: Stage, add_sweep: Callable[..., int], result: Callable[..., TrainResult], row: Row
    ) -> None:
        sweep = add_sweep(cells=2, time_limit=0.2)
        stage.sizes.note((sweep, 0), 2)

        def script(puppet: Puppet) -> list[wire.Message]:
            if 2 in puppet.has:
                return [result(2)]
            return [Stopped(job=1, answer=puppet.told[1], epoch=7)] if 1 in puppet.told else []

        (trainer,) = stage.work(script)
        assert trainer.alive
        assert (row(1)["state"], row(1)["reason"]) == (JobState.FAILED, FailureReason.TIMEOUT)
        assert "took longer than the time limit of 0.2 s" in row(1)["error"]
        assert row(2)["state"] == JobState.SUCCEEDED

    def test_a_trainer_that_does_not_stop_is_killed_and_the_neighbours_have_not_failed(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script, row: Row
    ) -> None:
        sweep = add_sweep(cells=3)
        stage.sizes.note((sweep, 0), 3)

        def deaf(puppet: Puppet) -> list[wire.Message]:
            stage.holdings.tell({(2, 1): Answer.CLAIM_LOST})  # as if it belonged to another attempt by now
            return []

        first, second = stage.work(deaf, finishing)
        assert (first.alive, second.packs) == (False, [[1, 3]])
        assert [(row(job)["state"], row(job)["failures"]) for job in (1, 3)] == [(JobState.SUCCEEDED, 0)] * 2
        assert (row(2)["state"], row(2)["attempt"]) == (JobState.RUNNING, 1)  # nothing was written

    @pytest.mark.parametrize("move", ["cancel", "pause"])
    def test_a_cancelled_job_waits_for_no_grace_time_and_one_that_is_given_back_does(
        self,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        add_sweep: Callable[..., int],
        row: Row,
        move: str,
    ) -> None:
        """A trainer that hears nothing: it may be in a batch that takes long, or in data that load."""
        monkeypatch.setattr(slot, "CANCEL_SECONDS", 0.1)
        stage = Stage(database, monkeypatch, tmp_path, grace_seconds=1.0)
        sweep = add_sweep()
        wishes: dict[str, Callable[..., object]] = {
            "cancel": steering.cancel_sweep,
            "pause": partial(steering.pause_sweep, halt=True),
        }
        began = list[float]()

        def deaf(puppet: Puppet) -> list[wire.Message]:
            if puppet.looks == 1:
                with database.writing() as session:
                    assert wishes[move](session, sweep)
                    stage.holdings.tell(leases.renew(session, "w1", stage.holdings.attempts(), 60.0))
                began.append(time.monotonic())
            time.sleep(0.01)  # as a supervisor listens
            return []

        stage.work(deaf)
        assert (time.monotonic() - began[0] >= stage.settings.trainer_grace_seconds) == (move == "pause")
        assert row(1)["state"] == (JobState.CANCELLED if move == "cancel" else JobState.READY)
        assert row(1)["failures"] == 0

    def test_the_slots_of_a_worker_tell_which_of_them_holds_a_job(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, add_sweep: Callable[..., int],
        row: Row, finishing: Script,
    ) -> None:  # fmt: skip
        add_sweep(cells=2)
        seen: list[tuple[int, int | None]] = []
        for number in (0, 1):
            stage = Stage(database, monkeypatch, tmp_path)
            stage.slot = Slot("w1", "cpu", database, stage.settings, stage.holdings, stage.sizes, None, None, number)

            def one(puppet: Puppet, number: int = number) -> list[wire.Message]:
                seen.append((number, row(puppet.has[0])["slot"]))
                return finishing(puppet)

            stage.scripts = [one]
            stage.slot._train(stage.slot._claimer.claim())
        assert seen == [(0, 0), (1, 1)]

    def test_a_worker_that_stops_gives_its_jobs_back_as_preempted_and_none_has_failed(
        self,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        add_sweep: Callable[..., int],
        result: Callable[..., TrainResult],
        row: Row,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """One of them was told to stop before for another reason, one has just ended."""
        caplog.set_level("INFO")
        stage = Stage(database, monkeypatch, tmp_path, grace_seconds=60.0)
        sweep = add_sweep(cells=3)
        stage.sizes.note((sweep, 0), 3)

        def script(puppet: Puppet) -> list[wire.Message]:
            if puppet.looks == 1:
                stage.holdings.tell({(2, 1): Answer.GIVE_BACK})
            elif 2 in puppet.told:
                stage.holdings.drain()
            if len(puppet.told) < 3:
                return []
            return [result(3), *(Stopped(job=job, answer=puppet.told[job], epoch=1, batch=4) for job in (1, 2))]

        stage.work(script)
        assert outcomes(database, 1, 2, 3) == ["preempted", "given back", "succeeded"]
        assert [(row(job)["state"], row(job)["failures"]) for job in (1, 2)] == [(JobState.READY, 0)] * 2
        assert "job 1 is told to stop: it is given back" in caplog.text
        ways = ("was preempted", "stopped", "succeeded")
        assert all(f"job {job}: attempt 1 {way}; until" in caplog.text for job, way in enumerate(ways, 1))

    def test_a_trainer_that_has_not_stopped_late_in_the_grace_time_is_killed_and_its_jobs_are_given_back(
        self,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        add_sweep: Callable[..., int],
        row: Row,
    ) -> None:
        """The grace time begins with the signal, not when the slot hears of it."""
        stage = Stage(database, monkeypatch, tmp_path, grace_seconds=3600.0)
        add_sweep()

        def deaf(puppet: Puppet) -> list[wire.Message]:
            stage.holdings.drain()
            stage.holdings.drained_at = time.monotonic() - stage.settings.trainer_grace_seconds
            return []

        (trainer,) = stage.work(deaf)
        assert not trainer.alive
        assert (outcomes(database, 1), row(1)["state"], row(1)["failures"]) == (["preempted"], JobState.READY, 0)

    def test_ends_that_come_together_are_one_transaction(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sweep = add_sweep(cells=4)
        stage.sizes.note((sweep, 0), 4)
        finish, batches = ending.finish, []
        monkeypatch.setattr(ending, "finish", lambda *of: batches.append(len(of[1])) or finish(*of))
        stage.work(finishing)
        assert batches == [4]

    def test_one_end_that_the_database_refuses_fails_no_other(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script, row: Row, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sweep = add_sweep(cells=5, retries=0)
        stage.sizes.note((sweep, 0), 5)
        finish = ending.finish

        def picky(session: Any, ended: Any) -> set[int]:
            if any(claim.job == 3 for claim, _ in ended):
                raise DatabaseError("no threes")
            return finish(session, ended)

        monkeypatch.setattr(ending, "finish", picky)
        stage.work(finishing)
        states = {job: row(job)["state"] for job in range(1, 6)}
        assert states == dict.fromkeys((1, 2, 4, 5), JobState.SUCCEEDED) | {3: JobState.FAILED}
        assert (row(3)["reason"], row(3)["error"]) == (FailureReason.ERROR, "its end was refused: no threes")

    def test_ends_wait_for_a_database_that_is_away_while_others_train_on(
        self, stage: Stage, add_sweep: Callable[..., int], result: Callable[..., TrainResult], row: Row,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        sweep = add_sweep(cells=2)
        stage.sizes.note((sweep, 0), 2)
        finish, away = ending.finish, [DatabaseAway("away")] * 3

        def coming_back(session: Any, ended: Any) -> set[int]:
            if away:
                raise away.pop()
            return finish(session, ended)

        def script(puppet: Puppet) -> list[wire.Message]:
            return [result(1)] if puppet.looks == 1 else [] if away else [result(2)] if 2 in puppet.has else []

        monkeypatch.setattr(ending, "finish", coming_back)
        (trainer,) = stage.work(script)
        assert trainer.looks > 3
        assert [row(job)["state"] for job in (1, 2)] == [JobState.SUCCEEDED] * 2
        assert list(stage.settings.spool_folder.iterdir()) == []  # it waited on disk, too

    def test_a_failure_is_a_warning_with_the_first_line_of_its_reason(
        self, stage: Stage, add_sweep: Callable[..., int], caplog: pytest.LogCaptureFixture
    ) -> None:
        add_sweep(retries=0)
        error = "\nno such file: a.csv\nTraceback: …"
        stage.work(lambda puppet: [Failure(job=job, reason=FailureReason.ERROR, error=error) for job in puppet.has])
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert told == ["job 1: attempt 1 failed (error); the job is now failed: no such file: a.csv"]

    def test_ends_that_the_database_does_not_take_are_told_with_the_reason_until_it_does(
        self, stage: Stage, database: Database, add_sweep: Callable[..., int], finishing: Script, row: Row,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """As on SQLite without the table: it calls that by the same name as a file that is locked."""
        caplog.set_level("INFO")
        sweep = add_sweep()
        with database.writing() as session:
            workers.register(session, "w1", "cpu", 1, {})
        heartbeat = Heartbeat("w1", database, stage.settings, stage.holdings, Slots([], stop=lambda: None), {})
        finish, refusals, seen = ending.finish, 3, list[list[str]]()

        def coming_back(session: Any, ended: Any) -> set[int]:
            nonlocal refusals
            refusals -= 1
            if refusals >= 0:
                raise DatabaseAway("no such table: histories")
            return finish(session, ended)

        def looking(seconds: float) -> None:
            heartbeat._beat(set())
            with database.reading() as session:
                seen.append([str(one) for one in status.sweep_status(session, sweep).troubles])

        monkeypatch.setattr(ending, "finish", coming_back)
        monkeypatch.setattr(time, "sleep", looking)
        stage.work(finishing)
        assert row(1)["state"] == JobState.SUCCEEDED
        assert seen[-1] == ["worker w1: 1 end waits: no such table: histories"]
        told = [record.getMessage() for record in caplog.records if record.name == "workers.troubles"]
        assert told[0].endswith("1 end waits: no such table: histories")
        assert (len(told), told[-1].startswith("it takes ends again")) == (2, True), "said once, and when it is over"
        looking(0.0)
        assert seen[-1] == []

    @pytest.mark.parametrize("why", ["it is told to stop", "the database is away for too long"])
    def test_an_end_outlives_its_worker_on_disk(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, add_sweep: Callable[..., int],
        finishing: Script, row: Row, why: str,
    ) -> None:  # fmt: skip
        stage = Stage(database, monkeypatch, tmp_path, offline_seconds=600.0 if why == "it is told to stop" else 0.0)
        add_sweep()

        def away(*_: object) -> None:
            stage.holdings.draining.set()
            raise DatabaseAway("away")

        with monkeypatch.context() as patch:
            patch.setattr(recorder, "together", away)
            stage.work(finishing)
        assert row(1)["state"] == JobState.RUNNING
        next_worker = Holdings()
        assert Delivery(database, stage.settings, next_worker).round() == 1
        assert row(1)["state"] == JobState.SUCCEEDED
        assert [one.outcomes.counted() for one in (stage.holdings, next_worker)] == [{}, {"succeeded": 1}]

    @pytest.mark.parametrize("away", [False, True])
    def test_an_end_that_waited_on_disk_until_its_job_was_anothers_is_told_and_counted_once(
        self, stage: Stage, database: Database, add_sweep: Callable[..., int], finishing: Script, row: Row,
        monkeypatch: pytest.MonkeyPatch, away: bool,
    ) -> None:  # fmt: skip
        """The worker is cut off, the job rescued and claimed again, the network back; or away again just then."""
        add_sweep()
        together, tries = writing.together, list[int]()

        def cut_off(*given: Any) -> Any:
            tries.append(1)
            if len(tries) > 1:
                return together(*given)
            with database.writing() as session:
                assert rescue(session, "w1") == 1
            give_to_another_worker(database, job=1)
            raise DatabaseAway("away")

        def unheard(*_: object) -> bool:
            raise DatabaseAway("away again")

        with monkeypatch.context() as patch:
            patch.setattr(recorder, "together", cut_off)
            if away:
                patch.setattr(leases, "came_late", unheard)
            stage.work(finishing)
        Delivery(database, stage.settings, stage.holdings).round()
        assert list(stage.settings.spool_folder.iterdir()) == []
        assert stage.holdings.outcomes.counted() == {"claim lost": 1}
        with database.reading() as session:
            attempt = session.get_one(Attempt, (1, 1))
        assert (attempt.outcome, attempt.error) == ("lost", "worker w1 died, and its end came too late to count")
        assert (row(1)["state"], row(1)["worker"]) == (JobState.RUNNING, "w2")

    def test_where_even_the_disk_is_full_an_end_waits_in_memory_and_says_so(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script, row: Row,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        add_sweep()
        stage.settings.spool_folder.write_text("no folder")
        together, away = writing.together, [DatabaseAway("away")] * 3

        def coming_back(*given: Any) -> Any:
            if away:
                raise away.pop()
            return together(*given)

        monkeypatch.setattr(recorder, "together", coming_back)
        stage.work(finishing)
        assert row(1)["state"] == JobState.SUCCEEDED
        assert caplog.text.count("its end waits in memory only") == 1

    @pytest.mark.parametrize("why", ["the database is silent", "the worker stops"])
    def test_an_end_is_on_disk_before_a_try_that_may_take_longer_than_the_worker_lives(
        self, stage: Stage, add_sweep: Callable[..., int], result: Callable[..., TrainResult],
        monkeypatch: pytest.MonkeyPatch, why: str,
    ) -> None:  # fmt: skip
        """The database hangs, or may do so since just now, and a SIGKILL may be near."""
        add_sweep()

        def finishing(puppet: Puppet) -> list[wire.Message]:
            if why == "the worker stops":
                stage.holdings.drain()
            else:
                monkeypatch.setattr(stage.holdings, "silence", lambda: 100.0)
            return [result(job) for job in puppet.has]

        together, seen = writing.together, []

        def looking(*given: Any) -> Any:
            seen.append(len(list(stage.settings.spool_folder.iterdir())))
            return together(*given)

        monkeypatch.setattr(recorder, "together", looking)
        stage.work(finishing)
        assert (seen, list(stage.settings.spool_folder.iterdir())) == ([1], [])

    def test_a_result_that_another_attempt_has_made_worthless_frees_its_model(
        self, stage: Stage, database: Database, add_sweep: Callable[..., int], result: Callable[..., TrainResult],
        row: Row,
    ) -> None:  # fmt: skip
        add_sweep()
        store = Store(stage.settings.store_url)

        def script(puppet: Puppet) -> list[wire.Message]:
            give_to_another_worker(database, job=1)
            store.write("1/1/best.safetensors", b"large")
            best = BestModel(sha256="ab", size=5, path="1/1/best.safetensors")
            return [replace(result(1), best=best)]

        stage.work(script)
        assert (row(1)["state"], row(1)["worker"]) == (JobState.RUNNING, "w2")
        assert not store.exists("1/1/best.safetensors")

    def test_a_trainer_that_speaks_of_a_job_it_does_not_have_is_ended(
        self, stage: Stage, add_sweep: Callable[..., int]
    ) -> None:
        add_sweep()
        report = EpochReport(job=7, epoch=1, metrics={"val_accuracy": 0.5}, seconds=0.1)
        stage.scripts = [lambda puppet: [wire.Epochs(reports=[report], room=0)]]
        with pytest.raises(RuntimeError, match=r"speaks of job 7; it was given \[1\]"):
            stage.slot.work()
        assert not stage.puppets[0].alive

    def test_a_job_that_comes_back_while_its_lost_attempt_still_trains_waits_for_that_to_stop(
        self, stage: Stage, database: Database, add_sweep: Callable[..., int], row: Row, finishing: Script
    ) -> None:
        """The worker froze, a user took the job back and made it ready again, and our own slot claims it."""
        sweep = add_sweep(cells=2)
        stage.sizes.note((sweep, 0), 2)

        def script(puppet: Puppet) -> list[wire.Message]:
            if puppet.looks == 1:
                take_back(database, job=1)
                return [puppet.epochs(room=1)]
            if puppet.told.get(1) is Answer.CLAIM_LOST and len(puppet.packs) == 1:
                return [Stopped(job=1, answer=Answer.CLAIM_LOST, epoch=1), *([finishing(puppet)[1]])]
            return finishing(puppet) if len(puppet.packs) > 1 else [puppet.epochs(room=1)]

        (trainer,) = stage.work(script)
        assert row(1)["state"] == JobState.SUCCEEDED
        assert row(1)["attempt"] > 2
        assert trainer.packs[1:] == [[1]]


def outcomes(database: Database, *jobs: int) -> list[str | None]:
    """How the first attempt of each ended."""
    with database.reading() as session:
        return [session.get_one(Attempt, (job, 1)).outcome for job in jobs]
