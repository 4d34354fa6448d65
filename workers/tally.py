"""Things that end again and again: how often is too often."""

import time
from collections import deque


class Tally:
    """Counts what happens now and then, until it happens too often."""

    def __init__(self, most: int, seconds: float) -> None:
        """
        Args:
            most: so many times …
            seconds: … within so long are too many.
        """
        self._times: deque[float] = deque(maxlen=most)
        self._seconds = seconds

    def full(self) -> bool:
        """It has happened once more; whether that was too often. Then it begins to count anew."""
        self._times.append(time.monotonic())
        if len(self._times) < (self._times.maxlen or 0) or self._times[-1] - self._times[0] >= self._seconds:
            return False
        self._times.clear()
        return True
