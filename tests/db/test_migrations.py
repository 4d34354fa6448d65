"""The migrations, and the tables that the models describe, are the same."""

import json
import threading
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text, update

from db import counts, history, migrate
from db.clock import now
from db.models import Base, History, Job, Sweep
from db.session import Database
from jobs.errors import DatabaseError, DatabaseOutdated

OLD_SWEEP = """
    INSERT INTO sweeps
        (id, uid, name, task, state, queue, priority, spec, spec_hash, metric, mode, retries, total,
        created_at, touched_at)
    VALUES (1, 'u', 'old', 'iris', 'open', 'cpu', 0, '{"fixed": {}}', '', 'val_accuracy', 'max', 0, 3,
        '2026-01-01 00:00:00', '2026-01-01 00:00:00')
"""
OLD_JOBS = """
    INSERT INTO jobs (sweep_id, cell, seed, params, task, metric, state, attempt, failures, epoch, finished_at) VALUES
        (1, 0, 0, '{}', 'iris', 'val_accuracy', 'ready', 0, 0, 0, NULL),
        (1, 1, 0, '{}', 'iris', 'val_accuracy', 'ready', 0, 0, 0, NULL),
        (1, 2, 0, '{}', 'iris', 'val_accuracy', 'cancelled', 0, 0, 0, '2026-01-01 00:00:00')
"""

# A row as version 0002 had it.
OLD_JOB = """
    INSERT INTO jobs (id, sweep_id, cell, seed, params, task, metric, state, attempt, failures, epoch)
    VALUES (1, 1, 0, 0, '{}', 'iris', 'val_loss', 'ready', 0, 0, 0)
"""


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
    yield database
    database.close()


def test_the_migrations_make_the_tables_that_the_models_describe(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.reading() as session:
        differences = compare_metadata(MigrationContext.configure(session.connection()), Base.metadata)
    assert differences == []


def test_histories_of_an_older_version_come_through_and_back(empty: Database) -> None:
    config = migrate._config()
    with empty.restructuring() as session:
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "0002")
        session.execute(text(OLD_SWEEP))
        session.execute(text(OLD_JOB))
        columns = {"val_loss": [0.5, None, 1 / 3], "epoch": [1, 2, 3], "seconds": [0.1, 0.2, 0.3]}
        for job, first in ((1, 1), (1, 4)):
            values = {"job": job, "first": first, "last": first + 2, "columns": json.dumps(columns)}
            session.execute(text("INSERT INTO histories VALUES (:job, 1, :first, :last, :columns)"), values)
        command.upgrade(config, "head")
        rows = session.scalars(select(History).order_by(History.first_epoch)).all()
        assert [(row.first_epoch, row.names) for row in rows] == [
            (first, ["epoch", "seconds", "val_loss"]) for first in (1, 4)
        ]
        assert history.epochs(session, 1)[:3] == [
            {"epoch": epoch, "seconds": epoch / 10, "val_loss": loss}
            for epoch, loss in ((1, 0.5), (2, None), (3, 1 / 3))
        ]
        assert session.scalar(text("SELECT pack FROM jobs")) == 0
        command.downgrade(config, "0002")
        found = session.scalars(text("SELECT columns FROM histories")).all()
        assert [json.loads(one) if isinstance(one, str) else one for one in found] == [columns, columns]


def test_the_newest_migration_is_the_one_the_code_asks_for() -> None:
    assert [path.name[:4] for path in sorted((migrate.MIGRATIONS / "versions").glob("[0-9]*.py"))][-1] == migrate.NEWEST


def test_an_empty_database_is_made_ready_and_a_ready_one_left_alone(empty: Database) -> None:
    migrate.prepare(empty)
    assert migrate.upgrade(empty) is False
    migrate.prepare(empty)
    migrate.check(empty)


def test_a_migration_keeps_the_jobs_that_are_there_and_counts_them(empty: Database) -> None:
    """SQLite changes a table by copying it: with foreign keys on, the jobs would go with the old one."""
    with empty.restructuring() as session:
        config = migrate._config()
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "0002")
        session.execute(text(OLD_SWEEP))
        session.execute(text(OLD_JOBS))
    migrate.upgrade(empty)
    with empty.reading() as session:
        assert session.scalars(select(Job.state).order_by(Job.id)).all() == ["ready", "ready", "cancelled"]
        found = counts.of_sweeps(session, [1])[1]
    assert (found["ready"], found["cancelled"]) == (2, 1)
    with empty.writing() as session:
        session.execute(update(Job).where(Job.id == 1).values(state="cancelled", finished_at=now()))
    with empty.reading() as session:
        found = counts.of_sweeps(session, [1])[1]
    assert (found["ready"], found["cancelled"]) == (1, 2)  # a copied table has its triggers
    with pytest.raises(DatabaseError, match=r"(?i)foreign key"), empty.writing() as session:
        session.execute(update(Job).values(sweep_id=2))  # there is none: SQLite looks at foreign keys again


def test_sweeps_of_an_older_version_keep_their_epochs_and_results(empty: Database) -> None:
    with empty.restructuring() as session:
        config = migrate._config()
        config.attributes["connection"] = session.connection()
        command.upgrade(config, "0005")
        session.execute(text(OLD_SWEEP.replace("""{"fixed": {}}""", """{"fixed": {}, "epochs"\\: 30}""")))
        session.execute(text(OLD_JOBS))
        ended = "finished_at = '2026-01-01 00:00:00', score = 0.5, rank_key = -0.5, epochs = 30"
        session.execute(text(f"UPDATE jobs SET state = 'succeeded', {ended} WHERE cell = 0"))
        command.upgrade(config, "head")
        assert session.scalars(select(Sweep.epochs)).all() == [30]
        session.execute(update(Job).where(Job.cell == 0).values(state="ready"))
        command.downgrade(config, "0005")
        kept = session.execute(text("SELECT state, score FROM jobs ORDER BY cell")).all()
        assert [tuple(row) for row in kept] == [("succeeded", 0.5), ("ready", None), ("cancelled", None)]


def test_an_empty_database_is_not_up_to_date(empty: Database) -> None:
    with pytest.raises(DatabaseOutdated, match="run `gridyard db upgrade`"):
        migrate.check(empty)


def test_a_database_of_a_later_version_is_refused(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refuses in (migrate.prepare, migrate.check, migrate.upgrade):
        with pytest.raises(DatabaseOutdated, match=r"9999.*update Gridyard"):
            refuses(empty)


def test_eight_processes_that_upgrade_at_once_do_it_once(empty_database_url: str) -> None:
    done, errors = [], []

    def upgrade() -> None:
        database = Database(empty_database_url)
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
