"""Many rows at once: COPY on PostgreSQL, one statement on SQLite. SQLAlchemy costs more than the database here."""

import json
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

as_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode  # for a column of documents


def insert(session: Session, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Add rows whose values the driver knows as they are: texts, numbers, documents as JSON texts.

    Raises:
        DBAPIError: the database refuses a row, and so all.
    """
    connection, names = session.connection(), ", ".join(columns)
    if connection.dialect.name == "postgresql":
        _copy(connection, f"COPY {table.name} ({names}) FROM STDIN", rows)
    elif rows:
        places = ", ".join("?" * len(columns))
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({places})", list(rows))


def _copy(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    dialect, driver = connection.dialect, cast(Any, connection.connection.driver_connection)
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except dialect.loaded_dbapi.Error as error:  # it did not pass through SQLAlchemy, and looks as if it had
        raise DBAPIError.instance(statement, None, error, dialect.loaded_dbapi.Error, dialect=dialect) from error
