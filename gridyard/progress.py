"""How a sweep goes, while it goes: a live bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from db.status import SweepStatus
from jobs.errors import DatabaseError
from jobs.plain import printable

POLL_SECONDS = 0.5  # between two looks at the database
LINE_SECONDS = 2.0  # between two plain lines
REMIND_SECONDS = 60.0  # between two lines about a trouble that lasts
WINDOW_SECONDS = 30.0  # over which jobs per second are counted
PATIENCE_SECONDS = 600.0  # a database that is away for longer ends the waiting


def follow(
    ask: Callable[[], SweepStatus],
    *,
    tend: Callable[[], None] = lambda: None,
    deadline: float | None = None,
    show: Callable[[SweepStatus], None] | None = None,
) -> SweepStatus:
    """Show how a sweep goes until every job is final; the last status.

    Args:
        tend: called at each look, to look after local workers.
        deadline: of `time.monotonic()`.
        show: called at each look, in place of showing the progress on stderr.

    Raises:
        TimeoutError: it is past the deadline.
        DatabaseError: the database was away for PATIENCE_SECONDS.
    """
    with _shown() if show is None else nullcontext(show) as show:
        while True:
            found = _ask_patiently(ask, deadline)
            show(found)
            if found.finished:
                return found
            tend()
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"sweep {found.sweep} has {found.total - found.done} jobs that are not final yet")
            time.sleep(POLL_SECONDS)


def _ask_patiently(ask: Callable[[], SweepStatus], deadline: float | None) -> SweepStatus:
    away_since = None
    while True:
        try:
            return ask()
        except DatabaseError as error:
            if away_since is None:
                away_since = time.monotonic()
                print(f"{error}; trying again", file=sys.stderr)
            if time.monotonic() > min(away_since + PATIENCE_SECONDS, deadline or float("inf")):
                raise
            time.sleep(POLL_SECONDS)


class Pace:
    """Jobs per second over the last while, counted from the first job that ended: warming up is no pace."""

    def __init__(self) -> None:
        self._before: int | None = None  # jobs done when we came
        self._seen: deque[tuple[float, int]] = deque()  # (seconds, jobs done)

    def add(self, seconds: float, done: int) -> None:
        if self._before is None:
            self._before = done
        if done > self._before:
            self._seen.append((seconds, done))
        while len(self._seen) > 2 and self._seen[1][0] <= seconds - WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def per_second(self) -> float | None:
        """None until two jobs have ended, one after the other, while we looked."""
        if not self._seen:
            return None
        (start, before), (end, done) = self._seen[0], self._seen[-1]
        return (done - before) / (end - start) if done > before else None


def describe(status: SweepStatus, per_second: float | None) -> str:
    """What a line of progress says after "sweep 3: 12/36 jobs"."""
    parts = [f"{status.jobs['running']} running{_reached(status)}", f"{status.jobs['failed']} failed"]
    parts += [f"{status.jobs[state]} {state}" for state in ("waiting", "cancelled") if status.jobs[state]]
    if status.best is not None:
        parts.append(f"best {printable(status.metric)} {status.best:.4g} (job {status.best_job})")
    left = status.total - status.done
    if per_second and left:
        parts += [f"{per_second:.3g} jobs/s", f"{duration(left / per_second)} left"]
    if status.state != "open" and not status.finished:
        parts.append(status.state)
    return ", ".join(parts)


def _reached(status: SweepStatus) -> str:
    """The epochs of running jobs: without them a sweep of few long jobs would seem to stand still."""
    least, most = status.least_epoch, status.most_epoch
    if not most:
        return ""
    return f" at epoch {most if least == most else f'{least} to {most}'} of {status.epochs}"


def duration(seconds: float) -> str:
    """7 s, 3 min 20 s, 2 h 5 min, 10 days 3 h; infinite: not known."""
    if math.isinf(seconds):
        return "an unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} days {whole % 86_400 // 3600} h"


@contextmanager
def _shown() -> Iterator[Callable[[SweepStatus], None]]:
    with _bar() if sys.stderr.isatty() else _lines() as show:
        pace, say_troubles = Pace(), _troubles()

        def show_with_pace(status: SweepStatus) -> None:
            pace.add(time.monotonic(), status.done)
            show(status, describe(status, pace.per_second))
            say_troubles(status)

        yield show_with_pace


def _troubles() -> Callable[[SweepStatus], None]:
    """Says what goes wrong in workers: each when it begins, and once a minute while it lasts."""
    said_at: dict[tuple[str, str], float] = {}

    def say(status: SweepStatus) -> None:
        now = time.monotonic()
        for one in status.troubles:
            if now - said_at.get((one.worker, one.kind), float("-inf")) >= REMIND_SECONDS:
                print(printable(str(one)), file=sys.stderr, flush=True)
                said_at[one.worker, one.kind] = now

    return say


@contextmanager
def _lines() -> Iterator[Callable[[SweepStatus, str], None]]:
    """A line at the start, at the end, and between them when something has changed."""
    last, shown_at = "", float("-inf")

    def show(status: SweepStatus, description: str) -> None:
        nonlocal last, shown_at
        line = f"sweep {status.sweep}: {status.done}/{status.total} jobs, {description}"
        due = time.monotonic() - shown_at >= LINE_SECONDS
        if line != last and (due or status.finished):
            print(line, file=sys.stderr, flush=True)
            last, shown_at = line, time.monotonic()

    yield show


@contextmanager
def _bar() -> Iterator[Callable[[SweepStatus, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("sweep {task.fields[sweep]}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),  # a metric of a user is no markup
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", sweep="", total=None)

        def show(status: SweepStatus, description: str) -> None:
            progress.update(
                bar, total=status.total, completed=status.done, description=description, sweep=str(status.sweep)
            )

        yield show
