"""A job with which workers were lost trains alone in its worker: if that is lost too, no other job is to blame."""

import threading
from collections.abc import Callable

from jobs.spec import Claim


class Isolation:
    """Knows which slots of a worker have jobs. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0  # slots that have jobs, or are just claiming some
        self._suspect = False  # one of them has a suspect, and nobody else has anything

    def claim(self, take: Callable[[bool], list[Claim]]) -> list[Claim]:
        """What `take` claims, which is told whether the worker holds nothing else; nothing while a suspect trains."""
        with self._lock:
            if self._suspect:
                return []
            if not self._busy:  # and nobody may begin while we ask
                claims = take(True)
                self._busy, self._suspect = int(bool(claims)), any(claim.suspect for claim in claims)
                return claims
            self._busy += 1
        claims = []
        try:
            claims = take(False)
        finally:
            if not claims:
                self.leave()
        return claims

    def leave(self) -> None:
        """A slot is done with what it has claimed."""
        with self._lock:
            self._busy, self._suspect = self._busy - 1, False
