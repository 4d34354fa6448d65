"""The slots of a worker: each takes one pack after the other until nothing is ready."""

import collections
import logging
from collections.abc import Callable

from jobs.errors import DatabaseError
from workers.slot import Slot
from workers.supervisor import TrainerDied

logger = logging.getLogger(__name__)


class Slots:
    """All slots of one worker, idle or at work."""

    def __init__(self, slots: list[Slot], stop: Callable[[], None]) -> None:
        """
        Args:
            stop: stops the worker.
        """
        self._slots, self._stop = slots, stop
        self._idle = collections.deque(slots)
        self.broken: TrainerDied | None = None  # why no trainer can be started

    def warm_up(self) -> None:
        """Start the trainers, so that the first job need not wait for torch."""
        for slot in self._slots:
            slot.warm_up()

    def idle(self) -> int:
        """The number of slots that are not at work."""
        return len(self._idle)

    def busy(self) -> int:
        """The number of slots that are at work."""
        return len(self._slots) - self.idle()

    def work(self) -> None:
        """Take an idle slot, if there is one, and let it work until nothing is ready."""
        try:
            slot = self._idle.popleft()
        except IndexError:  # a bell more than slots
            return
        try:
            slot.work()
        except TrainerDied as death:  # before it could be given a job: no job would fare better
            logger.error("no trainer can be started: %s", death)
            self.broken = death
            self._stop()
        except DatabaseError as error:
            logger.warning("%s; trying again at the next look", error)
        except Exception:  # must not end with the message, unseen: Celery keeps no results here
            logger.exception("a slot stumbled")
        finally:
            self._idle.append(slot)

    def close(self) -> None:
        """End the trainers."""
        for slot in self._slots:
            slot.close()
