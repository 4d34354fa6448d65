"""Memory that has ended, and memory that is free but not given back.

glibc keeps freed blocks under 32 MB for later, in a heap that grows as they come in changing order: a language model of
51,200 tokens took 13 MB more with each step, 12 GB after an epoch, of which 1 GB was in use.
"""

import ctypes
import errno
import sys
import time

import torch

EVERY_SECONDS = 10.0  # between two returns; what is given back must be taken again, 0.1 s for a GB

# What torch and its libraries say of it, in errors that have no class of their own.
_SAYINGS = ("can't allocate memory", "not enough memory", "std::bad_alloc", "out of memory", "_ALLOC_FAILED")


def out_of_memory(raised: BaseException | None) -> bool:
    """Whether a device's memory was too small, or the machine's; also where a task made another error of that."""
    while raised is not None:
        if isinstance(raised, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(raised, OSError) and raised.errno == errno.ENOMEM:
            return True
        if isinstance(raised, RuntimeError) and any(saying in str(raised) for saying in _SAYINGS):
            return True
        raised = raised.__cause__
    return False


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
