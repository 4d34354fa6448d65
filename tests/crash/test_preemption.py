"""A worker that is told to stop in the middle of a long epoch: not a batch is lost, and it is gone in time.

What time alone would bring, the test brings: that a trainer has had its part of the grace time. So the same thing
happens on a machine of any speed.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db import gauges, steering
from jobs.states import JobState
from tests.own_tasks import OwnFolder
from tests.yards import Yard

# A task whose training waits for the test, and so do its checkpoints: a slow batch, and a slow store.
SLOW = '''
import os
import sys
import time
from pathlib import Path

import numpy as np
from torch import nn
from gridyard.task import OwnTask, TrainingParams

HELD = 40  # the batch in which it waits: in the first epoch, of 72; those that are tried before are counted too
fsync, count, slowly = os.fsync, 0, 0.0

def wait(what):
    """Say so, until the test lets us go on."""
    Path(what).touch()
    while Path(f"hold_{what}").exists():
        time.sleep(0.01)

def slow_fsync(file):
    if Path("hold_writing").exists():
        wait("writing")
    fsync(file)

if Path(sys.argv[0]).name == "trainer.py":
    os.fsync = slow_fsync

class Waiting(nn.Module):
    def forward(self, x):
        global count, slowly
        count += self.training
        if self.training and count == HELD and Path("hold_training").exists():
            wait("training")
            slowly = 0.01  # or the epoch might be over before the trainer has read what it was told meanwhile
        time.sleep(slowly)
        return x

class Slow(OwnTask):
    """A network that waits."""

    name = "slow"
    kind = "classification"

    class Params(TrainingParams):
        pass

    def data(self, params, seed):
        labels = np.arange(960) % 3
        return np.random.default_rng(0).normal(labels[:, None], 0.9, (960, 4)), labels

    def model(self, params, signature):
        return nn.Sequential(Waiting(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
'''
SWEEP: dict[str, Any] = {
    "task": "slow",
    "grid": {"lr": [0.01]},
    "fixed": {"batch_size": 8, "scheduler": {"name": "one_cycle"}},
    "epochs": 3,
    "seeds": [1],
    "retries": 1,
    "objective": {"metric": "val_loss", "mode": "min"},
}
HOOK = Path(__file__).parent / "hook"
LONG = 120.0  # seconds of grace, of which no test waits for the end


@contextmanager
def slow_yard(home: Path) -> Iterator[Yard]:
    """Its clock writes no checkpoint; what there is was written because the worker stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(sys, "path", list(sys.path))
        folder = OwnFolder(home, patch)
        folder("slow_task", SLOW, named="slow_task:Slow")
        yard = Yard(home, f"sqlite:///{home}/gridyard.db", checkpoint_seconds=600.0, grace_seconds=LONG)
        yield yard
        for file in home.glob("hold_*"):
            file.unlink()
        yard.close()
        folder.forget()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    with slow_yard(tmp_path_factory.mktemp("undisturbed")) as yard:
        sweep = yard.submit(**SWEEP)
        yard.start_worker()
        yard.wait_for_end(sweep)
        return yard.outcome(sweep)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def yard(undisturbed: list[Any], home: Path) -> Iterator[Yard]:
    with slow_yard(home) as yard:
        yield yard


def held(yard: Yard, home: Path, grace: float | None = None) -> tuple[int, subprocess.Popen[bytes]]:
    """A sweep whose job waits in the middle of its first epoch, and the worker that trains it.

    Args:
        grace: seconds that the worker has for stopping, by the clock; without them the test says when they are over for
            its trainer.
    """
    (home / "hold_training").touch()
    sweep = yard.submit(**SWEEP)
    if grace is None:
        worker = yard.start_worker(environment={"PATIENCE_OVER": str(home / "over"), "PYTHONPATH": str(HOOK)})
    else:
        worker = yard.start_worker(grace_seconds=grace)
    yard.wait_until("a batch waits", (home / "training").exists)
    return sweep, worker


def tell(yard: Yard, worker: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """Tell the worker to stop; its trainer has been told, too."""
    worker.send_signal(number)
    yard.wait_until("the trainer is told", lambda: "is told to stop" in yard.log.read_text())


def code_of(worker: subprocess.Popen[bytes]) -> int:
    """Its exit code: 0 when all was recorded, 1 when its grace time was over."""
    return worker.wait(timeout=LONG / 2)


def ended(yard: Yard, home: Path, sweep: int) -> list[Any]:
    """What the sweep comes to with another worker, whom nothing holds."""
    for file in home.glob("hold_*"):
        file.unlink()
    yard.start_worker()
    yard.wait_for_end(sweep)
    assert [job["state"] for job in yard.jobs(sweep)] == [JobState.SUCCEEDED]
    return yard.outcome(sweep)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_goes_on_at_the_batch_in_whose_epoch_its_worker_was_told_to_stop(
    yard: Yard, home: Path, undisturbed: list[Any], number: signal.Signals
) -> None:
    sweep, worker = held(yard, home)
    tell(yard, worker, number)
    (home / "hold_training").unlink()
    assert code_of(worker) == 0
    (job,) = yard.jobs(sweep)
    assert (job["state"], job["failures"], job["epoch"]) == (JobState.READY, 0, 0)
    with yard.database.reading() as session:
        assert list(gauges.look(session).tallies.values()) == [{"preempted": 1}]  # it told at its last breath
    assert ended(yard, home, sweep) == undisturbed
    assert "goes on in epoch 1 after batch " in yard.log.read_text()
    first, second = yard.attempts(job["id"])
    assert (first.outcome, second.outcome) == ("preempted", "succeeded")


def test_a_batch_that_takes_longer_than_the_grace_time_is_not_waited_for(
    yard: Yard, home: Path, undisturbed: list[Any]
) -> None:
    sweep, worker = held(yard, home)
    tell(yard, worker)
    (home / "over").touch()
    assert code_of(worker) == 0
    assert "did not stop one of them in time" in yard.log.read_text()
    assert ended(yard, home, sweep) == undisturbed
    (job,) = yard.jobs(sweep)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["preempted", "succeeded"]
    assert job["failures"] == 0


@pytest.mark.parametrize(("death", "outcome"), [("the grace time is over", "preempted"), ("SIGKILL", "crashed")])
def test_a_checkpoint_that_is_not_written_in_time_is_not_there_and_the_one_before_counts(
    yard: Yard, home: Path, undisturbed: list[Any], death: str, outcome: str
) -> None:
    """The trainer is killed while it writes: by its worker, or by somebody else."""
    sweep, worker = held(yard, home)
    (home / "hold_writing").touch()
    trainer = yard.trainer_of(worker)
    tell(yard, worker)
    (home / "hold_training").unlink()
    yard.wait_until("it writes", (home / "writing").exists)
    if death == "SIGKILL":
        os.killpg(trainer.pid, signal.SIGKILL)
    else:
        (home / "over").touch()
    assert code_of(worker) == 0
    (left,) = [file.name for file in (home / "store").rglob("*") if file.is_file()]
    assert left.startswith(".tmp-")
    assert ended(yard, home, sweep) == undisturbed
    (job,) = yard.jobs(sweep)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == [outcome, "succeeded"]


def test_a_worker_whose_database_does_not_answer_goes_in_time_all_the_same(yard: Yard, home: Path) -> None:
    """Nothing is recorded; the job is rescued, and goes on from the checkpoint that was written."""
    sweep, worker = held(yard, home, grace=5.0)
    with yard.database.writing() as session:
        session.execute(text("SELECT 1"))  # the lock of the only writer
        tell(yard, worker)
        (home / "hold_training").unlink()
        assert code_of(worker) == 1
    assert yard.jobs(sweep)[0]["state"] == JobState.RUNNING
    assert list((home / "store").rglob("last.safetensors"))


def test_a_cancelled_job_stops_in_the_middle_of_its_epoch_and_its_trainer_lives_on(yard: Yard, home: Path) -> None:
    sweep, worker = held(yard, home)
    trainer = yard.trainer_of(worker)
    with yard.database.writing() as session:
        assert steering.cancel_sweep(session, sweep) == 1
    yard.wait_until("the trainer has heard it", lambda: "is told to stop: cancelled" in yard.log.read_text())
    (home / "hold_training").unlink()
    (job,) = yard.wait_for_end(sweep)
    assert (job["state"], job["epoch"]) == (JobState.CANCELLED, 0)
    assert trainer.is_running()
    assert not list((home / "store").rglob("last.safetensors"))


def test_a_second_signal_ends_the_worker_at_once(yard: Yard, home: Path) -> None:
    _, worker = held(yard, home)
    trainer = yard.trainer_of(worker)
    tell(yard, worker)
    yard.wait_until("it is gone", lambda: worker.poll() is not None or worker.terminate())  # close signals count as one
    assert worker.returncode == 128 + signal.SIGTERM
    yard.wait_until("its trainer is gone", lambda: not trainer.is_running())
