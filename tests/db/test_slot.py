"""A slot and its pack, on both databases: who joins it, and what is recorded while it trains."""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from db import history, leases, steering, turns
from db.session import Database
from jobs.errors import DatabaseAway
from jobs.history import History
from jobs.spec import Answer, EpochReport, Outcome, Stopped, TrainResult
from jobs.states import JobState
from tests.stages import Puppet, Row, Script, Stage, after, give_to_another_worker
from workers import pace, recorder, wire


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
