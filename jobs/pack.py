"""Jobs of one shape, trained together: rows of one matrix of weights. A single job is a pack of one.

    weights, gradients, best   (K, N), one row for each job
    inputs of a step           (K, B, …): each row has its own order of the training rows, and may have its own data
    losses                     (K, …): a row's loss is the mean of its own, so their gradients cannot mix

Rows join between epochs, and leave when they have ended or are to stop; each is at its own epoch, all are at the same
batch. In the middle of an epoch a pack can be left, and goes on from there, also with fewer rows.
"""

import time
from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from jobs import optimizers, pausing
from jobs.forward import FORWARDS, Mode
from jobs.group import Group, grouped
from jobs.optimizers import Numbers
from jobs.progress import Part, Progress
from jobs.progress import joined as side_by_side
from jobs.row import Row, State
from jobs.scaling import Scaled
from jobs.spec import EpochReport


class Pack:
    """The rows with their weights, optimizer and best weights."""

    def __init__(
        self, rows: Sequence[Row], mode: Mode, most: int, *, closed: bool = False, apart: bool = False
    ) -> None:
        """Rows of one `shape`.

        Args:
            most: so many at once.
            closed: nobody joins.
            apart: nobody joins yet: the rows are in the middle of an epoch, after which they join others.
        """
        self.mode, self.most, self.open, self.apart = mode, most, not closed, apart
        self.rows: list[Row] = []
        self.progress: list[Progress] = []  # of each group; none between two epochs
        self._begin(rows)

    def _begin(self, rows: Sequence[Row]) -> None:
        built = rows[0].built
        self.device = built.device
        self.weights = torch.zeros(0, built.layout.size, device=self.device)
        self.best = torch.zeros_like(self.weights)
        self.buffers = {name: value.new_zeros(0, *value.shape) for name, value in built.buffers.items()}
        self.best_buffers = dict(self.buffers)
        optimizer = optimizers.make(rows[0].params, built.layout.size, self.device)
        self.optimizer = Scaled(optimizer) if rows[0].params.precision == "float16" else optimizer
        self.add(rows)

    @property
    def room(self) -> int:
        """So many may join."""
        return max(self.most - len(self.rows), 0) if self.open and not self.apart else 0

    @property
    def done(self) -> bool:
        """Whether its rows have had all their epochs, and were stopped before they could be tested."""
        return all(row.done for row in self.rows)

    def change(self, mode: Mode, most: int) -> None:
        """Go on in another way."""
        self.most = most
        if mode != self.mode:
            for row, state in self.states():
                row.state = state
            rows, self.rows, self.mode, self.progress = self.rows, [], mode, []
            self._begin(rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows in, with their states; all must be at the batch at which those are that are here."""
        if not rows:
            return
        states = [row.take_state() for row in rows]
        under_way = [*self._rows_progress(), *(state.progress for state in states)]
        self.weights = joined(self.weights, [state.weights for state in states])
        bests = [state.weights if state.best_weights is None else state.best_weights for state in states]
        self.best = joined(self.best, bests)
        for name in self.buffers:
            self.buffers[name] = joined(self.buffers[name], [state.buffers[name] for state in states])
            kept = [(state.best_buffers or state.buffers)[name] for state in states]
            self.best_buffers[name] = joined(self.best_buffers[name], kept)
        self.optimizer.add([state.optimizer for state in states])
        self.rows += rows
        self._changed(under_way)

    def drop(self, jobs: Collection[int]) -> None:
        """Let the rows of these jobs go; the others move together."""
        if not jobs:
            return
        leaving = set(jobs)
        places = [place for place, row in enumerate(self.rows) if row.spec.job not in leaving]
        under_way = self._rows_progress()
        self.rows = [self.rows[place] for place in places]
        kept = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.weights, self.best = self.weights[kept], self.best[kept]
        self.buffers = {name: held[kept] for name, held in self.buffers.items()}
        self.best_buffers = {name: held[kept] for name, held in self.best_buffers.items()}
        self.optimizer.keep(kept)
        self._changed([under_way[place] for place in places])

    def _changed(self, under_way: Sequence[Progress | None]) -> None:
        """Other rows are here, which are so far in their epochs."""
        self.gradients = torch.zeros_like(self.weights)
        self.groups = grouped(self.rows, FORWARDS[self.mode]) if self.rows else []
        self.progress = []
        if begun := [one for one in under_way if one is not None]:
            assert len(begun) == len(self.rows), "nobody joins in the middle of an epoch"
            self.progress = [side_by_side(begun[here]) for here, _ in self.groups]
        for row in self.rows:
            row.together = max(row.together, len(self.rows))

    def _rows_progress(self) -> list[Progress | None]:
        return [self._progress_of(place) for place in range(len(self.rows))]

    def _progress_of(self, place: int) -> Progress | None:
        """How far a row is in its epoch."""
        if not self.progress:
            return None
        return self.progress[0].row(place) if FORWARDS[self.mode].together else self.progress[place].row(0)

    def release(self) -> None:
        """Hold no row and no memory any more."""
        self.rows, self.groups, self.progress = [], [], []
        self.weights = self.best = self.gradients = torch.zeros(0)
        self.buffers, self.best_buffers = {}, {}
        del self.optimizer

    def state(self, place: int) -> State:
        """A row's tensors as they are now, copied."""
        return State(
            weights=self.weights[place].clone(),
            buffers={name: held[place].clone() for name, held in self.buffers.items()},
            optimizer={name: value.clone() for name, value in self.optimizer.of(place).items()},
            best_weights=self.best[place].clone(),
            best_buffers={name: held[place].clone() for name, held in self.best_buffers.items()},
            progress=self._progress_of(place),
        )

    def states(self) -> list[tuple[Row, State]]:
        """All rows with their tensors."""
        return [(row, self.state(place)) for place, row in enumerate(self.rows)]

    def bind_best(self, place: int) -> nn.Module:
        """A row's network, with its best weights."""
        built = self.rows[place].built
        built.layout.bind(built.net, self.best[place], {name: held[place] for name, held in self.best_buffers.items()})
        return built.net

    def advance(self) -> list[EpochReport]:
        """Train an epoch of every row, evaluate it, and note what follows. The device is waited for once.

        Raises:
            Paused: somebody wants to look around; called again, it goes on from there.
        """
        started = time.perf_counter()
        try:
            if not self.progress:
                pausing.point()  # or rows that are to stop would be in the middle of an epoch of no batch
                self.progress = self._started(np.array([row.lr.of_epoch() for row in self.rows]))
            trained = self._train(self.progress)
            metrics = by_row({"train": trained, "val": self._evaluate("val", [one.val for one in self.progress])})
        finally:
            seconds = (time.perf_counter() - started) / len(self.rows)
            for row in self.rows:
                row.seconds += seconds
        rates = [rate for one in self.progress for rate in one.rates[:, -1].tolist()]
        self.progress = []
        for one, rate in zip(metrics, rates, strict=True):
            one["lr"] = rate
        better = [row.note(one) for row, one in zip(self.rows, metrics, strict=True)]
        self._keep([place for place, is_best in enumerate(better) if is_best])
        return [row.history[-1] for row in self.rows]

    def _keep(self, places: list[int]) -> None:
        """The weights of these rows are their best so far."""
        chosen = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.best[chosen] = self.weights[chosen]
        for name, held in self.buffers.items():
            self.best_buffers[name][chosen] = held[chosen]

    def train(self, rates: Numbers) -> dict[str, Tensor]:
        """An epoch of every row, of which nothing is noted: loss and metrics (K,) as it went.

        Args:
            rates: (K, steps) learning rates; fewer steps than an epoch has show how long they take.
        """
        return self._train(self._started(rates))

    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Loss and metrics (K,) of a part of each row's data, still on the device."""
        return self._evaluate(part, [Part() for _ in self.groups])

    def _started(self, rates: Numbers) -> list[Progress]:
        """At the first batch of an epoch."""
        return [Progress(rates[here]) for here, _ in self.groups]

    def _buffers_of(self, here: slice) -> dict[str, Tensor]:
        return {name: held[here] for name, held in self.buffers.items()}

    def _train(self, progress: Sequence[Progress]) -> dict[str, Tensor]:
        """What is left of an epoch of every row."""
        return together(
            [
                one.train.found or self._train_group(here, group, one)
                for (here, group), one in zip(self.groups, progress, strict=True)
            ]
        )

    def _train_group(self, here: slice, group: Group, progress: Progress) -> dict[str, Tensor]:
        rates, part = progress.rates, progress.train
        if not part.done:
            self.optimizer.begin(here)
        self.optimizer.prepare(here, group.params, [row.steps for row in group.rows], rates)
        weights, gradients, scales = self.weights[here], self.gradients[here], self.optimizer.scales(here)
        step = partial(self.optimizer.step, weights, gradients)
        return group.train(weights, gradients, self._buffers_of(here), step, rates.shape[1], part, scales)

    def _evaluate(self, name: str, parts: Sequence[Part]) -> dict[str, Tensor]:
        """What is left of the evaluation of every row."""
        return together(
            [
                part.found or group.evaluate(name, self.weights[here], self._buffers_of(here), part)
                for (here, group), part in zip(self.groups, parts, strict=True)
            ]
        )

    def test(self, places: Sequence[int]) -> list[dict[str, float]]:
        """Loss and metrics of the test parts of these rows, with their best weights."""
        chosen = torch.tensor(places, dtype=torch.int64, device=self.device)
        best = self.best[chosen]
        buffers = {name: held[chosen] for name, held in self.best_buffers.items()}
        groups = grouped([self.rows[place] for place in places], FORWARDS[self.mode])
        found = [
            group.evaluate("test", best[here], {name: held[here] for name, held in buffers.items()}, Part())
            for here, group in groups
        ]
        return by_row({"test": together(found)})


def joined(held: Tensor, new: Sequence[Tensor]) -> Tensor:
    """Further rows below those that are there."""
    return torch.cat([held, torch.stack([one.to(held.device) for one in new])])


def together(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What groups found, as if they were one."""
    return parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def by_row(parts: dict[str, dict[str, Tensor]]) -> list[dict[str, float]]:
    """{"val": {"loss": (K,)}} as K times {"val_loss": 0.5}, with one transfer from the device."""
    named = {f"{part}_{name}": value for part, values in parts.items() for name, value in values.items()}
    table = torch.stack(list(named.values()), 1).tolist()
    return [dict(zip(named, values, strict=True)) for values in table]
