"""How a worker stops: in order at the first SIGTERM or Ctrl-C, at once at the next, and in time in any case."""

import logging
import os
import signal
import threading
import time
from types import FrameType

from jobs.settings import Settings
from workers.holdings import Holdings

logger = logging.getLogger(__name__)

SAME_SECONDS = 0.5  # signals that come so close are one: a process may get it from its group and from its parent


class Departure:
    """What happens from the first signal until the process is gone.

    at once             nothing is claimed any more; trainers are told to stop at their next batch and write `last`
    75 % of the grace   a trainer that is still there is killed by its slot: of its jobs an older checkpoint counts
    95 % of the grace   the process ends, whatever it waits for; what is not recorded by then will be rescued
    a second signal     the process ends there and then
    """

    def __init__(self, holdings: Holdings, settings: Settings) -> None:
        self._holdings, self._settings = holdings, settings

    def ask(self) -> None:
        """Stop the worker as SIGTERM does, unless it is stopping already; from any thread."""
        if not self._holdings.draining.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    def ask_when_stdin_closes(self) -> None:
        """Stop in order when the process that started us ends, in whatever way: its end of our stdin closes then."""

        def wait() -> None:
            while os.read(0, 1024):  # not sys.stdin: its lock would be held when the interpreter ends
                pass
            self.ask()

        threading.Thread(target=wait, name="parent", daemon=True).start()

    def begin(self) -> None:
        """The first signal has come. To be called by the main thread, which hears signals."""
        if self._holdings.draining.is_set():
            return
        self._holdings.drain()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._again)
        last = threading.Timer(self._settings.worker_grace_seconds, self._too_late)
        last.daemon = True
        last.start()

    def _again(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._holdings.drained_at >= SAME_SECONDS:
            os.write(2, b"a second signal: the worker ends at once\n")
            os._exit(128 + number)  # its trainers end with it

    def _too_late(self) -> None:
        held = sorted(job for job, _ in self._holdings.attempts())
        logger.error("the grace time is over: jobs %s are not recorded, and will be rescued", held)
        os._exit(1)
