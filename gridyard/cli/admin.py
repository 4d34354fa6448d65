"""Commands for whoever keeps the yard: db upgrade."""

import typer

from gridyard.cli.common import Db

app = typer.Typer()
db_app = typer.Typer(help="The database itself.", no_args_is_help=True)
app.add_typer(db_app, name="db")


@db_app.command()
def upgrade(db: Db = None) -> None:
    """Bring the tables of the database up to date."""
    from db import migrate
    from db.session import Database
    from jobs import settings

    database = Database(settings.load(**({} if db is None else {"db": db})).db_url)
    done = migrate.upgrade(database)
    typer.echo(f"database {database}: {'brought up to date' if done else 'is up to date'}")
