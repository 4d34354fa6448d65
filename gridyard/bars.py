"""A progress bar on stderr for work that this process does itself; nothing where stderr is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[str], None]  # one step further, with a few words on how it goes, or on what comes now
AdvanceBy = Callable[[int], None]  # so many steps further


@contextmanager
def steps(what: str, total: int | None = None) -> Iterator[Advance]:
    """A bar of so many steps; without a total it only counts them."""
    with _bar(what, total) as update:
        yield lambda words: update(1, words)


@contextmanager
def counted(what: str, total: int) -> Iterator[AdvanceBy]:
    """A bar of so many steps that go by several at once."""
    with _bar(what, total) as update:
        yield lambda steps: update(steps, "")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how far it is: so many steps of so many."""
    with _bar(what, None) as update:
        before = 0

        def show(done: int, total: int) -> None:
            nonlocal before
            update(done - before, "", total)
            before = done

        yield show


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[..., None]]:
    if not sys.stderr.isatty():
        yield lambda steps, words, total=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    # This stderr, also while others are silenced by another one in its place. What goes to stdout stays there.
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, redirect_stdout=False) as progress:
        bar = progress.add_task("", total=total)
        yield lambda steps, words, total=total: progress.update(bar, advance=steps, description=words, total=total)
