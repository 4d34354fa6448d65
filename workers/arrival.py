"""How a service begins: a database that cannot be reached is waited for, until somebody says that it is to stop."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from db import migrate
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseAway
from workers.signals import heard_by

logger = logging.getLogger(__name__)

WAITING = "waiting until it can be reached"
FIRST_SECONDS, MOST_SECONDS = 0.5, 10.0  # between two tries; doubled after each


class _Told(BaseException):
    """SIGTERM or Ctrl-C, wherever the wait is."""


def arrive(
    database: Database, away: Callable[[DatabaseAway], object], stopped: Callable[[], bool] = lambda: False
) -> bool:
    """Make the database ready to use, as `migrate.prepare`. For the main thread, which hears signals.

    Only a server that nobody could reach, or that is starting or stopping, is waited for: one that refuses us, by a
    wrong password or for want of the database, would refuse us again.

    Args:
        away: called after each try that did not reach it.
        stopped: whether a signal has come already, of one who heard them before.

    Returns:
        Whether it is ready; False: SIGTERM or Ctrl-C came first.

    Raises:
        DatabaseAway: an SQLite file is locked, the server takes connections but not ours, or libpq refuses the URL.
        DatabaseError: as `migrate.prepare`.
    """
    try:
        with _interrupted():
            if stopped():  # asked only here: from now on a signal is heard
                raise _Told
            _prepare(database, away)
    except _Told:
        logger.info("stopped before the database was ready")
        return False
    return True


def _prepare(database: Database, away: Callable[[DatabaseAway], object]) -> None:
    silent = logs.Trouble(logger, WAITING, over=f"database {database} is reached")
    rest, refused = FIRST_SECONDS, False
    while True:
        try:
            migrate.prepare(database)
            break
        except DatabaseAway as error:
            if database.takes_connections():
                if refused or database.dialect == "sqlite":
                    raise
                refused = True  # once more: it may have come between our try and that question
                continue
            refused = False
            silent.met(error)
            away(error)
        time.sleep(rest * random.uniform(0.8, 1.0))  # many workers wait for one server
        rest = min(2 * rest, MOST_SECONDS)
    silent.gone()


@contextmanager
def _interrupted() -> Iterator[None]:
    """SIGTERM and Ctrl-C end what is done within, also a try to connect: nothing is held yet that could be lost."""
    told = False

    def tell(*_: object) -> None:
        nonlocal told
        if not told:
            told = True
            raise _Told

    with heard_by(tell):
        yield
