"""A user's folder, and the commands typed in it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from db import status
from db.session import Database
from jobs.errors import DatabaseError, NotFound
from jobs.states import JobState

# Long enough to be disturbed in the middle, short enough to wait for.
GRID = "name: small\ntask: iris\ngrid: {lr: [0.003, 0.01], dropout: [0.0, 0.2]}\nseeds: 2\nepochs: 150\n"
ONE_BY_ONE = "pack: off\n"  # so that some jobs are done while others are not


class Folder:
    """A folder with a sweep file, `grid.yaml`, and a database, embedded if no other is given."""

    def __init__(self, path: Path, grid: str = GRID, **settings: str) -> None:
        path.mkdir()
        (path / "grid.yaml").write_text(grid)
        self.path = path
        self.db_url = settings.get("db", f"sqlite:///{path}/.gridyard/gridyard.db")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GRIDYARD_")}
        given = {"checkpoint_seconds": "0", "lease_seconds": "4", "heartbeat_seconds": "1", **settings}
        self.environment |= {f"GRIDYARD_{name.upper()}": value for name, value in given.items()}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command, begun."""
        command = [sys.executable, "-m", "gridyard", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.path, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def gridyard(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command, ended."""
        process = self.start(*words)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.gridyard(*words, "--json").stdout)

    def leaderboard(self) -> list[dict[str, Any]]:
        """The whole of it."""
        rows: list[dict[str, Any]] = self.json("leaderboard", "1", "--top", "0")
        return rows

    def numbers(self) -> list[dict[str, Any]]:
        return numbers_of(self.leaderboard())

    def worker_pid(self) -> int:
        """Process id of the worker that wrote last in the log."""
        lines = (self.path / ".gridyard/logs/worker.log").read_text().splitlines()
        started = [line for line in lines if " INFO workers.main: worker " in line]
        return int(started[-1].split(" worker ")[1].split(":")[1])

    def wait_for_the_middle(self) -> None:
        """Return when some jobs of the first sweep are done, and some are not."""
        with closing(Database(self.db_url)) as database:
            wait_until(lambda: _succeeded(database) > 0)
            with database.reading() as session:
                assert not status.sweep_status(session, 1).finished, "the sweep ended before it could be disturbed"


def numbers_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of a leaderboard must not depend on disturbances: all but times and the order of equal scores."""
    same = ("job", "params", "seed", "score", "metrics", "best_epoch", "epochs")
    return sorted(({name: row[name] for name in same} for row in rows), key=lambda row: int(row["job"]))


def _succeeded(database: Database) -> int:
    try:
        with database.reading() as session:
            return status.sweep_status(session, 1).jobs[JobState.SUCCEEDED]
    except (DatabaseError, NotFound):  # no tables, or no sweep, yet
        return 0


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Return when the condition holds; it must within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def is_gone(pid: int) -> bool:
    """Whether no process has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
