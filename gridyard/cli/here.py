"""Train a sweep on this machine to its end: what `run` and `resume` share."""

from typing import TYPE_CHECKING

import typer

from jobs.errors import JobsFailed

if TYPE_CHECKING:
    from gridyard.client import Sweep
    from jobs.settings import Settings

TOP = 10  # rows of the leaderboard at the end
FAILED = 5  # failed jobs that are named at the end


def finish(sweep: "Sweep", slots: int | None, resume: str) -> None:
    """Start a local worker and the scheduler, follow the sweep, stop both, print the leaderboard.

    Args:
        resume: the command that carries the sweep on after Ctrl-C.

    Raises:
        JobsFailed: some jobs failed.
    """
    from gridyard import local, progress

    try:
        with local.workers(sweep, slots) as tend:
            status = progress.follow(sweep.status, tend=tend)
            print_end(sweep)  # now: the worker takes some seconds to stop
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; sweep {sweep.id} stays in the database. Carry it on with\n  {resume}", err=True)
        raise
    if failed := status.jobs["failed"]:
        raise JobsFailed(f"{failed} of {status.total} jobs failed; `gridyard retry {sweep.id}` tries them again")


def print_end(sweep: "Sweep") -> None:
    from gridyard import tables

    best = sweep.status().best_job
    if ranked := sweep.ranked(TOP):
        typer.echo(f"\n{tables.leaderboard(ranked)}")
    for job in sweep.failed(FAILED):
        typer.echo(f"job {job.job} failed: {job.reason}: {(job.error.splitlines() or [''])[0]}", err=True)
    typer.echo(f"\n{places(sweep.yard.settings, str(sweep.yard.database))}")
    typer.echo(f"more: gridyard leaderboard {sweep.id} --by cell · gridyard show {best or 'JOB'}")


def places(settings: "Settings", database: str) -> str:
    """Where everything lies, without passwords."""
    from gridyard import local
    from jobs.urls import masked

    return f"database  {database}\nstore     {masked(settings.store_url)}\nlogs      {local.log_file(settings).parent}"
