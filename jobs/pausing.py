"""Where training can be left: between two batches of any kind, between two tokens of a text.

What can be left asks by `point`; who wants to leave it says when by `heeding`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Paused(BaseException):
    """Somebody wants to look around. No error: what handles errors must not catch it."""


def _never() -> bool:
    return False


_wanted: ContextVar[Callable[[], bool]] = ContextVar("wanted", default=_never)


@contextmanager
def heeding(wanted: Callable[[], bool]) -> Iterator[None]:
    """Within, `point` raises when this is true."""
    before = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(before)


def point() -> None:
    """Here one may leave: all that was begun is in a state from which it goes on.

    Raises:
        Paused: somebody wants to.
    """
    if _wanted.get()():
        raise Paused
