"""Time as the database tells it: leases and due times never depend on a worker's clock."""

import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Float, TypeDecorator, literal, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement


class Moment(TypeDecorator[datetime]):
    """A UTC time: `timestamptz` on PostgreSQL, ISO text on SQLite; always timezone-aware in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)  # SQLite stores no zone


class now(FunctionElement[datetime]):
    """The database's clock, optionally some seconds later: `now()`, `now(30.0)`.

    PostgreSQL's `clock_timestamp()` moves inside a transaction, its `now()` does not: a claim that waited for a lock
    would start with a lease that is partly used up.
    """

    type = Moment()
    inherit_cache = True

    def __init__(self, seconds: Any = 0.0) -> None:
        super().__init__(literal(seconds, Float()) if isinstance(seconds, (int, float)) else seconds)


@compiles(now, "postgresql")
def _postgresql_now(element: now, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


@compiles(now, "sqlite")
def _sqlite_now(element: now, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {seconds}))"


def seconds_up(session: Session) -> float:
    """How long the database's server has been there; infinity for SQLite, which has none."""
    if session.get_bind().dialect.name == "sqlite":
        return math.inf
    up = "extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"
    return float(session.scalar(text(f"SELECT {up}")) or 0.0)
