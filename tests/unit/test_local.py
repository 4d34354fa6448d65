"""Whether somebody else works on a sweep, or we must."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import gridyard
from db import workers
from db.ringer import Ringer
from db.session import Database
from gridyard import Sweep, Yard, cli, local
from scheduler.service import Service


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = gridyard.connect(db=f"sqlite:///{tmp_path}/yard.db")
    yield yard
    yard.database.close()


def submitted(yard: Yard) -> Sweep:
    return yard.submit(task="iris", epochs=1)


def register(yard: Yard, host: str, pid: int) -> None:
    with yard.database.writing() as session:
        workers.register(session, f"{host}:{pid}", "cpu", 1, {"host": host, "pid": pid})


def pid_of_a_process_that_is_gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_worker_of_this_machine_that_died_hard_counts_no_more(yard: Yard) -> None:
    sweep = submitted(yard)
    register(yard, socket.gethostname(), pid_of_a_process_that_is_gone())
    assert sweep.status().workers == 1  # its last heartbeat is a moment ago
    assert local.count_workers(sweep) == 0
    assert local.is_needed(sweep)


@pytest.mark.parametrize("host", [socket.gethostname(), "another machine"])
def test_a_worker_that_may_be_there_counts(yard: Yard, host: str) -> None:
    sweep = submitted(yard)
    # Of another machine we know no process: ours that is gone says nothing of it.
    register(yard, host, os.getpid() if host == socket.gethostname() else pid_of_a_process_that_is_gone())
    assert local.count_workers(sweep) == 1
    assert not local.is_needed(sweep)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_to_stop_interrupts_and_the_second_hurries(number: int) -> None:
    hurried = []

    def hurry(at_once: bool) -> bool:
        hurried.append(at_once)
        return at_once

    before = signal.getsignal(number)
    with local._second_interrupt(hurry):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)
    assert hurried == [False, True]
    assert signal.getsignal(number) is before


def test_a_folder_of_logs_that_cannot_be_made_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRIDYARD_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "logs").write_text("a file")
    (tmp_path / "grid.yaml").write_text("{task: iris, epochs: 1}")
    monkeypatch.setattr(sys, "argv", ["gridyard", "run", str(tmp_path / "grid.yaml")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    told = capfd.readouterr().err
    assert f"{tmp_path}/home/logs: the log of the worker cannot be written there" in told
    assert "GRIDYARD_HOME" in told
    assert "Traceback" not in told


def test_a_scheduler_of_ours_that_has_stopped_lets_another_one_ring(empty_postgres_url: str) -> None:
    yard = gridyard.connect(db=empty_postgres_url, broker="redis://127.0.0.1:9/0")  # nobody is there; no bell is due
    with closing(yard.database):
        thread = local.SchedulerThread(yard.database, yard.settings)
        thread.start()
        thread.stop()
        thread.tend()
        with closing(Database(empty_postgres_url)) as other, closing(Ringer(other)) as ringer:
            assert ringer.may_ring()


def test_the_scheduler_of_a_run_answers_where_it_is_asked_to_unless_somebody_does_already(
    yard: Yard, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        thread = local.SchedulerThread(yard.database, yard.settings.model_copy(update={"monitor": str(port)}))
        service = Service(yard.database, yard.settings)
        with thread.serving(service):
            assert f"GRIDYARD_MONITOR = '{port}': " in capfd.readouterr().err
    with thread.serving(service):
        service.pulse.done(service.tick(), 0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b'gridyard_rounds_total{end="done"} 1.0' in answer.read()
    assert capfd.readouterr().err == ""
