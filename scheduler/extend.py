"""Extends a sweep, also one that runs: more values, cells, seeds or epochs. What it has keeps its numbers and results.

A job that has trained all its epochs goes on from its last checkpoint, or trains from the start: both give what a job
gives that was submitted with so many epochs.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from db import extension
from db.extension import EXTENDED, START, Row, Stand, Todo
from db.session import Database
from jobs import settings
from jobs.errors import DatabaseError, InputError, SweepFileError
from jobs.spec import Json, SweepSpec
from scheduler import grid
from scheduler.params import frozen
from scheduler.places import Places, Problems
from scheduler.plain import plain
from scheduler.submit import CHUNK, PAUSE
from scheduler.validate import check_size, validate
from scheduler.wording import given, listed, suggestion

KEYS = ("grid", "cells", "seeds", "epochs")
PROLONGED = 1_000  # jobs of one transaction

Progress = Callable[[int, int], None]  # so many of so many jobs are stored


@dataclass(frozen=True, kw_only=True)
class Extended:
    """What an extension gave."""

    sweep: int
    cells: int  # new ones
    jobs: int  # new ones
    again: int  # jobs that had succeeded and train more epochs
    queue: str  # of their workers


def extend(database: Database, sweep: int, keys: Mapping[str, Any], *, progress: Progress | None = None) -> Extended:
    """Add what the sweep does not have yet: values of its grid's parameters, listed cells, seeds, epochs.

    When it is interrupted after the decision, the scheduler does the rest, or whoever asks for it again.

    Args:
        keys: `grid`, `cells`, `seeds`, `epochs`, as in a sweep file; seeds and epochs count those there are.
        progress: called after each chunk with the number of stored jobs and of all.

    Raises:
        NotFound: there is no such sweep.
        InputError: it cannot be extended, or not so; every problem is in the one error. Nothing is changed.
        DatabaseError: the database is away, or the sweep was deleted meanwhile.
    """
    again = 0
    while True:
        again += carry_on(database, sweep)  # of an extension before
        with database.reading() as session:
            before = extension.stand(session, sweep)
        wanted, epochs = _checked(before, keys)  # may look at the user's data: not while the sweep is locked
        wanted = replace(wanted, cells=_new_cells(database, before, wanted))
        with database.writing() as session:
            locked = extension.stand(session, sweep, lock=True)
            if locked.todo is not None or (locked.spec, locked.epochs) != (before.spec, before.epochs):
                continue  # somebody else was quicker: once more
            _check_state(locked)
            todo, cells, jobs = _decision(locked, wanted, extension.first_pack(session, sweep))
            if jobs or epochs > locked.epochs:
                extension.decide(session, locked, spec=wanted, epochs=epochs, todo=todo, jobs=jobs)
        again += carry_on(database, sweep, progress)
        return Extended(sweep=sweep, cells=cells, jobs=jobs, again=again, queue=before.spec.queue)


def carry_on(database: Database, sweep: int, progress: Progress | None = None, seconds: float | None = None) -> int:
    """Do what is left of a sweep's extension; the number of jobs that train more epochs.

    Args:
        seconds: for so long, without a sign of life: the scheduler is to find it again in its next round.

    Raises:
        NotFound: there is no such sweep.
        DatabaseError: the database is away.
    """
    steps, deadline = _Steps(database, sweep, progress), time.monotonic() + (seconds or float("inf"))
    while steps.step() and time.monotonic() < deadline:
        if seconds is None:
            with database.writing() as session:
                extension.touch(session, sweep)
    return steps.again


class _Steps:
    """One extension, transaction by transaction."""

    def __init__(self, database: Database, sweep: int, progress: Progress | None) -> None:
        self._database, self._sweep, self._progress = database, sweep, progress
        self._rows: Iterator[Row] = iter(())  # of the new cells, from this place on of this extension
        self._at: tuple[Todo, int] | None = None
        self._after = START
        self.again = 0

    def step(self) -> bool:
        """Do some; whether there is more to do."""
        with self._database.reading() as session:
            stand = extension.stand(session, self._sweep)
        if stand.todo is None or stand.state not in (*EXTENDED, "cancelled"):
            return False
        started = time.monotonic()
        if stand.stored < stand.total:
            self._store(stand, stand.todo)
        elif not self._prolong():
            return False
        if self._database.dialect == "sqlite":
            time.sleep(PAUSE * (time.monotonic() - started))
        return True

    def _store(self, stand: Stand, todo: Todo) -> None:
        rows = self._of_new_cells(stand, todo) or self._of_new_seeds(stand, todo)
        with self._database.writing() as session:
            if not extension.add_jobs(session, stand, rows):
                self._at = None
                return
        if not rows:
            told = f"sweep {stand.sweep} has {stand.stored} of {stand.total} jobs, and not those that it had"
            raise DatabaseError(f"{told} when it was extended")
        self._at = todo, stand.stored - todo.jobs + len(rows)
        if self._progress:
            self._progress(stand.stored + len(rows) - todo.jobs, stand.total - todo.jobs)

    def _of_new_cells(self, stand: Stand, todo: Todo) -> list[Row]:
        """The next of all seeds of the new cells."""
        at = stand.stored - todo.jobs
        if (todo, at) != self._at:
            self._rows = itertools.islice(_rows(stand.spec, todo), at, None)
        return list(itertools.islice(self._rows, CHUNK))

    def _of_new_seeds(self, stand: Stand, todo: Todo) -> list[Row]:
        """The next of the new seeds of the old cells, which come last."""
        seeds = todo.seeds
        if not seeds:
            return []
        first = todo.cell - (stand.total - stand.stored) // len(seeds)
        end = min(todo.cell, first + max(1, CHUNK // len(seeds)))
        with self._database.reading() as session:
            cells = extension.cells(session, self._sweep, stand.spec.seeds[0], first, end)
        return [(cell, seed, params, pack) for cell, params, pack in cells for seed in seeds]

    def _prolong(self) -> bool:
        with self._database.writing() as session:
            done = extension.prolong_some(session, self._sweep, self._after, PROLONGED)
        if done is None:
            return False
        self._after, again = done
        self.again += again
        return True


def _rows(spec: SweepSpec, todo: Todo) -> Iterator[Row]:
    cells = grid.added(spec, todo.grid) if todo.grid else grid.listed(replace(spec, cells=todo.cells))
    for number, (params, pack) in enumerate(cells, todo.cell):
        for seed in spec.seeds:
            yield number, seed, params, todo.pack + pack


def _decision(before: Stand, wanted: SweepSpec, pack: int) -> tuple[Todo, int, int]:
    """What there is to do; the number of new cells and of new jobs."""
    spec = before.spec
    old, seeds = before.total // len(spec.seeds), wanted.seeds[len(spec.seeds) :]
    sizes = {name: len(values) for name, values in spec.grid.items()}
    cells = grid.product_size(wanted.grid) - grid.product_size(spec.grid) + len(wanted.cells)
    todo = Todo(grid=sizes, cells=wanted.cells, seeds=seeds, jobs=before.total, cell=old, pack=pack)
    return todo, cells, cells * len(wanted.seeds) + old * len(seeds)


def _checked(before: Stand, keys: Mapping[str, Any]) -> tuple[SweepSpec, int]:
    """The sweep's spec with the values, cells and seeds it is to have, and its epochs.

    Raises:
        InputError: something is wrong; nothing is changed.
    """
    _check_state(before)
    spec, problems = before.spec, Problems(f"extension of sweep {before.sweep}", Places())
    for name in keys:
        if name not in KEYS:
            hint = suggestion(name, KEYS)
            problems.add((name,), f"cannot be extended{hint}Allowed: {listed(KEYS)}", at_key=True)
    asked = plain({name: keys[name] for name in KEYS if keys.get(name) is not None}, problems)
    _refuse_others(spec, asked, problems)
    grown = _validated(spec, asked, problems)
    epochs = asked.get("epochs", before.epochs)
    if isinstance(epochs, int) and epochs < before.epochs:
        problems.add(("epochs",), f"was given {epochs}; the sweep has {before.epochs}, and can only get more")
    number = grid.product_size(grown.grid) if spec.grid else before.total // len(spec.seeds) + len(grown.cells)
    check_size(number, grown.seeds, settings.load().max_cells, next(iter(asked), "grid"), problems)
    _raise_if_any(problems)
    return grown, epochs


def _check_state(before: Stand) -> None:
    if before.state not in EXTENDED:
        hint = f"; `gridyard resume {before.sweep}` first" if before.state == "cancelled" else ""
        raise InputError(f"sweep {before.sweep} is {before.state}, and cannot be extended{hint}")


def _refuse_others(spec: SweepSpec, asked: Json, problems: Problems) -> None:
    """Values of parameters that are the same for all cells, and cells beside a grid."""
    if spec.grid and "cells" in asked:
        problems.add(("cells",), f"the sweep has a grid, of {listed(spec.grid)}; give it values", at_key=True)
        del asked["cells"]
    values = asked.get("grid")
    if values is not None and not isinstance(values, dict):
        problems.add(("grid",), f"was given {given(values)}; allowed is a list of values for each parameter")
        del asked["grid"]
    elif values is not None and not spec.grid:
        problems.add(("grid",), "the sweep has no grid; give it cells, such as [{lr: 0.1}]", at_key=True)
        del asked["grid"]
    for name in list(asked.get("grid", {})):
        if name not in spec.grid:
            why = f"the same for all cells, {given(spec.fixed[name])}" if name in spec.fixed else "no parameter of it"
            message = f"is {why}{suggestion(name, spec.grid)}Allowed: {listed(spec.grid)}"
            problems.add(("grid", name), message, at_key=True)
            del asked["grid"][name]


def _validated(spec: SweepSpec, asked: Json, problems: Problems) -> SweepSpec:
    """The spec with what is asked for, by the rules of a sweep file."""
    data: Json = {"task": spec.task, "fixed": spec.fixed}
    data |= {name: asked[name] for name in ("seeds", "epochs") if name in asked}
    if spec.grid:
        data["grid"] = spec.grid | asked.get("grid", {})
    elif "cells" in asked:
        data["cells"] = asked["cells"]
    try:
        checked = validate(data, problems, spec.name, settings.load().max_cells)
    except SweepFileError:
        _raise_if_any(problems)
        raise
    if checked.fixed != spec.fixed:
        changed = [name for name in checked.fixed if checked.fixed[name] != spec.fixed.get(name)]
        problems.add(
            ("fixed",), f"{listed(changed)} would differ now: the task or its data has changed; submit it anew"
        )
    values = {name: _union(old, checked.grid[name]) for name, old in spec.grid.items()}
    seeds = _union(spec.seeds, checked.seeds) if "seeds" in asked else spec.seeds
    return replace(spec, grid=values, cells=checked.cells, seeds=seeds)


def _union(old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    known = {frozen(value) for value in old}
    return [*old, *(value for value in new if frozen(value) not in known)]


def _new_cells(database: Database, before: Stand, wanted: SweepSpec) -> list[Json]:
    """Those of the listed cells that the sweep does not have."""
    new = {frozen(wanted.fixed | cell): cell for cell in wanted.cells}
    end = before.total // len(before.spec.seeds) if new else 0
    for first in range(0, end, CHUNK):
        with database.reading() as session:
            some = extension.cells(session, before.sweep, before.spec.seeds[0], first, min(first + CHUNK, end))
        for _, params, _ in some:
            new.pop(frozen(wanted.fixed | params), None)
    return list(new.values())


def _raise_if_any(problems: Problems) -> None:
    if found := problems.in_order():
        raise SweepFileError(problems.source, found, not_done="changed")
