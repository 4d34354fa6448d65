"""How the scheduler's loop goes: what its rounds did, and whether it goes at all."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from scheduler.round import STEPS, Round

STALLED_TICKS = 30  # so many ticks without the end of a round, and the loop stalls …
STALLED_SECONDS = 90.0  # … but not before: a statement may take 60 s until the database gives it up
AWAY_SECONDS = 60.0  # a database that is away, or a step that fails, for so long …
AWAY_TICKS = 3  # … and so many ticks is worth a word to whoever asks
disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nobody reads


class Pulse:
    """Written by the loop, read by whoever asks; safe to use from every thread."""

    def __init__(self, tick_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            clock: seconds that only grow.
        """
        self._clock = clock
        self._patience = max(STALLED_TICKS * tick_seconds, STALLED_SECONDS)
        self._ended = self._succeeded = clock()  # when a round last ended, and last did what it should
        self._error = ""  # of the last round; empty: it did what it should
        self._away = max(AWAY_TICKS * tick_seconds, AWAY_SECONDS)
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._rounds = Counter("gridyard_rounds", "Rounds of the scheduler's loop.", ["end"], registry=registry)
        for end in ("done", "database away", "error"):
            self._rounds.labels(end)
        self._seconds = Histogram(
            "gridyard_round_seconds", "Seconds of a round.", buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10), registry=registry
        )
        self._bells = Counter("gridyard_bells", "Bells rung.", registry=registry)
        rescued = "Jobs taken back from workers that went silent."
        self._rescues = Counter("gridyard_rescues", rescued, registry=registry)
        self._due = Counter("gridyard_due", "Waiting jobs that became ready again.", registry=registry)
        self._steps = Counter("gridyard_step_failures", "Steps of rounds that failed.", ["step"], registry=registry)
        for step in STEPS:
            self._steps.labels(step)
        self._failing: dict[str, tuple[float, str]] = {}  # step -> since when, and why the last time
        self._closed = Counter("gridyard_sweeps_closed", "Sweeps that have ended.", registry=registry)

    def done(self, did: Round, seconds: float) -> None:
        """A round has done what it should."""
        self._ended = self._succeeded = self._clock()
        self._error = ""
        self._rounds.labels("done").inc()
        self._seconds.observe(seconds)
        self._bells.inc(did.rung)
        self._rescues.inc(did.rescued)
        self._due.inc(did.due)
        self._closed.inc(did.closed)

    def failed(self, error: Exception, *, away: bool) -> None:
        """A round has ended early.

        Args:
            away: because the database does not answer.
        """
        self._ended, self._error = self._clock(), f"{type(error).__name__}: {error}"
        self._rounds.labels("database away" if away else "error").inc()

    def step_failed(self, step: str, error: Exception) -> None:
        """A step of a round has failed, which keeps no other from its turn."""
        self._steps.labels(step).inc()
        since, _ = self._failing.get(step, (self._clock(), ""))
        self._failing[step] = since, f"{type(error).__name__}: {error}"

    def step_done(self, step: str) -> None:
        """A step has done what it should."""
        self._failing.pop(step, None)

    def failing(self) -> dict[str, str]:
        """The steps that have failed for a while, whenever it was their turn, with why. A restart would help none."""
        now = self._clock()
        return {
            step: f"for {now - since:.0f} s: {why}"
            for step, (since, why) in sorted(self._failing.copy().items())
            if now - since >= self._away
        }

    def trouble(self) -> str | None:
        """Why the loop is not well; None: it is."""
        now = self._clock()
        if now - self._ended > self._patience:
            return f"the loop stalls: no round has ended for {now - self._ended:.0f} s"
        if self._error and now - self._succeeded > self._away:
            return f"no round has succeeded for {now - self._succeeded:.0f} s: {self._error}"
        return None
