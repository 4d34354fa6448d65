"""Commands that get work done: run, submit, resume, and the services."""

from pathlib import Path
from typing import Annotated

import typer

from gridyard.cli.common import (
    Broker,
    Db,
    Json,
    Once,
    Set,
    SweepId,
    Workers,
    connect,
    counted,
    existing,
    print_json,
    print_submitted,
    with_db,
)

app = typer.Typer()
Grid = Annotated[Path, typer.Argument(metavar="GRID", help="A sweep file: YAML, JSON or TOML.", show_default=False)]


@app.command()
def run(
    grid: Grid, workers: Workers = None, set_: Set = None, once: Once = False, db: Db = None, broker: Broker = None
) -> None:
    """Submit a sweep and train it here, to its leaderboard."""
    from gridyard.cli import here

    sweep = connect(db, broker).submit(grid, sets=set_ or (), once=once, fetch=True)
    print_submitted(sweep, as_json=False)
    here.finish(sweep, workers, with_db(f"gridyard resume {sweep.id}", db))


@app.command()
def submit(
    grid: Grid,
    set_: Set = None,
    once: Once = False,
    as_json: Json = False,
    db: Db = None,
    broker: Broker = None,
) -> None:
    """Submit a sweep; workers train it."""
    from gridyard import local

    sweep = connect(db, broker).submit(grid, sets=set_ or (), once=once)
    print_submitted(sweep, as_json)
    if not as_json and not local.count_workers(sweep):
        typer.echo(f"no worker is there; start one, or: {with_db(f'gridyard resume {sweep.id}', db)}", err=True)


@app.command()
def resume(
    sweep: SweepId,
    workers: Workers = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Change the database only; train nothing here.")] = False,
    as_json: Json = False,
    db: Db = None,
    broker: Broker = None,
) -> None:
    """Carry on a sweep that was interrupted, paused or cancelled.

    Trains it here, as run does, unless a broker is set or other workers are there. With --json it trains nothing here.
    """
    from gridyard import local
    from gridyard.cli import here

    found = existing(db, broker).sweep(sweep)
    changed = found.resume()
    if as_json:
        print_json({"sweep": sweep, "jobs": changed})
        return
    status = found.status()
    ready = f"{counted(changed, 'cancelled job')} {'is' if changed == 1 else 'are'} ready again, " if changed else ""
    typer.echo(f"sweep {sweep}: {ready}{counted(status.total - status.done, 'job')} to be done")
    if no_wait or status.finished:
        if not status.finished and not local.count_workers(found):
            typer.echo(f"no worker is there; start one, or: {with_db(f'gridyard resume {sweep}', db)}", err=True)
        return
    if local.is_needed(found):
        here.finish(found, workers, with_db(f"gridyard resume {sweep}", db))
    else:
        there = counted(local.count_workers(found), "worker")
        typer.echo(f"{there} of its queue there; follow it with {with_db(f'gridyard watch {sweep}', db)}")


@app.command()
def worker(
    slots: Annotated[
        int | None, typer.Option("--slots", min=1, help="Jobs at a time; default: one per GPU, else per core.")
    ] = None,
    queue: Annotated[str, typer.Option("--queue", help="Whose jobs to take: cpu, gpu, or a name of your own.")] = "cpu",
    first: Annotated[int | None, typer.Option("--first", help="The sweep to train before all others.")] = None,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
    db: Db = None,
    broker: Broker = None,
) -> None:
    """Train jobs until SIGTERM or Ctrl-C.

    What is held then is given back: another worker goes on from its last checkpoint.
    """
    import logging
    import os

    from jobs import logs, settings
    from scheduler.validate import check_key
    from workers import main

    check_key("queue", queue)
    given = {"db": db, "broker": broker}
    loaded = settings.load(**{name: value for name, value in given.items() if value is not None})
    logs.setup(loaded.log)
    code = main.start(loaded, slots=slots, queue=queue, first=first, until_stdin_closes=until_stdin_closes)
    logging.shutdown()
    os._exit(code)  # all is recorded; the interpreter's own end may take longer than is left of the grace time


@app.command()
def scheduler(db: Db = None, broker: Broker = None) -> None:
    """Retry, rescue and ring, until SIGTERM or Ctrl-C.

    Makes due jobs ready, takes jobs back from silent workers, and rings the bell for idle slots.
    """
    from jobs import logs, settings
    from scheduler import main

    given = {"db": db, "broker": broker}
    logs.setup(settings.load().log)  # first: what goes wrong then is a line like all others
    main.start(settings.load(**{name: value for name, value in given.items() if value is not None}))
