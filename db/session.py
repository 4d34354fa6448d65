"""Connections: one engine per URL, the SQLite pragmas, and the one place that commits and translates errors."""

import math
import random
import sqlite3
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    InterfaceError,
    InvalidatePoolError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from db import documents
from jobs.errors import DatabaseAway, DatabaseError, InputError
from jobs.urls import masked

BUSY_SECONDS = 30.0  # SQLite hands its write lock out unfairly: a short wait would fail under many writers

POSTGRESQL = {
    "client_encoding": "utf8",  # a database of the encoding SQL_ASCII would send bytes
    "connect_timeout": 5,  # seconds; a host that is away must not hold a heartbeat up for minutes
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds: keepalives do not act while sent data are unanswered
    # A session that idles in a transaction would hold rows locked and keep vacuum from cleaning (queue.md, 5.2).
    "options": "-c idle_in_transaction_session_timeout=30s -c statement_timeout=60s",
}


ANSWER_SECONDS = 65.0  # longer than any statement may take

# A connection that was used so lately is not asked whether it still works. If it does not, a transaction fails as if
# the server had gone in its middle, and all who use a database try again then.
TRUSTED_SECONDS = 1.0


class Database:
    """A database of sweeps and jobs, on SQLite or PostgreSQL.

    Safe to share between threads. A process that forks must make its own.

    Raises:
        InputError: the URL is not one of a supported database, or the folder of an SQLite file cannot be made.
    """

    def __init__(self, url: str, patience: float = ANSWER_SECONDS) -> None:
        """
        Args:
            patience: seconds without an answer of PostgreSQL after which a connection is taken for dead.
        """
        self.engine = _create_engine(url)
        self._patience = patience
        self.dialect = self.engine.dialect.name  # "sqlite" or "postgresql"

    def __str__(self) -> str:
        return masked(self.engine.url.render_as_string(hide_password=False))

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading: sees one snapshot on SQLite, takes no write lock.

        Raises:
            DatabaseAway: the database does not answer, or not in time.
            DatabaseError: it refuses.
        """
        with self._session("BEGIN") as session:
            yield session

    @contextmanager
    def writing(self, patience: float | None = None) -> Iterator[Session]:
        """A session for writing: commits at the end, or rolls back on any error.

        On SQLite it takes the write lock at once: a reader that turns writer later fails with "database is locked",
        whatever the timeout (queue.md, 5.1).

        Args:
            patience: seconds; other than this database's own.

        Raises:
            DatabaseAway: the database does not answer, or not in time.
            DatabaseError: it refuses.
        """
        with self._session("BEGIN IMMEDIATE", patience=patience) as session:
            yield session

    @contextmanager
    def restructuring(self) -> Iterator[Session]:
        """A session for changing tables: as `writing`, but SQLite does not check foreign keys.

        It changes a table by copying it, and with them on, dropping the old one would delete all rows that refer to it.

        Raises:
            DatabaseAway: the database does not answer, or not in time.
            DatabaseError: it refuses.
        """
        try:
            with self._session("PRAGMA foreign_keys=OFF", "BEGIN IMMEDIATE") as session:
                yield session
        finally:
            self.engine.dispose()  # the next connection checks them again

    @contextmanager
    def _session(self, *begin: str, patience: float | None = None) -> Iterator[Session]:
        _begin.statements, _patience.seconds = begin, patience or self._patience
        try:
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                session.connection()  # begins now, with this thread's statement
                yield session
        except (OperationalError, InterfaceError, TimeoutError) as error:
            raise DatabaseAway(f"database {self}: {_told(error)}") from error
        except SQLAlchemyError as error:
            raise DatabaseError(f"database {self}: {_told(error)}") from error

    def takes_connections(self) -> bool:
        """Whether its server is there and lets people in, whatever it says to us; True of SQLite.

        True, too, where libpq refuses the URL's options, as an unknown `sslmode`, and asks nobody: no wait mends that.

        libpq asks as `pg_isready` does: neither the words of an error, which are in the server's language, nor its
        class tell a wrong password from a closed port. Blocks the whole process for up to 2 s.
        """
        if self.dialect == "sqlite":
            return True
        _, given = self.engine.dialect.create_connect_args(self.engine.url)
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        options = {name: value for name, value in given.items() if name in known} | {"connect_timeout": 2}
        return pq.PGconn.ping(make_conninfo("", **options).encode()) in (pq.Ping.OK, pq.Ping.NO_ATTEMPT)

    def close(self) -> None:
        self.engine.dispose()


def _told(error: SQLAlchemyError) -> str:
    return " ".join(masked(str(getattr(error, "orig", None) or error)).split())  # a driver tells in several lines


_begin = threading.local()  # what begins the session that this thread is opening; SQLite only
_patience = threading.local()  # how long the session that this thread has opened waits for an answer; PostgreSQL only

T = TypeVar("T")


class Connection(psycopg.Connection[Any]):
    """A connection that is dead when the server says nothing for too long.

    Neither keepalives nor `tcp_user_timeout` notice it where something on the way, such as a load balancer, goes on to
    acknowledge what we send; or a server that is frozen.
    """

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        return super().wait(self._impatient(gen), *args, **options)

    def _impatient(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        patience = getattr(_patience, "seconds", ANSWER_SECONDS)
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted  # what has happened on the socket; nothing, about each 0.1 s
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > patience:
                    self.close()
                    raise psycopg.OperationalError(f"the server has not answered for {patience:.1f} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer


def _create_engine(url: str) -> Engine:
    allowed = "allowed are sqlite:///FILE and postgresql://USER:PASSWORD@HOST/NAME"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: of a port that is no number
        raise InputError(f"GRIDYARD_DB is not a database URL; {allowed}") from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise InputError(f"GRIDYARD_DB names the database {backend!r}; {allowed}")
    try:
        if backend == "sqlite":
            return _sqlite_engine(parsed)
        engine = _postgresql_engine(parsed)
        _check_ports(engine)
    except ArgumentError as error:  # no such driver, or options that do not fit together
        raise InputError(f"GRIDYARD_DB: {error}; {allowed}") from None
    return engine


def _check_ports(engine: Engine) -> None:
    """libpq tells of a port that cannot be as of one where nobody listens yet, and SQLAlchemy does not give it a 0."""
    url = engine.url
    _, given = engine.dialect.create_connect_args(url)
    for port in f"{'' if url.port is None else url.port},{given.get('port', '')}".split(","):  # of each host
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            raise InputError(
                f"GRIDYARD_DB: was given the port {port[:20]!r}; allowed is a whole number from 1 to 65535"
            )


def _postgresql_engine(url: Any) -> Engine:
    engine = create_engine(
        url, pool_size=10, max_overflow=20, connect_args=POSTGRESQL, json_deserializer=documents.read
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Connection:
        return Connection.connect(*arguments, **options)

    @event.listens_for(engine, "checkin")
    def note(connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def look(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        """As SQLAlchemy's `pool_pre_ping`, which would ask before each claim."""
        if time.monotonic() - record.info.get("used", math.inf) < TRUSTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error  # all others are as old: they are replaced, too

    return engine


@contextmanager
def reading(url: str) -> Iterator[Session]:
    """A session for reading, on a connection of its own: one that hangs may be left behind.

    Raises:
        InputError, DatabaseError: as `Database` and its `reading`.
    """
    with closing(Database(url)) as database, database.reading() as session:
        yield session


def missing_file(url: str) -> str | None:
    """The path of the SQLite file that this URL names, when it is not there or empty; else None. Makes nothing."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # for `Database` to tell
        return None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    file = Path(parsed.database)  # a connection would fill an empty one
    return None if file.exists() and (not file.is_file() or file.stat().st_size) else parsed.database


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None of any other."""
    try:
        parsed = make_url(url)
    except ArgumentError:  # for `Database` to tell
        return None
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def _sqlite_engine(url: Any) -> Engine:
    if not url.database or url.database == ":memory:":
        raise InputError("GRIDYARD_DB: an SQLite database in memory cannot be shared with workers; name a file")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = "let GRIDYARD_HOME, or GRIDYARD_DB, name a place that can be written"
        raise InputError(f"cannot create the folder of {url.database}: {error.strerror}; {where}") from None
    connection = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    engine = create_engine(url, connect_args=connection, json_deserializer=documents.read)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # Python's own BEGIN is deferred; `begin` below sends ours
        _log_ahead(connection)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        for statement in getattr(_begin, "statements", ("BEGIN",)):
            connection.exec_driver_sql(statement)

    return engine


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Let readers and a writer not wait for each other; a file that is new is changed for that."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            # Here SQLite does not wait by itself: of four processes that open a new file at once, 1 in 400 is refused.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(0.001, 0.01))
