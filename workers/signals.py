"""Who hears SIGTERM and Ctrl-C."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def heard_by(handler: Callable[..., object]) -> Iterator[None]:
    """Both call this while the block lasts, then what they called before. For the main thread, which hears signals."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
