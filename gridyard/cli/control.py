"""Commands that change what a sweep does: pause, cancel, retry, extend, priority, limit, delete.

Resume is in `work`.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gridyard.cli.common import Broker, Db, Json, SweepId, counted, existing, print_json, with_db
from jobs.errors import InputError

app = typer.Typer()


@app.command()
def pause(
    sweep: SweepId,
    now: Annotated[
        bool, typer.Option("--now", help="Running jobs stop at their checkpoint, too, and are given back.")
    ] = False,
    as_json: Json = False,
    db: Db = None,
    broker: Broker = None,
) -> None:
    """Start no more jobs of a sweep; running ones finish."""
    found = existing(db, broker).sweep(sweep)
    if not found.pause(now=now):
        allowed = "an open or paused" if now else "an open"
        raise InputError(f"sweep {sweep} is {found.status().state}; only {allowed} sweep can be paused")
    status = found.status()
    if as_json:
        print_json(status)
        return
    running = f"; {counted(status.jobs['running'], 'running job')} {'stop' if now else 'finish'}"
    still = running if status.jobs["running"] else ""
    typer.echo(f"sweep {sweep} is paused{still}; {with_db(f'gridyard resume {sweep}', db)} carries it on")


@app.command()
def cancel(sweep: SweepId, as_json: Json = False, db: Db = None, broker: Broker = None) -> None:
    """Stop a sweep.

    What has not started is cancelled, what runs is told to stop.
    """
    changed = existing(db, broker).sweep(sweep).cancel()
    if as_json:
        print_json({"sweep": sweep, "jobs": changed})
        return
    hint = f"; {with_db(f'gridyard resume {sweep}', db)} carries it on" if changed else ""
    typer.echo(f"sweep {sweep}: {counted(changed, 'job')} cancelled{hint}")


@app.command()
def retry(
    sweep: SweepId,
    reason: Annotated[
        list[str] | None, typer.Option("--reason", help="Only those that failed so, such as timeout; may be repeated.")
    ] = None,
    job: Annotated[list[int] | None, typer.Option("--job", help="Only the one of this id; may be repeated.")] = None,
    as_json: Json = False,
    db: Db = None,
    broker: Broker = None,
) -> None:
    """Try the failed jobs of a sweep again."""
    from gridyard import local

    found = existing(db, broker).sweep(sweep)
    changed = found.retry(reasons=reason or (), jobs=job or ())
    status = found.status()
    if not changed and status.jobs["failed"] and status.state not in ("open", "finished"):
        resume = with_db(f"gridyard resume {sweep} --no-wait", db)
        raise InputError(f"sweep {sweep} is {status.state}: its failed jobs cannot be tried again before {resume}")
    if as_json:
        print_json({"sweep": sweep, "jobs": changed})
        return
    others = status.jobs["failed"] if reason else 0
    left = f", {counted(others, 'other')} {'has' if others == 1 else 'have'} failed otherwise" if others else ""
    typer.echo(f"sweep {sweep}: {counted(changed, 'failed job')} {'is' if changed == 1 else 'are'} ready again{left}")
    if changed and not local.count_workers(found):
        typer.echo(f"no worker is there; start one, or: {with_db(f'gridyard resume {sweep}', db)}", err=True)


@app.command()
def extend(
    sweep: SweepId,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="PARAM=VALUES", help="More values of a parameter, such as lr=0.3,0.1."),
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option("--cell", metavar="CELL", help="A cell more of a sweep that lists them, such as '{lr: 0.3}'."),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="As in a sweep file: 5 for 0 to 4, or a list: 7,11.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="The most a job trains; finished ones go on.")] = None,
    as_json: Json = False,
    db: Db = None,
    broker: Broker = None,
) -> None:
    """Add values, cells, seeds or epochs to a sweep.

    It may run meanwhile. What it has already is left out, so that repeating this changes nothing.
    """
    from gridyard import bars, local
    from gridyard.cli import values

    found = existing(db, broker).sweep(sweep)
    keys = values.extension(grid or [], cell or [], seeds, epochs)
    if not any(value is not None for value in keys.values()):
        raise InputError("nothing to add: give --grid, --cell, --seeds or --epochs")
    with bars.progress(f"extending sweep {sweep}, job") as progress:
        extended = found.extend(**keys, progress=progress)
    if as_json:
        print_json({name: getattr(extended, name) for name in ("sweep", "cells", "jobs", "again")})
        return
    typer.echo(f"sweep {sweep}: {values.extended(extended)}")
    if (extended.jobs or extended.again) and not local.count_workers(found):
        typer.echo(f"no worker is there; start one, or: {with_db(f'gridyard resume {sweep}', db)}", err=True)


@app.command(context_settings={"ignore_unknown_options": True})  # or -3 would be one
def priority(
    sweep: SweepId,
    number: Annotated[int, typer.Argument(metavar="N", help="Higher is claimed first.", show_default=False)],
    as_json: Json = False,
    db: Db = None,
) -> None:
    """Let a sweep's jobs be claimed before those of a lower priority, or after those of a higher one."""
    found = existing(db).sweep(sweep)
    found.priority = number
    if as_json:
        print_json(found.status())
    else:
        typer.echo(f"sweep {sweep} has priority {number}")


@app.command()
def limit(
    sweep: SweepId,
    max_running: Annotated[
        int | None, typer.Option("--max-running", metavar="N", help="At most so many of its jobs run at once.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="As many as there is room for.")] = False,
    as_json: Json = False,
    db: Db = None,
    broker: Broker = None,
) -> None:
    """Limit how many jobs of a sweep run at once.

    What runs beyond the limit finishes.
    """
    if (max_running is None) != none:
        raise InputError("give --max-running N, or --none")
    found = existing(db, broker).sweep(sweep)
    found.max_running = max_running
    if as_json:
        print_json(found.status())
    else:
        told = "has no limit of running jobs" if none else f"runs at most {counted(max_running or 0, 'job')} at once"
        typer.echo(f"sweep {sweep} {told}")


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
