"""The command line. Each command imports what it needs when it runs, so that `gridyard --help` answers at once."""

import sys
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from gridyard.cli import admin, control, data, read, use, work
from jobs.errors import GridyardError, InputError, NotFetched
from jobs.plain import printable
from jobs.refusal import allowed
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
        # Not standalone: what is wrong with the words themselves is ours to say, too.
        sys.exit(app(prog_name="gridyard", standalone_mode=False) or 0)
    except TyperException as error:
        sys.exit(_complain_of_usage(error))
    except typer.Abort:
        _tell("gridyard: stopped; nothing was done")
        sys.exit(1)
    except InputError as error:
        sys.exit(_complain(error, code=1 if isinstance(error, NotFetched) else 2))
    except GridyardError as error:
        sys.exit(_complain(error, code=1))


def _confess(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A bug of ours: the whole traceback, but no password and no code that moves a terminal's cursor."""
    import traceback

    text = "".join(traceback.format_exception(kind, error, trace))
    print(printable(masked(text)), file=sys.stderr, end="")


def _complain_of_usage(error: TyperException) -> int:
    """Words that are no command, or options and arguments of no such kind."""
    from pydantic import ValidationError

    told, context, wrong = error.format_message().rstrip("."), getattr(error, "ctx", None), error.__cause__
    if told.startswith("Usage:"):  # the help, of a group without a command
        print(told, file=sys.stderr)
        return error.exit_code
    if isinstance(wrong, ValidationError):
        problem = wrong.errors()[0]
        name = str(getattr(error, "param", None) and error.param.get_error_hint()).strip("'")  # type: ignore[attr-defined]
        told = f'{name} was given "{problem["input"]}"; {allowed(problem)}'
    more = f". `{context.command_path} --help` tells more" if context else ""
    _tell(f"gridyard: {printable(masked(told))}{more}")
    return error.exit_code


def _complain(error: GridyardError, code: int) -> int:
    _tell(f"gridyard: {printable(masked(str(error)))}")
    return code


def _tell(message: str) -> None:
    """On stderr, as a line of the log where a service has been asked for JSON."""
    from jobs import logs

    if logs.as_json:
        logs.say(message, level="CRITICAL", logger="gridyard")
    else:
        print(message, file=sys.stderr)
