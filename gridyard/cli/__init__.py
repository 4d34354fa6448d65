"""The command line. Each command imports what it needs when it runs, so that `gridyard --help` answers at once."""

import sys
from typing import Annotated, Any

import typer

from gridyard.cli import admin, control, data, read, use, work
from jobs.errors import DatabaseError, GridyardError, InputError, NotFetched
from jobs.plain import printable
from jobs.urls import masked

app = typer.Typer(
    name="gridyard",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # what is no GridyardError is our bug: the plain traceback is the best report
    rich_markup_mode=None,  # plain help: rich takes longer to import than all the rest
    help="Train every cell of a grid of hyperparameters, and see which is best.",
)
for group in (work, read, use, control, data, admin):
    app.add_typer(group.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"gridyard {version('gridyard')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before the command."""


def main() -> None:
    """Run the command line: exit 2 for wrong input, 1 for work that failed, 130 for Ctrl-C."""
    sys.excepthook = _confess
    try:
        app()
    except InputError as error:
        sys.exit(_complain(error, code=1 if isinstance(error, NotFetched) else 2))
    except GridyardError as error:
        sys.exit(_complain(error, code=1))


def _confess(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A bug of ours: the whole traceback, but no password and no code that moves a terminal's cursor."""
    import traceback

    text = "".join(traceback.format_exception(kind, error, trace))
    print(printable(masked(text)), file=sys.stderr, end="")


def _complain(error: GridyardError, code: int) -> int:
    message = str(error)
    if isinstance(error, DatabaseError):
        message = " ".join(message.split())  # drivers spread over several lines what fits on one
    _tell(f"gridyard: {printable(masked(message))}")
    return code


def _tell(message: str) -> None:
    """On stderr, as a line of the log where a service has been asked for JSON."""
    from jobs import logs

    if logs.as_json:
        logs.say(message, level="CRITICAL", logger="gridyard")
    else:
        print(message, file=sys.stderr)
