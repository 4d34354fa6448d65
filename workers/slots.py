"""The slots of a worker: each takes one pack after the other until nothing is ready."""

import collections
import logging
from collections.abc import Callable

from jobs import logs
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
        self._out: dict[str, str] = {}  # number of a slot that is out of service → why
        self._resting = logs.Trouble(logger, "slots rest until the next look", over="slots claim again")
        self.broken: str | None = None  # why no trainer can be started
        self.by_chance = False  # another worker may fare better, here or elsewhere

    def warm_up(self) -> None:
        """Start the trainers, so that the first job need not wait for torch."""
        for slot in self._slots:
            slot.warm_up()

    def idle(self) -> int:
        """The number of slots that are not at work."""
        return len(self._idle)

    def busy(self) -> int:
        """The number of slots that are at work."""
        return self.in_service() - self.idle()

    def in_service(self) -> int:
        """The number of slots that take jobs."""
        return len(self._slots) - len(self._out)

    def out_of_service(self) -> dict[str, str]:
        """The numbers of slots that take no more jobs, with the reason."""
        return dict(self._out)

    def work(self) -> None:
        """Take an idle slot, if there is one, and let it work until nothing is ready."""
        try:
            slot = self._idle.popleft()
        except IndexError:  # a bell more than slots
            return
        try:
            slot.work(self._resting.gone)
        except TrainerDied as death:  # before it could be given a job: no job would fare better
            logger.error("no trainer can be started: %s", death)
            if slot.gpu is None:
                self._break(str(death), by_chance=death.by_chance)
            else:
                slot.fault = f"GPU {slot.gpu.name}: {death}"
        except DatabaseError as error:
            self._resting.met(error)
        except Exception:  # must not end with the message, unseen: Celery keeps no results here
            logger.exception("a slot stumbled")
        finally:
            if slot.fault is None:
                self._idle.append(slot)
            else:
                self._retire(slot, slot.fault)

    def _retire(self, slot: Slot, why: str) -> None:
        """It takes no more jobs until the worker starts again; the others go on, and without any the worker stops."""
        number = self._slots.index(slot)
        logger.error("slot %d is out of service: %s", number, why, extra=logs.extra(slot=number))
        slot.close()
        self._out = {**self._out, str(number): why}
        if not self.in_service():
            self._break("; ".join(dict.fromkeys(self._out.values())), by_chance=True)

    def _break(self, why: str, *, by_chance: bool) -> None:
        self.broken, self.by_chance = why, by_chance
        self._stop()

    def close(self) -> None:
        """End the trainers."""
        for slot in self._slots:
            slot.close()
