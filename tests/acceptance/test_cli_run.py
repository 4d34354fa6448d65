"""`gridyard run` from a grid file to a leaderboard, undisturbed and disturbed: the same numbers, to the last digit."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

# Long enough to be disturbed in the middle, short enough to wait for.
GRID = "name: small\ntask: iris\ngrid: {lr: [0.003, 0.01], dropout: [0.0, 0.2]}\nseeds: 2\nepochs: 150\n"
DIVERGING = """
name: mixed
task: sine
cells: [{lr: 0.05, degree: 3}, {lr: 100.0, degree: 9, optimizer: sgd}]
epochs: 20
"""


class Folder:
    """A user's folder with an embedded database."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        (path / "grid.yaml").write_text(GRID)
        self.path = path
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GRIDYARD_")}
        self.environment |= {"GRIDYARD_CHECKPOINT_SECONDS": "0", "GRIDYARD_LEASE_SECONDS": "3"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gridyard", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.path, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def gridyard(self, *words: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: str) -> Any:
        return json.loads(self.gridyard(*words, "--json").stdout)

    def numbers(self) -> list[dict[str, Any]]:
        """What must not depend on disturbances: the whole leaderboard but for times and the order of equal scores."""
        rows = self.json("leaderboard", "1", "--top", "0")
        same = ("job", "params", "seed", "score", "metrics", "best_epoch", "epochs")
        return sorted(({name: row[name] for name in same} for row in rows), key=lambda row: int(row["job"]))

    def worker_pid(self) -> int:
        """Process id of the worker that wrote last in the log."""
        lines = (self.path / ".gridyard/logs/worker.log").read_text().splitlines()
        started = [line for line in lines if " INFO workers.main: worker " in line]
        return int(started[-1].split(" worker ")[1].split(":")[1])


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def some_jobs_are_done(folder: Folder) -> Callable[[], bool]:
    """True in the middle of the sweep: some jobs done, some not."""

    def look() -> bool:
        database = folder.path / ".gridyard/gridyard.db"
        if not (folder.path / ".gridyard/logs/worker.log").exists():  # before it, the tables may not be there
            return False
        with closing(sqlite3.connect(database)) as connection:
            (done,) = connection.execute("SELECT count(*) FROM jobs WHERE state = 'succeeded'").fetchone()
        assert done < 8, "the sweep ended before it could be disturbed"
        return bool(done)

    return look


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("run") / "undisturbed")
    answer = folder.gridyard("run", "grid.yaml", "--workers", "2")
    assert answer.returncode == 0, answer.stderr
    (folder.path / "stdout").write_text(answer.stdout)
    (folder.path / "stderr").write_text(answer.stderr)
    return folder


def test_a_run_ends_with_a_leaderboard_and_leaves_nothing_running(undisturbed: Folder) -> None:
    printed = (undisturbed.path / "stdout").read_text()
    assert "sweep 1: 8 jobs of iris" in printed
    assert "rank  job" in printed
    assert ".gridyard/gridyard.db" in printed
    assert "8/8 jobs, 0 running, 0 failed" in (undisturbed.path / "stderr").read_text()
    status = undisturbed.json("status", "1")
    assert (status["state"], status["jobs"]["succeeded"], status["workers"]) == ("finished", 8, 0)
    assert is_gone(undisturbed.worker_pid())


def test_the_best_model_of_a_run_loads_and_takes_raw_rows(undisturbed: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import gridyard

    monkeypatch.chdir(undisturbed.path)
    yard = gridyard.connect()
    best = yard.sweep(1).best()
    model = best.load()
    setosa, virginica = torch.tensor([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.8, 2.3]])
    assert not model.training
    assert model(torch.stack([setosa, virginica])).argmax(dim=1).tolist() == [0, 2]
    assert list(best.history()["epoch"])[:3] == [1, 2, 3]
    assert list(yard.sweep(1).leaderboard(3)["rank"]) == [1, 2, 3]
    yard.database.close()


def test_ctrl_c_leaves_a_sweep_that_resume_carries_on(undisturbed: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "ctrl_c")
    running = folder.start("run", "grid.yaml", "--workers", "2")
    wait_until(some_jobs_are_done(folder))
    worker = folder.worker_pid()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "gridyard resume 1" in errors
    assert "Traceback" not in errors
    assert is_gone(worker)
    carried_on = folder.gridyard("resume", "1", "--workers", "2")
    assert carried_on.returncode == 0, carried_on.stderr
    assert folder.numbers() == undisturbed.numbers()


def test_a_worker_killed_in_the_middle_is_started_again_and_changes_no_number(
    undisturbed: Folder, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "killed")
    running = folder.start("run", "grid.yaml", "--workers", "2")
    wait_until(some_jobs_are_done(folder))
    os.kill(folder.worker_pid(), signal.SIGKILL)
    _, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert "the worker died (SIGKILL); starting it again" in errors
    assert folder.numbers() == undisturbed.numbers()


def test_a_run_that_is_killed_takes_its_worker_with_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "orphan")
    running = folder.start("run", "grid.yaml", "--workers", "2")
    wait_until(some_jobs_are_done(folder))
    worker = folder.worker_pid()
    running.kill()
    running.communicate()
    wait_until(lambda: is_gone(worker), seconds=60)


def test_failed_jobs_are_named_and_end_a_run_with_1(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "failing")
    (folder.path / "mixed.yaml").write_text(DIVERGING)
    answer = folder.gridyard("run", "mixed.yaml", "--workers", "1")
    assert answer.returncode == 1
    assert "rank  job" in answer.stdout  # the others' leaderboard
    assert "job 2 failed: diverged: " in answer.stderr
    assert "1 of 2 jobs failed; `gridyard retry 1` tries them again" in answer.stderr
    assert "Traceback" not in answer.stderr
