"""Commands for the data sets: data, data get."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gridyard.cli.common import Json, print_json
from gridyard.sizes import readable
from jobs.errors import GridyardError, InputError, NotFetched

app = typer.Typer()
data_app = typer.Typer()
app.add_typer(data_app, name="data")


@data_app.callback(invoke_without_command=True)
def data(context: typer.Context, as_json: Json = False) -> None:
    """The data sets: what they are, and where they lie."""
    if context.invoked_subcommand is not None:
        return
    from gridyard.tables import table
    from jobs.data.sets import SETS

    folder = _folder()
    described = [_describe(name, folder) for name in SETS]
    if as_json:
        print_json(described)
        return
    headers = ("name", "what", "download", "where", "licence")
    typer.echo(
        table(headers, [[row["name"], row["summary"], _size(row), _where(row), row["licence"]] for row in described])
    )
    typer.echo(f"\nThe data folder is {folder} (GRIDYARD_DATA). `gridyard data get NAME` fetches what is not here.")


@data_app.command()
def get(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names of data sets.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every data set.")] = False,
) -> None:
    """Fetch data sets from their homes; one that lies in the data folder is used as it is."""
    from jobs.data.fetch import get as fetch
    from jobs.data.sets import SETS, lookup

    if every == bool(names):
        raise InputError(f"give the names of data sets, or --all. Data sets: {', '.join(SETS)}")
    wanted = [lookup(name) for name in dict.fromkeys(names or SETS)]  # a wrong name is told before anything is fetched
    folder, errors = _folder(), list[GridyardError]()
    for found in wanted:
        try:
            if found.missing(folder / found.folder):
                typer.echo(f"{found.name}: looking for it at its home, {found.home}", err=True)
            typer.echo(f"{found.name}: {fetch(found.name, folder) if found.files else found.home}")
        except GridyardError as error:  # the others are fetched all the same
            errors.append(error)
    if errors:
        kind = GridyardError if any(isinstance(error, NotFetched) for error in errors) else InputError
        raise kind("\n".join(map(str, errors)))


def _folder() -> Path:
    from jobs import settings

    return settings.load().data.absolute()


def _describe(name: str, folder: Path) -> dict[str, Any]:
    from jobs.data.sets import lookup

    found = lookup(name)
    place = folder / found.folder
    missing = found.missing(place)
    return {
        "name": found.name,
        "summary": found.summary,
        "here": not missing,
        "place": str(place) if found.files else None,
        "missing": missing,
        "download_bytes": found.size or None,
        "home": found.home,
        "licence": found.licence,
        "note": found.note,
    }


def _where(row: dict[str, Any]) -> str:
    if row["place"] is None:
        return str(row["home"])
    return row["place"] if row["here"] else "not here"


def _size(row: dict[str, Any]) -> str:
    """Of the download."""
    if row["place"] is None:
        return "–"
    size = row["download_bytes"]
    return "?" if size is None else readable(size)
