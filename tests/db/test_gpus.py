"""A slot on a GPU that is gone or full: its jobs are given back without having failed, and it takes no more.

There is no GPU here: what nvidia-smi would say is played.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db import ending
from db import workers as register
from db.session import Database
from jobs.errors import DatabaseAway
from jobs.spec import Failure, TrainResult
from jobs.states import FailureReason, JobState
from tests.stages import Puppet, Script, Stage
from workers import devices, slots
from workers.gpu import Gpu
from workers.heartbeat import Heartbeat
from workers.slot import Slot
from workers.supervisor import TrainerDied
from workers.wire import Message

Row = Callable[[int], dict[str, Any]]
CUDA = "AcceleratorError: CUDA error: unspecified launch failure"


class Tool:
    """Says what is wrong with a GPU, once a job has been tried there."""

    def __init__(self) -> None:
        self.says: str | None = None
        self.asked = 0

    def trouble(self, gpu: str, memory: bool = True) -> str | None:
        self.asked += 1
        return self.says


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    tool = Tool()
    monkeypatch.setattr(devices, "trouble", tool.trouble)
    return tool


@pytest.fixture
def stage(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    stage = Stage(database, monkeypatch, tmp_path)
    stage.slot.gpu = Gpu("GPU-1")
    return stage


def failing(tool: Tool, reason: FailureReason, error: str, then: str | None) -> Script:
    """Every job fails; what the tool says from then on."""

    def script(puppet: Puppet) -> list[Message]:
        tool.says = then
        return [Failure(job=job, reason=reason, error=error) for job in list(puppet.has)]

    return script


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (FailureReason.ERROR, CUDA),
        (FailureReason.OUT_OF_MEMORY, "torch.OutOfMemoryError: CUDA out of memory."),
        (FailureReason.CRASHED, "the trainer process died (signal 11)"),
    ],
)
def test_what_fails_on_a_gpu_that_is_gone_or_full_is_given_back_and_has_not_failed(
    stage: Stage, tool: Tool, add_sweep: Callable[..., int], row: Row, reason: FailureReason, error: str
) -> None:
    add_sweep(cells=3)
    (trainer,) = stage.work(failing(tool, reason, error, then="it is full"))
    assert trainer.packs == [[1]]
    assert (row(1)["state"], row(1)["failures"], row(1)["attempt"]) == (JobState.READY, 0, 1)
    assert [row(job)["state"] for job in (2, 3)] == [JobState.READY] * 2
    assert stage.slot.fault == "GPU GPU-1: it is full"


def test_a_slot_out_of_service_claims_nothing_more(stage: Stage, tool: Tool, add_sweep: Callable[..., int]) -> None:
    """So a job comes to it once at most, however often the slot is rung."""
    add_sweep()
    stage.work(failing(tool, FailureReason.ERROR, CUDA, then="it is gone"))
    stage.work()
    assert [trainer.packs for trainer in stage.puppets] == [[[1]]]


def test_a_gpu_that_is_full_before_the_first_job_gets_none(
    stage: Stage, tool: Tool, add_sweep: Callable[..., int], row: Row
) -> None:
    add_sweep()
    tool.says = "it is full"
    assert stage.work(lambda _: []) == []
    assert row(1)["attempt"] == 0


def test_a_job_that_breaks_a_gpu_that_is_well_has_failed_and_the_next_gets_a_new_trainer(
    stage: Stage, tool: Tool, add_sweep: Callable[..., int], row: Row, result: Callable[..., TrainResult]
) -> None:
    """After an error of CUDA every further call of that process fails, too."""
    add_sweep(cells=2, retries=0)
    first, second = stage.work(
        failing(tool, FailureReason.ERROR, CUDA, then=None), lambda puppet: [result(job) for job in puppet.has]
    )
    assert (first.alive, first.packs, second.packs) == (False, [[1]], [[2]])
    assert (row(1)["state"], row(1)["reason"]) == (JobState.FAILED, FailureReason.ERROR)
    assert row(2)["state"] == JobState.SUCCEEDED


def test_an_error_of_cuda_costs_those_that_trained_beside_it_no_retry(
    stage: Stage, tool: Tool, add_sweep: Callable[..., int], row: Row, result: Callable[..., TrainResult]
) -> None:
    sweep = add_sweep(cells=2, retries=0)
    stage.sizes.note((sweep, 0), 2)

    def first_fails(puppet: Puppet) -> list[Message]:
        return [Failure(job=1, reason=FailureReason.ERROR, error=CUDA)]

    stage.work(first_fails, lambda puppet: [result(job) for job in puppet.has])
    assert row(1)["state"] == JobState.FAILED
    assert (row(2)["state"], row(2)["failures"], row(2)["attempt"]) == (JobState.SUCCEEDED, 0, 2)


def test_a_plain_error_asks_nobody_about_the_gpu(
    stage: Stage, tool: Tool, add_sweep: Callable[..., int], row: Row
) -> None:
    add_sweep(cells=2, retries=0)
    (trainer,) = stage.work(failing(tool, FailureReason.ERROR, "ValueError: no", then="it is gone"))
    assert trainer.packs == [[1], [2]]
    assert tool.asked == 1  # before its trainer started
    assert row(2)["state"] == JobState.FAILED


def test_a_failure_that_waits_for_the_database_asks_about_the_gpu_once(
    stage: Stage, tool: Tool, add_sweep: Callable[..., int], row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_sweep(retries=0)
    let_go, away = ending.let_go, [DatabaseAway("away")] * 5

    def coming_back(*given: Any) -> dict[int, JobState]:
        if away:
            raise away.pop()
        return let_go(*given)

    monkeypatch.setattr(ending, "let_go", coming_back)
    stage.work(failing(tool, FailureReason.ERROR, CUDA, then=None))
    assert (row(1)["state"], away) == (JobState.FAILED, [])
    assert tool.asked == 3  # before its trainer started, about the failure, and before the next trainer starts


@pytest.mark.parametrize("shared", [False, True])
def test_a_gpu_that_is_full_of_the_jobs_of_the_slot_beside_is_well(
    shared: bool, stage: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "ask", lambda *_: (0, "79000, 80000"))
    own = Slot("w1", "gpu", database, stage.settings, stage.holdings, stage.sizes, "GPU-1", shared=shared)
    assert own.gpu is not None
    assert (own.gpu.trouble() is None) == shared


class TestSlots:
    def crew(self, stage: Stage) -> tuple[slots.Slots, list[str]]:
        stopped: list[str] = []
        return slots.Slots([stage.slot], stop=lambda: stopped.append("stopped")), stopped

    def test_the_last_slot_that_goes_out_of_service_stops_the_worker_and_says_why(
        self, stage: Stage, tool: Tool, add_sweep: Callable[..., int]
    ) -> None:
        add_sweep()
        crew, stopped = self.crew(stage)
        tool.says = "it is full"
        crew.work()
        assert (crew.in_service(), crew.idle(), crew.busy()) == (0, 0, 0)
        assert crew.out_of_service() == {"0": "GPU GPU-1: it is full"}
        assert stopped == ["stopped"]
        assert crew.broken == "GPU GPU-1: it is full"

    def test_a_gpu_on_which_no_trainer_starts_is_out_of_service(
        self, stage: Stage, tool: Tool, add_sweep: Callable[..., int], row: Row
    ) -> None:
        add_sweep()
        crew, _ = self.crew(stage)

        def dead(_: Puppet) -> list[Message]:
            raise TrainerDied("the trainer process died (exit code 1)")

        stage.scripts.append(dead)
        stage.slot.warm_up().ready = False
        crew.work()
        assert crew.out_of_service() == {"0": "GPU GPU-1: the trainer process died (exit code 1)"}
        assert row(1)["attempt"] == 0

    def test_the_register_knows_what_is_out_of_service_and_how_attempts_ended(
        self, stage: Stage, tool: Tool, add_sweep: Callable[..., int], database: Database
    ) -> None:
        add_sweep()
        crew, _ = self.crew(stage)
        with database.writing() as session:
            register.register(session, "w1", "gpu", 1, {"host": "h", "pid": 1})
        stage.scripts.append(failing(tool, FailureReason.ERROR, CUDA, then="it is gone"))
        crew.work()
        Heartbeat("w1", database, stage.settings, stage.holdings, crew, {"host": "h", "pid": 1})._beat(set())
        with database.reading() as session:
            (out,) = register.out_of_service(session)
            (worker,) = register.alive(session, "gpu")
            slots_there = register.count_slots(session, "gpu")
        assert (out.worker, out.why) == ("w1", "GPU GPU-1: it is gone")
        assert (worker.host, worker.pid, slots_there) == ("h", 1, 0)
        assert stage.holdings.outcomes.counted() == {"given back": 1}


def test_status_says_what_is_out_of_service_or_goes_wrong_beside_its_table(
    database: Database, database_url: str
) -> None:
    with database.writing() as session:
        register.register(session, "w1", "gpu", 1, {})
        out = {"out_of_service": {"0": "GPU GPU-1: it is full"}, "troubles": {"ends": "2 ends wait: no such table"}}
        register.heartbeat(session, "w1", slots=0, busy=0, info=out)
    command = [sys.executable, "-P", "-m", "gridyard", "status", "--db", database_url]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("no sweeps yet")
    assert "a slot of worker w1 is out of service: GPU GPU-1: it is full" in said.stderr
    assert "worker w1: 2 ends wait: no such table" in said.stderr
