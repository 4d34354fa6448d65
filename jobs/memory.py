"""Memory that is free but not given back.

glibc keeps freed blocks under 32 MB for later, in a heap that grows as they come in changing order: a language model of
51,200 tokens took 13 MB more with each step, 12 GB after an epoch, of which 1 GB was in use.
"""

import ctypes
import sys
import time

EVERY_SECONDS = 10.0  # between two returns; what is given back must be taken again, 0.1 s for a GB


class Returner:
    """Gives free memory back to the system, now and then."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
        self._returned_at = time.monotonic()

    def tick(self) -> None:
        """To be called often."""
        if self._trim is not None and time.monotonic() - self._returned_at >= EVERY_SECONDS:
            self._trim(0)
            self._returned_at = time.monotonic()


HEAP = Returner()  # of this process
