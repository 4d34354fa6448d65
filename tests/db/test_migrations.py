"""The migrations, and the tables that the models describe, are the same."""

import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from db import migrate
from db.models import Base
from db.session import Database
from jobs.errors import DatabaseOutdated


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def test_the_migrations_make_the_tables_that_the_models_describe(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.reading() as session:
        differences = compare_metadata(MigrationContext.configure(session.connection()), Base.metadata)
    assert differences == []


def test_the_newest_migration_is_the_one_the_code_asks_for() -> None:
    assert [path.name[:4] for path in sorted((migrate.MIGRATIONS / "versions").glob("[0-9]*.py"))][-1] == migrate.NEWEST


def test_an_empty_database_is_made_ready_and_a_ready_one_left_alone(empty: Database) -> None:
    migrate.prepare(empty)
    assert migrate.upgrade(empty) is False
    migrate.prepare(empty)
    migrate.check(empty)


def test_an_empty_database_is_not_up_to_date(empty: Database) -> None:
    with pytest.raises(DatabaseOutdated, match="run `gridyard db upgrade`"):
        migrate.check(empty)


def test_a_database_of_a_later_version_is_refused(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseOutdated, match=r"9999.*update Gridyard"):
        migrate.prepare(empty)


def test_eight_processes_that_upgrade_at_once_do_it_once(database_url: str) -> None:
    done, errors = [], []

    def upgrade() -> None:
        database = Database(database_url)
        try:
            done.append(migrate.upgrade(database))
        except Exception as error:
            errors.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=upgrade) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(done) == [False] * 7 + [True]
