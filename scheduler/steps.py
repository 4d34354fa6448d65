"""The steps of a round: one that fails keeps no other from its turn, and does not stay hidden."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from jobs import logs
from jobs.errors import DatabaseAway, GridyardError
from scheduler.pulse import Pulse
from scheduler.round import STEPS

logger = logging.getLogger(__name__)


class Steps:
    """Tells the log and the pulse which steps fail. For one thread."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._troubles: dict[tuple[str, str], logs.Trouble] = {}  # by step and what does not happen
        self._failed: set[str] = set()  # steps whose last turn failed, as a whole or in part

    @contextmanager
    def turn(self, step: str) -> Iterator[None]:
        """The step's turn in a round: whatever goes wrong in it is told, and the round goes on.

        Raises:
            DatabaseAway: the database is away, for all other steps too.
        """
        self._failed.discard(step)
        with self.part(step, STEPS[step]):
            yield
        if step not in self._failed:
            self._pulse.step_done(step)

    @contextmanager
    def part(self, step: str, undone: str) -> Iterator[None]:
        """A part of the step's turn that keeps no other part from its own.

        Raises:
            DatabaseAway: as `turn`.
        """
        try:
            yield
        except DatabaseAway:
            raise
        except Exception as error:
            self.fail(step, error)
            new = logs.Trouble(logger, undone, over=f"{undone}: that is over")
            trouble = self._troubles.setdefault((step, undone), new)
            trouble.met(error, trace=None if isinstance(error, GridyardError) else error)
        else:
            self._over(step, undone)

    def parts(self, step: str, undone: Collection[str]) -> None:
        """The step has these parts by now: another one that failed was seen to elsewhere, as by a user's command."""
        for of, told in list(self._troubles):
            if of == step and told not in (STEPS[step], *undone):
                self._over(step, told)

    def _over(self, step: str, undone: str) -> None:
        if (step, undone) in self._troubles:
            self._troubles.pop((step, undone)).gone()

    def fail(self, step: str, error: Exception) -> None:
        """The step has failed in this turn, and whoever saw it has said so."""
        self._failed.add(step)
        self._pulse.step_failed(step, error)
