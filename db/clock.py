"""Time as the database tells it: leases and due times never depend on a worker's clock."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Dialect, Float, TypeDecorator, and_, literal, or_, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement


class Moment(TypeDecorator[datetime]):
    """A UTC time: `timestamptz` on PostgreSQL, ISO text on SQLite; always timezone-aware in Python.

    SQLite takes any text. What is no time is read as None, also where a row must have one: whoever may write rows must
    not be able to stop who reads them.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)  # SQLite stores no zone

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        read = super().result_processor(dialect, coltype)
        if read is None or dialect.name != "sqlite":
            return read

        def suspicious(value: Any) -> datetime | None:
            try:
                return read(value)
            except (TypeError, ValueError):
                return None

        return suspicious


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


FAR = 86_400.0  # seconds; few times of ours are so far ahead


def is_past(moment: Any, seconds: float = 0.0) -> ColumnElement[bool]:
    """Whether this moment was so many seconds ago, or is no time at all: nobody may wait for that for ever."""
    return or_(moment < now(-seconds), is_damaged(moment))


def is_damaged(moment: Any) -> ColumnElement[bool]:
    """Whether what stands here is no time; what is less than every time is not asked, for it is past anyway."""
    return and_(moment > now(FAR), _no_time(moment))  # text is greater than any time


class _no_time(FunctionElement[bool]):
    inherit_cache = True  # without a type: a boolean would be compared with 1 on SQLite


@compiles(_no_time, "postgresql")
def _postgresql_no_time(element: _no_time, compiler: Any, **kw: Any) -> str:
    return "false"


@compiles(_no_time, "sqlite")
def _sqlite_no_time(element: _no_time, compiler: Any, **kw: Any) -> str:
    moment = compiler.process(element.clauses, **kw)
    return f"(strftime('%Y-%m-%d %H:%M:%S', {moment}, '+0 days') IS NOT substr({moment}, 1, 19))"


def seconds_up(session: Session) -> float:
    """How long the database's server has been there; infinity for SQLite, which has none."""
    if session.get_bind().dialect.name == "sqlite":
        return math.inf
    up = "extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"
    return float(session.scalar(text(f"SELECT {up}")) or 0.0)
