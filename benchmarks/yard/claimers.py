"""Processes that claim at once, and the ready jobs that they claim."""

import subprocess
import sys
import time
from functools import partial

import gridyard
from benchmarks.yard import databases, filling
from db.session import Database


def submit(database: Database, jobs: int, kind: str) -> None:
    """A sweep of so many ready jobs: a multiple of 1,000."""
    yard = gridyard.connect(db=_url(database))
    values = filling.VALUES
    with databases.bar(f"{kind}: {jobs:,} ready jobs") as progress:
        yard.submit(task="iris", grid={"lr": values[: jobs // 1_000], "weight_decay": values}, progress=progress)
    yard.database.close()
    filling.tidy(database)


def told(database: Database, code: str, count: int, *arguments: str) -> tuple[float, list[str]]:
    """Have so many processes work at once, each with one connection, as a worker's slot has.

    Args:
        code: says "ready" on stdout, works from the first line of stdin on, and prints what it found. Its arguments are
            the database's URL, its name, and `arguments`.

    Returns:
        When they were let go, by the monotonic clock, and what each has printed.
    """
    command = [sys.executable, "-c", code, _url(database)]
    start = partial(subprocess.Popen[str], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started = [start([*command, f"w{number}", *arguments]) for number in range(count)]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    return began, [process.communicate()[0] for process in started]


def _url(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)
