"""Commands that change what a sweep does: pause, cancel, retry and delete (resume is in `work`)."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gridyard.cli.common import Broker, Db, SweepId, counted, existing, with_db
from jobs.errors import InputError

app = typer.Typer()


@app.command()
def pause(sweep: SweepId, db: Db = None, broker: Broker = None) -> None:
    """Start no more jobs of a sweep; running ones finish."""
    found = existing(db, broker).sweep(sweep)
    if not found.pause():
        raise InputError(f"sweep {sweep} is {found.status().state}; only an open sweep can be paused")
    typer.echo(f"sweep {sweep} is paused; {with_db(f'gridyard resume {sweep}', db)} carries it on")


@app.command()
def cancel(sweep: SweepId, db: Db = None, broker: Broker = None) -> None:
    """Stop a sweep.

    What has not started is cancelled, what runs is told to stop.
    """
    changed = existing(db, broker).sweep(sweep).cancel()
    hint = f"; {with_db(f'gridyard resume {sweep}', db)} carries it on" if changed else ""
    typer.echo(f"sweep {sweep}: {counted(changed, 'job')} cancelled{hint}")


@app.command()
def retry(sweep: SweepId, db: Db = None, broker: Broker = None) -> None:
    """Try the failed jobs of a sweep again."""
    from gridyard import local

    found = existing(db, broker).sweep(sweep)
    changed = found.retry()
    status = found.status()
    if not changed and status.jobs["failed"]:
        resume = with_db(f"gridyard resume {sweep} --no-wait", db)
        raise InputError(f"sweep {sweep} is {status.state}: its failed jobs cannot be tried again before {resume}")
    typer.echo(f"sweep {sweep}: {counted(changed, 'failed job')} {'is' if changed == 1 else 'are'} ready again")
    if changed and not local.count_workers(found):
        typer.echo(f"no worker is there; start one, or: {with_db(f'gridyard resume {sweep}', db)}", err=True)


@app.command()
def delete(
    sweep: SweepId,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", metavar="FILE.jsonl.gz", help="Write all that is known of it there first."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    db: Db = None,
) -> None:
    """Delete a sweep that has ended: its jobs, their results, models and files."""
    found = existing(db).sweep(sweep)
    status = found.status()
    if not yes:
        _ask(f"delete sweep {sweep}, {status.name}: {counted(status.total, 'job')} with their results and models?")
    found.delete(archive)
    where = f", archived in {archive}" if archive else ""
    typer.echo(f"sweep {sweep}: {counted(status.total, 'job')} deleted{where}")


def _ask(question: str) -> None:
    if not _can_ask():
        raise InputError(f"{question} Say --yes; nobody can be asked here")
    typer.confirm(question, abort=True, err=True)


def _can_ask() -> bool:
    return sys.stdin.isatty()
