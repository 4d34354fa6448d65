"""What goes wrong in a worker for a while: said in its log, and told to the register, where people see it."""

import logging
import threading

from jobs import logs

logger = logging.getLogger(__name__)

ENDS = "ends"


class Troubles:
    """Those that last, of one worker, each by its kind. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lasting: dict[str, str] = {}

    def met(self, kind: str, told: str) -> None:
        """It lasts, or has begun."""
        with self._lock:
            self._lasting[kind] = told

    def gone(self, kind: str) -> None:
        """It is over, or there was none."""
        with self._lock:
            self._lasting.pop(kind, None)

    def lasting(self) -> dict[str, str]:
        """Kind → what goes wrong, and why."""
        with self._lock:
            return dict(self._lasting)


class WaitingEnds:
    """How many ends of attempts the database does not take, and why: of all slots of a worker, and of its spool.

    A database may answer and refuse nothing but these, such as one that has lost a table. SQLite calls that by the same
    name as a file that is locked, so it is tried again for as long, and somebody must be told. Safe to use from every
    thread.
    """

    def __init__(self, troubles: Troubles) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[object, int] = {}
        self._troubles = troubles
        self._said = logs.Trouble(logger, "the database does not take what has ended", over="it takes ends again")

    def wait(self, whose: object, number: int, why: object) -> None:
        """So many of this slot's, or of the spool's, could not be recorded just now."""
        with self._lock:
            self._waiting[whose] = number
            total = sum(self._waiting.values())
            told = f"{total} {'end waits' if total == 1 else 'ends wait'}: {why}"
            self._troubles.met(ENDS, told)
            self._said.met(told)

    def leave(self, whose: object) -> None:
        """A slot leaves all of its own to the spool."""
        with self._lock:
            self._waiting.pop(whose, None)

    def recorded(self, whose: object) -> None:
        """None of this slot's, or of the spool's, waits."""
        with self._lock:
            self._waiting.pop(whose, None)
            if not self._waiting:
                self._troubles.gone(ENDS)
                self._said.gone()
