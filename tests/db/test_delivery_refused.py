"""Files that are no end of a job of this database: set aside or left, and they block no other."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobs.spec import TrainResult
from jobs.states import JobState
from tests.machines import Machine
from workers.delivery import KEPT_SECONDS, Delivery
from workers.holdings import Holdings
from workers.watch import Watch

AddSweep = Callable[..., int]
Row = Callable[[int], dict[str, Any]]
Result = Callable[..., TrainResult]


class TestStrangers:
    def test_a_broken_file_is_set_aside_and_blocks_no_other(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result, caplog: pytest.LogCaptureFixture
    ) -> None:
        add_sweep(2)
        first, second = machine.claim(), machine.claim()
        broken = machine.spool.put(Watch(first, outcome=result(first.job)))
        broken.write_bytes(broken.read_bytes()[:-9])
        machine.spool.put(Watch(second, outcome=result(second.job)))
        machine.delivery.round()
        assert [row(job.job)["state"] for job in (first, second)] == [JobState.RUNNING, JobState.SUCCEEDED]
        assert [path.name for path in machine.spool.folder.iterdir()] == [broken.name + ".broken"]
        assert "its checksum does not fit" in caplog.text

    def test_an_end_that_the_database_cannot_take_is_set_aside(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        odd = result(claimed.job)
        without_epochs = replace(odd.history, names=["a", *odd.history.names[1:]])
        path = machine.spool.put(Watch(claimed, outcome=replace(odd, history=without_epochs)))
        machine.delivery.round()
        assert row(claimed.job)["state"] == JobState.RUNNING
        assert [one.name for one in machine.spool.folder.iterdir()] == [path.name + ".broken"]

    @pytest.mark.parametrize("changes", [{"task": "digits"}, {"seed": 5}, {"params": {}}, {"sweep": 7}])
    def test_a_result_of_another_training_is_set_aside(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result, changes: dict[str, Any]
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        other = replace(claimed, spec=replace(claimed.spec, **changes))
        machine.spool.put(Watch(other, outcome=result(claimed.job)))
        machine.delivery.round()
        assert (row(claimed.job)["state"], machine.spool.waiting()) == (JobState.RUNNING, [])

    def test_another_workers_claim_does_not_pass_the_fence(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        machine.spool.put(Watch(replace(claimed, worker="somebody"), outcome=result(claimed.job)))
        machine.delivery.round()
        assert row(claimed.job)["state"] == JobState.RUNNING

    def test_an_end_of_another_database_waits_for_that_for_a_week(
        self, machine: Machine, add_sweep: AddSweep, row: Row, result: Result, caplog: pytest.LogCaptureFixture
    ) -> None:
        add_sweep()
        claimed = machine.claim()
        strange = replace(claimed, spec=replace(claimed.spec, sweep_uid="f" * 32))
        path = machine.spool.put(Watch(strange, outcome=result(claimed.job)))
        assert [machine.delivery.round() for _ in range(2)] == [0, 0]
        assert (row(claimed.job)["state"], path.exists()) == (JobState.RUNNING, True)
        old = time.time() - KEPT_SECONDS - 1
        os.utime(path, (old, old))
        assert Delivery(machine.database, machine.settings, Holdings()).round() == 1
        assert not path.exists()
        assert "is of a sweep that is not there" in caplog.text

    def test_a_spool_that_cannot_be_read_is_told_once_and_ends_no_thread(
        self, machine: Machine, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.spool.folder.write_text("a file")
        machine.delivery.start()
        machine.delivery._try_round()
        machine.delivery.stop()
        assert caplog.text.count("cannot be read") == 1
