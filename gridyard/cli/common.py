"""What several commands share: their options, the yard, and JSON on stdout."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.plain import dumped, printable

if TYPE_CHECKING:
    from gridyard.client import Yard
    from gridyard.job import Job
    from gridyard.sweep import Sweep

Db = Annotated[str | None, typer.Option("--db", help="Database URL; default: GRIDYARD_DB, else the embedded one.")]
Broker = Annotated[str | None, typer.Option("--broker", help="Broker URL; default: GRIDYARD_BROKER, else none.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the file, such as epochs=20.")
]
Once = Annotated[bool, typer.Option("--once", help="Use the sweep of an equal file, if there is one.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Jobs at a time; default: one per GPU, else per core.")
]
BEST = "best:"  # before a sweep's id, in place of a job's
OneJob = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, or best:SWEEP.", show_default=False)]
SweepId = Annotated[int, typer.Argument(metavar="SWEEP", help="Id of a sweep.")]


def connect(db: str | None = None, broker: str | None = None) -> "Yard":
    from gridyard import client

    return client.connect(db=db, broker=broker)


def existing(db: str | None = None, broker: str | None = None) -> "Yard":
    """The yard of a command that makes none.

    Raises:
        InputError: its database is not there, or has no tables.
    """
    from db import migrate
    from db.session import missing_file
    from gridyard.client import Yard
    from jobs import settings

    missing = missing_file(settings.load(**({} if db is None else {"db": db})).db_url)
    if missing is not None:
        raise migrate.no_yard(missing)
    given = {"db": db, "broker": broker}
    return Yard({name: value for name, value in given.items() if value is not None}, make=False)


def job_of(text: str, db: str | None) -> "Job":
    """The job of this id, or the best one of a sweep.

    Raises:
        InputError: it is neither.
        NotFound: there is no such job or sweep, or it has no best job yet.
    """
    from jobs.errors import InputError

    number = text.removeprefix(BEST)
    if not number.isascii() or not number.isdigit():
        raise InputError(f"{text!r} is no job: give its id, such as 7, or best:SWEEP for the best of a sweep")
    yard = existing(db)
    return yard.sweep(int(number)).best() if text.startswith(BEST) else yard.job(int(number))


def print_json(value: Any) -> None:
    """Dataclasses as objects, times as ISO 8601 in UTC, numbers that are not finite as null."""
    typer.echo(dumped(plain(value), allow_nan=False))


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_submitted(sweep: "Sweep", as_json: bool) -> None:
    found = sweep.status()
    if as_json:
        print_json({"sweep": sweep.id, "jobs": found.total, "new": sweep.new})
    else:
        again = "" if sweep.new else ", submitted before"
        typer.echo(printable(f"sweep {sweep.id}: {counted(found.total, 'job')} of {found.task}{again}"))


def counted(number: int, noun: str) -> str:
    """1 job, 2 jobs."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def with_db(command: str, db: str | None) -> str:
    """The command as the user must type it to reach the same database; passwords are left for him to fill in."""
    import shlex

    from jobs.urls import masked

    return command if db is None else f"{command} --db {shlex.quote(masked(db))}"
