"""Who trains with whom: the packs of one trainer."""

import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from jobs import built, checkpoint
from jobs.ends import failed, guarded
from jobs.forward import Mode
from jobs.generation import Generation
from jobs.memory import out_of_memory
from jobs.pack import Pack
from jobs.params import TrainingParams
from jobs.problem import Writing
from jobs.row import Row
from jobs.sizing import Choice, Sizes
from jobs.spec import Assignment, Failure
from jobs.store import Store

SIZES = Sizes()  # what this process has measured


def fresh(assignment: Assignment, device: torch.device) -> Row | Generation:
    """The job before its first epoch.

    Raises:
        InputError: the user's data or code cannot be used.
    """
    made, params = built.load(assignment.spec, device)
    if isinstance(made, Writing):
        return Generation(assignment, device, made)
    assert isinstance(params, TrainingParams)  # of every task that trains
    return Row(assignment, params, made)


class Hall:
    """Packs of jobs that train, and jobs that write texts."""

    def __init__(self, device: torch.device, store: Store, *, compiles: bool = False) -> None:
        """
        Args:
            compiles: networks of jobs that train alone are compiled.
        """
        self.device, self.store, self.compiles = device, store, compiles
        self.packs: list[Pack] = []
        self.texts: list[Generation] = []

    @property
    def jobs(self) -> set[int]:
        """All that train here."""
        return {row.spec.job for pack in self.packs for row in pack.rows}

    @property
    def busy(self) -> bool:
        return bool(self.packs or self.texts)

    def admit(self, assignments: Sequence[Assignment]) -> Iterator[Failure]:
        """Make jobs rows of packs, fresh or from their newest checkpoints; yields those that cannot begin."""
        arrived: list[Row] = []
        for assignment in assignments:
            row = guarded(assignment, 0, partial(self._start, assignment))
            if isinstance(row, Failure):
                yield row
            elif isinstance(row, Generation):
                self.texts.append(row)
            else:
                arrived.append(row)
        for rows in sorted_out(arrived):
            yield from self._placed(rows)

    def _start(self, assignment: Assignment) -> Row | Generation:
        row = fresh(assignment, self.device)
        if isinstance(row, Row):
            checkpoint.resume(row, self.store)
        return row

    def _placed(self, rows: Sequence[Row]) -> Iterator[Failure]:
        """As `_place`; what goes wrong, as where memory ends, scatters the packs they were to join."""
        try:
            self._place(rows)
        except Exception as raised:
            for pack in self._joined_by(rows[0]):
                yield from self.scatter(pack, raised)
            there = {row.spec.job for pack in self.packs for row in pack.rows}
            for row in rows:
                if row.spec.job not in there:
                    yield failed(row.assignment, row.epoch, raised)

    def _place(self, rows: Sequence[Row]) -> None:
        """Rows of one shape and place in their epochs: into its packs that have room, else into new ones."""
        packs = self._joined_by(rows[0])
        others = len(rows) - 1 + sum(len(pack.rows) for pack in packs) + max(row.assignment.more for row in rows)
        choice = SIZES.of(rows[0], others)
        if self.compiles and choice.mode is Mode.ALONE:
            choice = replace(choice, mode=Mode.COMPILED)
        for pack in packs:
            pack.change(choice.mode, choice.size)
            room = pack.room
            pack.add(rows[:room])
            rows = rows[room:]
        self._open(rows, choice)

    def _joined_by(self, row: Row) -> list[Pack]:
        """The packs that such rows may join: in the middle of an epoch none."""
        packs = [pack for pack in self.packs if pack.open and not pack.apart and pack.rows]
        return [pack for pack in packs if is_between(row) and pack.rows[0].shape == row.shape]

    def _open(self, rows: Sequence[Row], choice: Choice, *, closed: bool = False) -> None:
        """New packs; those that begin in the middle of an epoch go on by themselves until its end."""
        for alike in sorted_out(rows):
            for start in range(0, len(alike), choice.size):
                some = alike[start : start + choice.size]
                apart = not is_between(some[0])
                self.packs.append(Pack(some, choice.mode, choice.size, closed=closed, apart=apart))

    def gather(self) -> Iterator[Failure]:
        """Rows that began in the middle of an epoch, and have ended it, join others; yields those that fail."""
        for pack in [pack for pack in self.packs if pack.apart and pack.open and pack.rows]:
            self.packs.remove(pack)
            rows = pack.rows
            for row, state in pack.states():
                row.state = state
            pack.release()
            yield from self._placed(rows)

    def scatter(self, pack: Pack, raised: Exception) -> Iterator[Failure]:
        """Something went wrong in a pack: its jobs go on from their checkpoints, in two packs of half the size.

        So what was too large for the memory finds room, and a job that fails does so alone in the end.
        """
        self.packs.remove(pack)
        held, mode = pack.rows, pack.mode
        if len(held) == 1:
            yield failed(held[0].assignment, held[0].epoch, raised)
            return
        traceback.clear_frames(raised.__traceback__)  # and with them what the failed step had made
        pack.release()
        if out_of_memory(raised):
            SIZES.limit(held[0], len(held) // 2)
        size = (len(held) + 1) // 2
        choice = Choice(Mode.ALONE if size == 1 and mode is Mode.MAPPED else mode, size)
        rows = []
        for row in held:
            again = guarded(row.assignment, row.epoch, partial(self._start, row.assignment))
            if isinstance(again, Row):
                rows.append(again)
            elif isinstance(again, Failure):
                yield again
        self._open(rows, choice, closed=True)

    def take_texts(self) -> list[Generation]:
        """The jobs that write texts; each has but one epoch."""
        texts, self.texts = self.texts, []
        return texts

    def sweep_out(self) -> None:
        """Forget packs whose rows have all ended."""
        self.packs = [pack for pack in self.packs if pack.rows]


def is_between(row: Row) -> bool:
    """Whether it is at the beginning of an epoch: neither in the middle of one, nor after its last."""
    return row.at is None and not row.done


def sorted_out(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that may be in one pack: of one shape, and at one place in their epochs."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((row.shape, row.at, row.done), []).append(row)
    return list(found.values())
