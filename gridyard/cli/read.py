"""Commands that read: status, watch, leaderboard, show, compare, tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gridyard.cli.common import Db, Json, OneJob, SweepId, existing, job_of, plain, print_json
from jobs.errors import InputError
from jobs.plain import printable

app = typer.Typer()
ROWS = 10  # of a leaderboard that people read
Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.html", help="Write a page that opens without network.")
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Write a figure: .png, .svg or .pdf.")]
OptionalSweep = Annotated[int | None, typer.Argument(metavar="SWEEP", help="Id of a sweep.", show_default=False)]


@app.command()
def status(sweep: OptionalSweep = None, as_json: Json = False, db: Db = None) -> None:
    """Where a sweep stands, or the newest 20 sweeps."""
    from gridyard import usage
    from gridyard.cli import text

    yard = existing(db)
    found = yard.sweeps() if sweep is None else [yard.sweep(sweep).status()]
    models = usage.models(yard, [one.sweep for one in found])
    if not as_json:
        typer.echo(text.sweeps(found, models))
        typer.echo(f"\n{text.disk(usage.disk(yard), yard)}")
        for slot in yard.out_of_service():
            typer.echo(f"a slot of worker {slot.worker} is out of service: {slot.why}", err=True)
        for line in text.unattended(found):
            typer.echo(printable(line), err=True)
        for trouble in yard.troubles():
            typer.echo(printable(str(trouble)), err=True)
    elif sweep is None:
        print_json([plain(one) | {"models": models[one.sweep]} for one in found])
    else:
        print_json(plain(found[0]) | {"models": models[sweep], "disk": usage.disk(yard)})


@app.command()
def watch(sweep: SweepId, as_json: Json = False, db: Db = None) -> None:
    """Follow a sweep until every job is final."""
    from gridyard import progress

    found = existing(db).sweep(sweep)
    progress.follow(found.status, show=_JsonLines() if as_json else None)


class _JsonLines:
    """Prints a status when it differs from the one before."""

    last: Any = None

    def __call__(self, status: Any) -> None:
        if status != self.last:
            print_json(status)
        self.last = status


@app.command()
def leaderboard(
    sweep: OptionalSweep = None,
    task: Annotated[str | None, typer.Option("--task", help="All sweeps of a task.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="With --task; default: its own objective.")] = None,
    top: Annotated[
        int | None, typer.Option("--top", min=0, help="So many rows; 0: all. Default: 10, with --json and --csv all.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="job, or cell: mean and spread over its seeds.")] = "job",
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="Only jobs with this parameter.")
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout, and nothing else.")] = False,
    db: Db = None,
) -> None:
    """The best jobs, or cells, of a sweep, of a task over all sweeps, or of everything."""
    import sys

    from gridyard import tables
    from gridyard.cli import text, values

    if as_json and as_csv:
        raise InputError("--json and --csv are both given; keep one of them")
    conditions = values.conditions(where or [])
    if top is None and not (as_json or as_csv):
        top = ROWS
    yard = existing(db)
    scope: dict[str, Any] = {"sweep": sweep, "task": task, "metric": metric, "where": conditions}
    rows = yard.ranked(top or None, by=by, **scope)
    if as_json:
        print_json(rows)
    elif as_csv:
        tables.write_csv(rows, sys.stdout, by=by)
    else:
        typer.echo(tables.leaderboard(rows) if rows else yard.why_empty(**scope))
        if sweep is not None and (status := yard.sweep(sweep).status()).reasons:
            typer.echo(f"{text.reasons(status)}; `gridyard show JOB` tells why", err=True)


@app.command()
def show(
    job: OneJob,
    report: Report = None,
    plot: Plot = None,
    as_json: Json = False,
    db: Db = None,
) -> None:
    """Show a job: parameters, metrics, attempts, history, environment, error; or write its report."""
    from gridyard.cli import text

    found = job_of(job, db)
    written = found.write(report=report, plot=plot) if report or plot else None
    for reason in written.missing if written else ():
        typer.echo(printable(reason), err=True)
    if as_json:
        print_json(found.details())
    else:
        typer.echo(_said(written.files) if written else text.job(found.details()))


@app.command()
def compare(
    jobs: Annotated[list[int], typer.Argument(metavar="JOB", help="Ids of two or more jobs.")],
    report: Report = None,
    plot: Plot = None,
    as_json: Json = False,
    db: Db = None,
) -> None:
    """Jobs side by side: what differs, their metrics, and the texts of language models."""
    from gridyard.cli import text
    from gridyard.report import compare, write

    found = compare.compare(existing(db), jobs)
    written = write.of_comparison(found, report=report, plot=plot) if report or plot else []
    if as_json:
        print_json(found.jobs)
    else:
        typer.echo(_said(written) or compare.as_text(found, text.columns()))


def _said(written: Sequence[Path]) -> str:
    return "\n".join(f"wrote {path}" for path in written)


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of a task.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """What can be trained, and by which parameters."""
    import sys

    from gridyard import parameters
    from gridyard.cli import text
    from jobs import catalogue

    if name is None:
        for trouble in catalogue.own_tasks().troubles:
            print(f"gridyard: {trouble}", file=sys.stderr)
    found = list(catalogue.tasks().values()) if name is None else [catalogue.find(name)]
    described = [parameters.describe(task) for task in found]
    if as_json:
        print_json(described if name is None else described[0])
    else:
        typer.echo(text.tasks(described) if name is None else text.task(described[0]))
