"""The schema's version: check it, bring it up to date."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.orm import Session

from db.session import Database
from jobs.errors import DatabaseOutdated, InputError

if TYPE_CHECKING:
    from alembic.config import Config

NEWEST = "0009"  # the last of the migrations; a test compares. Asking alembic would cost every command 0.3 s
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 7_203_114  # names our advisory lock on PostgreSQL; any number that nobody else uses


def prepare(database: Database, *, make: bool = True) -> None:
    """Make the database ready to use: an empty one gets its tables, and so does an older SQLite file.

    Args:
        make: false for who only reads or steers: a wrong URL must not leave our tables in somebody else's database.

    Raises:
        InputError: it has no tables of ours, and gets none.
        DatabaseOutdated: a shared database with another schema; changing it is an administrator's decision.
    """
    with database.reading() as session:
        revision = _revision(session.connection())
    if revision == NEWEST:
        return
    if revision is None and not make:
        raise no_yard(str(database))
    if revision is None or (database.dialect == "sqlite" and _is_known(revision)):
        upgrade(database)
    else:
        check(database)


def no_yard(where: str) -> InputError:
    """What a command says that makes none."""
    return InputError(
        f"there is no yard at {where}; `gridyard run GRID` or `gridyard submit GRID` makes one, `gridyard db upgrade` "
        "its tables alone; --db or GRIDYARD_DB names another"
    )


def check(database: Database) -> None:
    """Raises:
    DatabaseOutdated: the schema is not this version's.
    """
    with database.reading() as session:
        revision = _revision(session.connection())
    if revision != NEWEST:
        raise _outdated(database, revision)


def _outdated(database: Database, revision: str | None) -> DatabaseOutdated:
    advice = "run `gridyard db upgrade`" if revision is None or _is_known(revision) else "update Gridyard"
    return DatabaseOutdated(
        f"database {database} has schema {revision or '(none)'}, this version needs {NEWEST}; {advice}"
    )


def upgrade(database: Database) -> bool:
    """Bring the schema up to date, once, however many processes ask at the same time; whether there was work.

    Raises:
        DatabaseOutdated: a later version of Gridyard has made the tables, or another program.
    """
    with database.restructuring() as session:
        _lock(session)
        connection = session.connection()
        revision = _revision(connection)
        if revision == NEWEST:  # another process was quicker
            return False
        if revision is not None and not _is_known(revision):
            raise _outdated(database, revision)
        from alembic import command

        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return True


def _lock(session: Session) -> None:
    if session.connection().dialect.name == "postgresql":  # SQLite holds its one write lock by now
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _is_known(revision: str) -> bool:
    from alembic.script import ScriptDirectory

    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
