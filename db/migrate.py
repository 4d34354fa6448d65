"""The schema's version: check it, bring it up to date."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from db.session import Database
from jobs.errors import DatabaseOutdated

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 7_203_114  # names our advisory lock on PostgreSQL; any number that nobody else uses


def prepare(database: Database) -> None:
    """Make the database ready to use: an empty one gets its tables, and so does an older SQLite file.

    Raises:
        DatabaseOutdated: a shared database with another schema; changing it is an administrator's decision.
    """
    with database.reading() as session:
        revision = _revision(session.connection())
    if revision == _newest():
        return
    if revision is None or (database.dialect == "sqlite" and _is_known(revision)):
        upgrade(database)
    else:
        check(database)


def check(database: Database) -> None:
    """Raises:
    DatabaseOutdated: the schema is not this version's.
    """
    with database.reading() as session:
        revision = _revision(session.connection())
    if revision != _newest():
        advice = "run `gridyard db upgrade`" if revision is None or _is_known(revision) else "update Gridyard"
        raise DatabaseOutdated(
            f"database {database} has schema {revision or '(none)'}, this version needs {_newest()}; {advice}"
        )


def upgrade(database: Database) -> bool:
    """Bring the schema up to date, once, however many processes ask at the same time; whether there was work."""
    with database.writing() as session:
        _lock(session)
        connection = session.connection()
        if _revision(connection) == _newest():  # another process was quicker
            return False
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return True


def _lock(session: Session) -> None:
    if session.connection().dialect.name == "postgresql":  # SQLite holds its one write lock by now
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _newest() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _is_known(revision: str) -> bool:
    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
