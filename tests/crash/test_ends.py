"""Every way in which a job may end, made to happen, and told apart."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db import claiming, ending, upkeep, workers
from jobs import cgroup
from jobs.retry import SUSPECT
from jobs.states import JobState
from tests.own_tasks import OwnFolder
from tests.yards import Yard

TASK = Path(__file__).parent / "misbehaving.py"
ALONE: dict[str, Any] = {"task": "misbehaving", "fixed": {}, "seeds": 1, "epochs": 2, "objective": None, "pack": "off"}
ENDS = {
    "well": None,
    "raises": "error",
    "diverges": "diverged",
    "torch": "out_of_memory",
    "python": "out_of_memory",
    "segfaults": "crashed",
    "is killed": "crashed",
}
WORDS = {
    "raises": "KeyError: 'what it had to say'\n\nTraceback",
    "diverges": "train_loss was not finite in epoch 1",
    "torch": "can't allocate memory",
    "python": "MemoryError",
    "segfaults": "(signal 11, SIGSEGV)",
    "is killed": "(signal 9, SIGKILL)",
}
BELOW = {  # the first line
    "raises": "in _raises",
    "segfaults": "in _segfaults",
}


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """A yard whose workers know the task."""
    folder = OwnFolder(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    folder("misbehaving", TASK.read_text())
    yard = Yard(tmp_path, f"sqlite:///{tmp_path}/gridyard.db", grace_seconds=2.0)
    yield yard
    yard.close()
    folder.forget()


def submit(yard: Yard, *ways: str, **changes: Any) -> int:
    return yard.submit(**{**ALONE, "grid": {"how": list(ways)}, "retries": 0, **changes})


def test_each_end_has_its_reason_and_its_words(yard: Yard) -> None:
    """One worker, one job after the other: no end spoils the next."""
    sweep = submit(yard, *ENDS)
    yard.start_worker()
    jobs = {job["params"]["how"]: job for job in yard.wait_for_end(sweep)}
    assert {how: job["reason"] for how, job in jobs.items()} == ENDS
    assert jobs["well"]["state"] == JobState.SUCCEEDED
    for how, words in WORDS.items():
        assert words in jobs[how]["error"], how
        assert BELOW.get(how, "") in jobs[how]["error"].partition("\n")[2]
        (attempt,) = yard.attempts(jobs[how]["id"])
        assert (attempt.outcome, attempt.error) == (jobs[how]["reason"], jobs[how]["error"])


def test_a_job_over_its_time_limit_ends_though_it_does_not_listen(yard: Yard) -> None:
    """An epoch takes longer than the grace: its trainer is killed, and the next job trains in another one."""
    sweep = submit(yard, "dawdles", time_limit=1.0, fixed={"batch_size": 1})
    others = submit(yard, "well")
    yard.start_worker()
    (slow,), (well,) = yard.wait_for_end(sweep), yard.wait_for_end(others)
    assert (slow["state"], slow["reason"]) == (JobState.FAILED, "timeout")
    assert "attempt 1 took longer than the time limit of 1 s" in slow["error"]
    assert well["state"] == JobState.SUCCEEDED


def test_only_the_reasons_that_the_sweep_names_are_tried_again(yard: Yard) -> None:
    sweep = submit(yard, "raises", "torch", "diverges", retries=1, retry_on=["out_of_memory"])
    yard.start_worker()
    attempts = {job["params"]["how"]: job["attempt"] for job in yard.wait_for_end(sweep)}
    assert attempts == {"raises": 1, "torch": 2, "diverges": 1}


def test_in_a_pack_what_finds_no_memory_fails_alone(yard: Yard) -> None:
    """And a job that kills the trainer of a pack takes no neighbour along, whatever `retries` says."""
    cells = [{"how": how, "lr": lr} for how in ("torch", "is killed") for lr in (0.001, 0.01, 0.1)]
    sweep = submit(yard, grid=None, cells=cells, pack=3)
    yard.start_worker()
    assert [job["reason"] for job in yard.wait_for_end(sweep)] == ["out_of_memory"] * 3 + ["crashed"] * 3


def test_a_job_that_kills_its_worker_is_set_aside_and_the_one_beside_it_finishes(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slots: whoever trains in the other one dies along, until it is a suspect; then nobody is there.

    The first worker that is lost with it is none of a process, which saves its start.
    """
    monkeypatch.setattr(ending, "delay_seconds", lambda failures: 0.0)
    poison = submit(yard, "kills", retries=9)
    with yard.database.writing() as session:
        (claimed,) = claiming.claim(session, "cpu", "first", lease_seconds=60.0)
        assert upkeep.rescue(session, "first") == 1
    others = yard.submit(epochs=1500, seeds=[1, 2], retries=0, pack="off")
    for lost in (1, 2):
        worker = yard.start_worker(slots=2)
        yard.wait_until("the bad one trains", lambda: is_running(yard.jobs(poison)[0]))
        if lost < SUSPECT:
            yard.wait_until("one is beside it", lambda: any(map(is_running, yard.jobs(others))))
        else:
            time.sleep(1.0)  # in which the other slot looks for jobs, and is to find none
        (yard.settings.home / "go").touch()
        worker.wait(timeout=60)
        (yard.settings.home / "go").unlink()
        rescue(yard, worker)
    yard.start_worker(slots=2)
    (bad,), beside = yard.wait_for_end(poison), yard.wait_for_end(others)
    assert bad["id"] == claimed.job
    assert (bad["state"], bad["reason"], bad["lost"]) == (JobState.FAILED, "lost", 3)
    message, _, *story = bad["error"].splitlines()
    assert message == "3 workers were lost with it, so it is set aside; `gridyard retry` tries it again"
    assert [line.partition(" (")[0] for line in story] == ["attempt 1", "attempt 2", "attempt 3"]
    assert [job["state"] for job in beside] == [JobState.SUCCEEDED] * 2
    assert sum(job["lost"] for job in beside) == 1


def is_running(job: dict[str, Any]) -> bool:
    return job["state"] == JobState.RUNNING


def rescue(yard: Yard, worker: subprocess.Popen[bytes]) -> None:
    """Take back what a dead worker held, as `gridyard run` does, which sees it die."""
    with yard.database.writing() as session:
        for name in workers.of_process(session, socket.gethostname(), worker.pid):
            upkeep.rescue(session, name)
            workers.stop(session, name)


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group that may have 2 GB of memory."""
    own = cgroup._groups(Path("/"))
    group = own[0] / f"gridyard-{os.getpid()}" if own else Path("/nowhere")
    try:
        group.mkdir()
        limit = group / ("memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes")
        limit.write_text(str(2 << 30))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    deadline = time.monotonic() + 20.0
    while True:
        try:
            group.rmdir()
            return
        except OSError:  # the kernel is not done with its last process
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_trainer_that_the_kernel_kills_for_want_of_memory_is_told_from_one_that_somebody_killed(
    yard: Yard, small_group: Path
) -> None:
    sweep = submit(yard, "eats", "is killed", "well")
    worker = yard.start_worker()
    (small_group / "cgroup.procs").write_text(str(worker.pid))  # before it starts a trainer
    jobs = yard.wait_for_end(sweep)
    assert [job["reason"] for job in jobs] == ["out_of_memory", "crashed", None]
    assert "the kernel ended it for want of memory" in jobs[0]["error"]
    yard.close()  # a group with processes cannot be removed
