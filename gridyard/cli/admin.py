"""Commands for whoever keeps the yard: clean, doctor, db upgrade."""

from typing import TYPE_CHECKING, Annotated

import typer

from gridyard.cli.common import Broker, Db, Json, existing, plain, print_json, with_db
from jobs.plain import printable

if TYPE_CHECKING:
    from gridyard.cleaning import Cleaned
    from gridyard.doctor import Diagnosis

app = typer.Typer()
db_app = typer.Typer(help="The database itself.", no_args_is_help=True)
app.add_typer(db_app, name="db")


@db_app.command()
def upgrade(db: Db = None) -> None:
    """Bring the tables of the database up to date."""
    import logging

    from db import migrate
    from db.session import Database
    from jobs import logs, settings

    loaded = settings.load(**({} if db is None else {"db": db}))
    if loaded.log == logs.JSON:  # it is a service of docker-compose.yml like the others
        logs.setup(loaded.log)
    database = Database(loaded.db_url)
    done = migrate.upgrade(database)
    told = f"database {database}: {'brought up to date' if done else 'is up to date'}"
    if logs.as_json:
        logging.getLogger(__name__).info(told)
    else:
        typer.echo(told)


@app.command()
def clean(
    sweep: Annotated[
        int | None, typer.Argument(metavar="SWEEP", help="Only of this sweep.", show_default=False)
    ] = None,
    best: Annotated[
        int | None, typer.Option("--best", metavar="N", help="Keep the models of SWEEP's N best jobs.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Free it; else it is only shown.")] = False,
    as_json: Json = False,
    db: Db = None,
) -> None:
    """Show what could be freed on disk; with --yes, free it."""
    from gridyard import cleaning

    yard = existing(db)
    if sweep is not None:
        yard.sweep(sweep)  # says so when it is not there
    found = cleaning.clean(yard, sweep, best=best, yes=yes)
    if as_json:
        print_json(plain(found) | {"files": found.files, "bytes": found.bytes})
    else:
        typer.echo(_cleaned(found, with_db(_freeing(sweep, best), db)))


@app.command()
def doctor(as_json: Json = False, db: Db = None, broker: Broker = None) -> None:
    """Check everything that a yard needs, and say what to do; exit code 1 when something is wrong."""
    from gridyard import bars
    from gridyard.doctor import NAMES, examine

    given = {"db": db, "broker": broker}
    with bars.steps("looking", len(NAMES)) as advance:
        found = examine({name: value for name, value in given.items() if value is not None}, advance)
    if as_json:
        print_json({"fine": found.fine, "findings": found.findings})
    else:
        typer.echo(printable(_examined(found)))
    if not found.fine:
        raise typer.Exit(1)


def _examined(found: "Diagnosis") -> str:
    from gridyard.checks.finding import OK, WARNING, WRONG

    marks = {OK: "ok  ", WARNING: "!   ", WRONG: "✗   "}
    width = max(len(one.check) for one in found.findings)
    lines = []
    for one in found.findings:
        lines.append(f"{marks[one.level]}{one.check:<{width}}  {one.found}")
        if one.do:
            lines.append(f"    {'':<{width}}  → {one.do}")
    number = {level: sum(one.level == level for one in found.findings) for level in marks}
    lines.append("")
    lines.append(
        "all is fine"
        if len(found.findings) == number[OK]
        else f"{number[WRONG]} wrong, {number[WARNING]} to know of, {number[OK]} fine"
    )
    return "\n".join(lines)


def _freeing(sweep: int | None, best: int | None) -> str:
    """The command that frees what was shown."""
    of = "" if sweep is None else f" {sweep}"
    keeping = "" if best is None else f" --best {best}"
    return f"gridyard clean{of}{keeping} --yes"


def _cleaned(found: "Cleaned", freeing: str) -> str:
    from gridyard.sizes import readable
    from gridyard.tables import table

    rows = [
        [one.kind, f"{one.what}; {one.note}" if one.note else one.what, str(one.files), readable(one.bytes)]
        for one in found.kinds
    ]
    total = f"{found.files} files, {readable(found.bytes)}"
    if found.freed:
        end = f"freed: {total}"
    elif found.files:
        end = f"nothing was freed; `{freeing}` frees {total}"
    else:
        end = "there is nothing to free"
    return f"{table(['kind', 'what', 'files', 'size'], rows)}\n\n{end}"
