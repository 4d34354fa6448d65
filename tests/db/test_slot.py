"""A slot and its pack, on both databases, with a trainer that says what the test wants it to say."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from db import claiming, ending, history, leases, steering, turns
from db.models import Attempt, Job
from db.session import Database
from jobs.errors import DatabaseAway, DatabaseError
from jobs.history import History
from jobs.settings import Settings
from jobs.spec import Answer, Assignment, BestModel, EpochReport, Failure, Outcome, Stopped, TrainResult
from jobs.states import FailureReason, JobState
from jobs.store import Store
from workers import pace, recorder, slot, wire, writing
from workers.claimer import Sizes
from workers.delivery import Delivery
from workers.holdings import Holdings
from workers.slot import Slot
from workers.supervisor import TrainerDied

Script = Callable[["Puppet"], list[wire.Message]]
Row = Callable[[int], dict[str, Any]]


class Puppet:
    """A trainer that is played by the script of a test."""

    def __init__(self, script: Script) -> None:
        self.alive, self.ready, self._script = True, True, script
        self.packs: list[list[int]] = []  # the jobs of each Train
        self.has: list[int] = []  # jobs without an outcome
        self.told: dict[int, Answer] = {}
        self.looks = 0

    def train(self, assignments: list[Assignment]) -> None:
        self.packs.append([assignment.spec.job for assignment in assignments])
        self.has += self.packs[-1]

    def answer(self, job: int, answer: Answer) -> None:
        self.told[job] = answer

    def receive(self, timeout: float) -> list[wire.Message]:
        self.looks += 1
        assert self.looks < 100_000, "the script does not end"
        messages = self._script(self)
        for message in messages:
            if isinstance(message, TrainResult | Stopped | Failure):
                self.has.remove(message.job)
        return messages

    def kill(self) -> None:
        self.alive = False

    def epochs(self, number: int = 1, room: int = 0) -> wire.Epochs:
        """An epoch of every job it has."""
        metrics = {"val_accuracy": 0.5}
        reports = [EpochReport(job=job, epoch=number, metrics=metrics, seconds=0.1) for job in self.has]
        return wire.Epochs(reports=reports, room=room)


class Stage:
    """A slot on a database, and the trainers it has started."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch, home: Path, **settings: Any) -> None:
        self.settings = Settings(**{"home": home, "look_seconds": 0.001, "grace_seconds": 0.05, **settings})
        self.holdings, self.sizes, self.puppets = Holdings(), Sizes(), list[Puppet]()
        self.scripts: list[Script] = []
        monkeypatch.setattr(slot, "LISTEN_SECONDS", 0.0)
        monkeypatch.setattr(slot, "Trainer", lambda *_: self._start())
        monkeypatch.setattr(pace, "SHARE", 0)
        monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.0)
        monkeypatch.setattr(recorder, "AGAIN_SECONDS", 0.0)
        self.slot = Slot("w1", "cpu", database, self.settings, self.holdings, self.sizes, None)

    def _start(self) -> Puppet:
        self.puppets.append(Puppet(self.scripts[min(len(self.puppets), len(self.scripts) - 1)]))
        return self.puppets[-1]

    def work(self, *scripts: Script) -> list[Puppet]:
        """Let the slot work until nothing is ready; each script plays one trainer, the last one all further ones."""
        self.scripts += scripts
        self.slot.work()
        assert self.holdings.attempts() == set()
        return self.puppets


@pytest.fixture
def stage(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return Stage(database, monkeypatch, tmp_path)


@pytest.fixture
def finishing(result: Callable[..., TrainResult]) -> Script:
    """Every job ends well, all at once."""
    return lambda puppet: [result(job) for job in puppet.has]


def after(count: int, then: Script, room: int = 0) -> Script:
    """So many epochs of the jobs it has by then, with room for more; then another script."""

    def script(puppet: Puppet) -> list[wire.Message]:
        return [puppet.epochs(puppet.looks, room - len(puppet.has))] if puppet.looks <= count else then(puppet)

    return script


class TestJoining:
    def test_jobs_join_as_the_trainer_has_room_and_never_more(
        self, stage: Stage, add_sweep: Callable[..., int], row: Row, finishing: Script
    ) -> None:
        add_sweep(cells=6)
        (trainer,) = stage.work(after(20, finishing, room=4))
        assert trainer.packs[:2] == [[1], [2, 3, 4]]
        assert [row(job)["state"] for job in range(1, 7)] == [JobState.SUCCEEDED] * 6

    def test_a_known_size_is_claimed_at_once_also_by_another_slot_of_the_worker(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script
    ) -> None:
        sweep = add_sweep(cells=5)
        stage.sizes.note((sweep, 0), 3)
        (trainer,) = stage.work(finishing)
        assert trainer.packs == [[1, 2, 3], [4, 5]]

    @pytest.mark.parametrize(("most", "together"), [(1, 1), (2, 2)])
    def test_no_more_train_together_than_the_sweep_allows(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script, most: int, together: int
    ) -> None:
        sweep = add_sweep(cells=4, pack=most)
        stage.sizes.note((sweep, 0), 8)
        (trainer,) = stage.work(after(20, finishing, room=8))
        held = max(len(pack) for pack in trainer.packs)
        assert held == together
        assert len(trainer.packs) == 4 / together

    def test_nothing_joins_while_a_better_sweep_waits(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script
    ) -> None:
        """Or a large sweep would keep a slot from all that is more urgent."""
        add_sweep(cells=3)

        def urgent(puppet: Puppet) -> list[wire.Message]:
            if puppet.looks == 1:
                add_sweep(priority=1)
            return [puppet.epochs(room=8)] if puppet.looks < 20 else finishing(puppet)

        (trainer,) = stage.work(urgent)
        assert trainer.packs[:2] == [[1], [4]]

    def test_a_paused_sweeps_pack_ends_and_nothing_joins_it(
        self, stage: Stage, database: Database, add_sweep: Callable[..., int], finishing: Script, row: Row
    ) -> None:
        sweep = add_sweep(cells=3)

        def pausing(puppet: Puppet) -> list[wire.Message]:
            if puppet.looks == 1:
                with database.writing() as session:
                    assert steering.pause_sweep(session, sweep)
            return [puppet.epochs(puppet.looks, room=8)] if puppet.looks < 20 else finishing(puppet)

        (trainer,) = stage.work(pausing)
        assert trainer.packs == [[1]]
        assert [row(job)["state"] for job in (1, 2, 3)] == [JobState.SUCCEEDED, JobState.READY, JobState.READY]

    def test_nothing_joins_when_the_worker_stops(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script, row: Row
    ) -> None:
        add_sweep(cells=3)

        def stopping(puppet: Puppet) -> list[wire.Message]:
            stage.holdings.draining.set()
            told: list[wire.Message] = [
                Stopped(job=job, answer=puppet.told[job], epoch=1) for job in puppet.has if job in puppet.told
            ]
            return told or [puppet.epochs(room=8)]

        (trainer,) = stage.work(stopping)
        assert (trainer.packs, trainer.told) == ([[1]], {1: Answer.GIVE_BACK})
        assert [(row(job)["state"], row(job)["failures"]) for job in (1, 2, 3)] == [(JobState.READY, 0)] * 3

    def test_where_nothing_is_left_the_table_is_not_asked_at_each_epoch(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, add_sweep: Callable[..., int],
        finishing: Script,
    ) -> None:  # fmt: skip
        stage = Stage(database, monkeypatch, tmp_path, look_seconds=3600.0)
        add_sweep()
        asked = []
        ask = turns.next_sweep
        monkeypatch.setattr(turns, "next_sweep", lambda *of: asked.append(of) or ask(*of))
        (trainer,) = stage.work(after(50, finishing, room=8))
        assert (trainer.packs, len(asked)) == ([[1]], 2)  # before the pack, and after it


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
    ) -> None:
        """One of them was told to stop before for another reason, one has just ended."""
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


def take_back(database: Database, job: int) -> None:
    """The job is ready again, though a worker holds it and does not know."""
    with database.writing() as session:
        session.execute(
            update(Job).where(Job.id == job).values(state=JobState.READY, worker=None, lease_expires_at=None)
        )


class TestReports:
    def test_the_epochs_of_all_jobs_are_stored_in_one_transaction_while_they_train(
        self, stage: Stage, database: Database, add_sweep: Callable[..., int], finishing: Script, row: Row,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        sweep = add_sweep(cells=3)
        stage.sizes.note((sweep, 0), 3)
        record, batches = leases.record_epochs, []
        monkeypatch.setattr(leases, "record_epochs", lambda *of: batches.append(len(of[1])) or record(*of))
        seen: list[Any] = []

        def script(puppet: Puppet) -> list[wire.Message]:
            if puppet.looks == 1:
                return [puppet.epochs()]
            with database.reading() as session:
                seen.append([len(history.epochs(session, job)) for job in (1, 2, 3)])
            return finishing(puppet)

        stage.work(script)
        assert (batches, seen) == ([3], [[1, 1, 1]])

    def test_while_the_database_is_away_no_more_than_so_many_epochs_are_kept_and_the_history_is_whole_at_the_end(
        self, stage: Stage, database: Database, add_sweep: Callable[..., int], row: Row,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        add_sweep()
        monkeypatch.setattr(recorder, "REPORTS_KEPT", 10)
        kept: list[int] = []

        def away(*_: object) -> None:
            raise DatabaseAway("away")

        flush = recorder.Recorder.flush

        def measuring(this: recorder.Recorder, running: Any) -> None:
            watches = list(running)
            flush(this, watches)
            kept.extend(len(watch.reports) for watch in watches)

        reports = [EpochReport(job=1, epoch=n, metrics={"val_accuracy": 0.5}, seconds=0.1) for n in range(1, 101)]
        whole = TrainResult(
            job=1, score=0.5, metrics={}, best_epoch=1, epochs=100, seconds=1.0, history=History.of(reports)
        )
        monkeypatch.setattr(recorder.Recorder, "flush", measuring)
        with monkeypatch.context() as patch:
            patch.setattr(recorder, "write_epochs", away)
            stage.work(after(100, lambda puppet: [whole]))
        assert max(kept) <= 11
        assert caplog.text.count("oldest epochs") == 1
        with database.reading() as session:
            assert [epoch["epoch"] for epoch in history.epochs(session, 1)] == list(range(1, 101))

    def test_bookkeeping_rests_twenty_times_as_long_as_it_took(
        self, stage: Stage, add_sweep: Callable[..., int], finishing: Script, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add_sweep()
        monkeypatch.setattr(pace, "SHARE", 20)
        record, taken = leases.record_epochs, []

        def slow(session: Any, reports: Any) -> set[int]:
            taken.append(time.monotonic())
            time.sleep(0.01)
            return record(session, reports)

        monkeypatch.setattr(leases, "record_epochs", slow)

        def script(puppet: Puppet) -> list[wire.Message]:
            time.sleep(0.001)  # an epoch
            return [puppet.epochs(puppet.looks)] if len(taken) < 3 else finishing(puppet)

        stage.work(script)
        assert min(later - earlier for earlier, later in pairwise(taken)) >= 0.01 * 20

    def test_a_lost_attempt_leaves_the_pack_and_writes_nothing(
        self, stage: Stage, database: Database, add_sweep: Callable[..., int], result: Callable[..., Outcome], row: Row
    ) -> None:
        sweep = add_sweep(cells=2)
        stage.sizes.note((sweep, 0), 2)

        def script(puppet: Puppet) -> list[wire.Message]:
            if puppet.looks == 1:
                give_to_another_worker(database, job=1)
                with database.writing() as session:
                    stage.holdings.tell(leases.renew(session, "w1", stage.holdings.attempts(), 20.0))
                return [puppet.epochs()]
            if 1 in puppet.told:
                return [Stopped(job=1, answer=puppet.told[1], epoch=2), result(2)]
            return [puppet.epochs(puppet.looks)]

        (trainer,) = stage.work(script)
        assert trainer.told == {1: Answer.CLAIM_LOST}
        assert (row(1)["state"], row(1)["worker"], row(1)["attempt"]) == (JobState.RUNNING, "w2", 2)
        assert row(2)["state"] == JobState.SUCCEEDED
        with database.reading() as session:
            assert len(history.epochs(session, 1)) == 0


def give_to_another_worker(database: Database, job: int) -> None:
    take_back(database, job)
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "w2", 20.0)
    assert (claim.job, claim.attempt) == (job, 2)
