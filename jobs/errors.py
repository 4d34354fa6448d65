"""Every error that Gridyard raises on purpose.

    GridyardError
    ├── InputError              the user's input is wrong; exit code 2
    │   ├── SettingsError       a GRIDYARD_… variable or gridyard.toml
    │   ├── NoTrainer           a worker cannot train with these settings, or on this machine
    │   ├── SweepFileError      a sweep file, with every problem and its place
    │   ├── UnknownTask         no such task
    │   ├── UnknownDataSet      no such data set
    │   ├── DataMissing         data are not here
    │   │   └── NotFetched      and could not be fetched; exit code 1, for that is work that failed
    │   ├── Unfit               the user's data, or what was said of them; in jobs/catalogue
    │   ├── Unusable            what was named as a task of the user's own; in jobs/catalogue
    │   └── NotFound            no such sweep or job in this database
    ├── DatabaseError           the database could not be used
    │   ├── DatabaseAway        it does not answer, or not in time: trying again may help
    │   ├── DatabaseOutdated    it needs `gridyard db upgrade`
    │   └── RowDamaged          a row does not hold what it should
    ├── StoreError              a file of the store could not be read or written
    │   └── CheckpointDamaged   it is not whole, or belongs to another job
    └── JobsFailed              work ended with failed jobs; exit code 1

A message says what was given, what is allowed and what to do.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

# As difflib measures: "files" is like "leese" by 0.6, and nobody meant it; "petal_lenght" is like "petal length (cm)"
# by 0.69.
LIKE, LIKE_BEGIN = 0.65, 0.8
BEGINS = 3  # letters by which a longer name is recognised


class GridyardError(Exception):
    """Gridyard could not do what was asked."""


class InputError(GridyardError):
    """The input is wrong."""

    elsewhere = False  # on another machine it may be right: a job that failed of it is tried again


class SettingsError(InputError):
    """A setting is wrong."""

    elsewhere = True


class NoTrainer(InputError):
    """A worker can start no trainer: a setting is wrong, or a package is missing; trying again would not help."""


class UnknownTask(InputError):
    """There is no such task."""

    elsewhere = True

    def __init__(self, name: str, known: Iterable[str], hint: str) -> None:
        """
        Args:
            hint: why one of the user's own may be missing.
        """
        known = sorted(known)
        super().__init__(f"there is no task {name!r}{did_you_mean(name, known)} Tasks: {', '.join(known)}; {hint}")


class UnknownDataSet(InputError):
    """There is no such data set."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        super().__init__(f"there is no data set {name!r}{did_you_mean(name, known)} Data sets: {', '.join(known)}")


class DataMissing(InputError):
    """Data are not on this machine."""

    elsewhere = True


class NotFetched(DataMissing):
    """Data are not on this machine and could not be fetched: nothing that was typed is wrong."""


class NotFound(InputError):
    """There is no such sweep or job."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a sweep, and where."""

    place: str  # "line 7, grid.lr[1]", or "grid.lr[1]" where no line is known
    message: str  # what was given, what is allowed, what to do

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class SweepFileError(InputError):
    """A sweep is wrong; `problems` has every one of them."""

    def __init__(self, source: str, problems: list[Problem], not_done: str = "submitted") -> None:
        self.source, self.problems = source, problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{source}: {count}, nothing was {not_done}{lines}")


class DatabaseError(GridyardError):
    """The database could not be used."""


class DatabaseAway(DatabaseError):
    """The database does not answer, or not in time."""


class DatabaseOutdated(DatabaseError):
    """The database has an older or newer schema than this version of Gridyard."""


class RowDamaged(DatabaseError):
    """A row does not hold what it should."""


class StoreError(GridyardError):
    """A file of the store could not be read or written."""


class CheckpointDamaged(StoreError):
    """A checkpoint is not whole, or belongs to another job."""


class JobsFailed(GridyardError):
    """Work ended, but some jobs failed."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: '; did you mean "lr"?', or '.' when none is near."""
    near = nearest(given, known)
    return f'; did you mean "{near}"?' if near else "."


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The name that was meant: one that is like it or begins so, or has the same letters; None: no name is near."""
    names = list(known)
    if near := difflib.get_close_matches(given, names, n=1, cutoff=LIKE):
        return near[0]
    begin = {name[: len(given)]: name for name in reversed(names)} if len(given) >= BEGINS else {}
    if near := difflib.get_close_matches(given, begin, n=1, cutoff=LIKE_BEGIN):
        return begin[near[0]]
    return next((name for name in names if sorted(name) == sorted(given)), None)
