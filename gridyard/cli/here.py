"""Train a sweep on this machine to its end: what `run` and `resume` share."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from jobs.errors import DataMissing, JobsFailed
from jobs.plain import printable

if TYPE_CHECKING:
    from db.status import SweepStatus
    from gridyard.sweep import Sweep
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
    from gridyard import local

    _warn_without_gpu(sweep)
    try:
        with local.workers(sweep, slots) as tend:
            status = _follow(sweep, tend)
            print_end(sweep)  # now: the worker takes some seconds to stop
    except DataMissing as missing:
        raise type(missing)(
            f"{missing}\nsweep {sweep.id} stays in the database; then carry it on with\n  {resume}"
        ) from None
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; sweep {sweep.id} stays in the database. Carry it on with\n  {resume}", err=True)
        raise
    if failed := status.jobs["failed"]:
        raise JobsFailed(f"{failed} of {status.total} jobs failed; `gridyard retry {sweep.id}` tries them again")


def _warn_without_gpu(sweep: "Sweep") -> None:
    from workers.devices import AUTO, visible_gpus

    can_be_cuda = sys.platform != "darwin"  # Apple's GPUs are always there, and no tool lists them
    wanted = sweep.yard.settings.device == AUTO and sweep.status().queue == "gpu"
    if wanted and can_be_cuda and not visible_gpus():
        typer.echo("no GPU is visible here; training on the CPU", err=True)


def _follow(sweep: "Sweep", tend: Callable[[], None]) -> "SweepStatus":
    from gridyard import progress

    try:
        return progress.follow(sweep.status, tend=tend)
    except KeyboardInterrupt:
        typer.echo("\nstopping: running jobs write their last checkpoint; Ctrl-C again to stop at once", err=True)
        raise


def print_end(sweep: "Sweep") -> None:
    from gridyard import tables

    status = sweep.status()
    if ranked := sweep.ranked(TOP):
        _print(f"\n{tables.leaderboard(ranked)}")
    failed = sweep.failed(FAILED)
    for job in failed:
        error = (job.error.splitlines() or [""])[0]
        typer.echo(printable(f"job {job.job} failed: {job.reason}: {error}"), err=True)
    if more := status.jobs["failed"] - len(failed):
        typer.echo(f"… and {more} more", err=True)
    shown = failed[0].job if failed else status.best_job or "JOB"
    _print(f"\n{places(sweep.yard.settings, str(sweep.yard.database))}")
    _print(f"more: gridyard leaderboard {sweep.id} --by cell · gridyard show {shown}")


def _print(text: str) -> None:
    """On stdout, unless its reader is gone (`| head -1`): that must not make hours of training fail."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def places(settings: "Settings", database: str) -> str:
    """Where everything lies, without passwords."""
    from gridyard import local
    from jobs.urls import masked

    return f"database  {database}\nstore     {masked(settings.store_url)}\nlogs      {local.log_file(settings).parent}"
