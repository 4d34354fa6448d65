"""How the attempts of a worker ended, counted: the heartbeat tells the register."""

import threading
from collections import Counter


class Outcomes:
    """Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()

    def count(self, came_to: str) -> None:
        """One more attempt ended so."""
        with self._lock:
            self._counted[came_to] += 1

    def counted(self) -> dict[str, int]:
        """How attempts ended → how many, since the worker started."""
        with self._lock:
            return dict(self._counted)
