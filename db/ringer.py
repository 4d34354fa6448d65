"""Which of several schedulers rings the bell: one per database, by an advisory lock of PostgreSQL.

All else that a scheduler does are statements that may be repeated and need no such choice. A bell may be repeated, too,
but it is a message to somebody: two schedulers would send two for each idle slot.
"""

import contextlib
import logging

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from db.session import Database

KEY = 0x67726964  # of the lock; each database has its own
# A ringer that is gone without a word, as by a cut cable, would hold the lock for the hours of the server's keepalives.
SILENT_SECONDS = 30
logger = logging.getLogger(__name__)


class Ringer:
    """The right to ring, held by a connection of its own for as long as that lives. For one thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._held = False

    def may_ring(self) -> bool:
        """Whether this scheduler is the one that rings. On SQLite all are: they are of one machine, and seldom two."""
        if self._database.dialect == "sqlite":
            return True
        try:
            return self._ask()
        except SQLAlchemyError as error:  # another may have it by now
            logger.debug("the right to ring is lost: %s", error)
            self.close()
            return False

    def _ask(self) -> bool:
        if self._connection is None:
            self._connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.execute(text(f"SET idle_session_timeout = '{SILENT_SECONDS}s'"))
        if self._held:
            self._connection.execute(text("SELECT 1"))  # still there, and not idle
        else:
            self._held = bool(self._connection.scalar(select(func.pg_try_advisory_lock(KEY))))
        return self._held

    def close(self) -> None:
        """Let another one ring."""
        connection, self._connection, self._held = self._connection, None, False
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.invalidate()  # in the pool it would keep the lock
                connection.close()
