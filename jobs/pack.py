"""Jobs of one shape, trained together: rows of one matrix of weights. A single job is a pack of one.

    weights, gradients, best   (K, N), one row for each job
    inputs of a step           (K, B, …): each row has its own order of the training rows, and may have its own data
    losses                     (K, …): a row's loss is the mean of its own, so their gradients cannot mix

Rows join between epochs and leave when they have ended; each is at its own epoch.
"""

import time
from collections.abc import Collection, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from jobs import optimizers
from jobs.forward import FORWARDS, Mode
from jobs.group import grouped
from jobs.optimizers import Numbers
from jobs.row import Row, State
from jobs.scaling import Scaled
from jobs.spec import EpochReport


class Pack:
    """The rows with their weights, optimizer and best weights."""

    def __init__(self, rows: Sequence[Row], mode: Mode, most: int, *, closed: bool = False) -> None:
        """Rows of one `shape`.

        Args:
            most: so many at once.
            closed: nobody joins.
        """
        self.mode, self.most, self.open = mode, most, not closed
        self.rows: list[Row] = []
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
        return max(self.most - len(self.rows), 0) if self.open else 0

    def change(self, mode: Mode, most: int) -> None:
        """Go on in another way."""
        self.most = most
        if mode != self.mode:
            for row, state in self.states():
                row.state = state
            rows, self.rows, self.mode = self.rows, [], mode
            self._begin(rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows in, with their states."""
        if not rows:
            return
        states = [row.take_state() for row in rows]
        self.weights = joined(self.weights, [state.weights for state in states])
        bests = [state.weights if state.best_weights is None else state.best_weights for state in states]
        self.best = joined(self.best, bests)
        for name in self.buffers:
            self.buffers[name] = joined(self.buffers[name], [state.buffers[name] for state in states])
            kept = [(state.best_buffers or state.buffers)[name] for state in states]
            self.best_buffers[name] = joined(self.best_buffers[name], kept)
        self.optimizer.add([state.optimizer for state in states])
        self.rows += rows
        self._changed()

    def drop(self, jobs: Collection[int]) -> None:
        """Let the rows of these jobs go; the others move together."""
        if not jobs:
            return
        leaving = set(jobs)
        places = [place for place, row in enumerate(self.rows) if row.spec.job not in leaving]
        self.rows = [self.rows[place] for place in places]
        kept = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.weights, self.best = self.weights[kept], self.best[kept]
        self.buffers = {name: held[kept] for name, held in self.buffers.items()}
        self.best_buffers = {name: held[kept] for name, held in self.best_buffers.items()}
        self.optimizer.keep(kept)
        self._changed()

    def _changed(self) -> None:
        self.gradients = torch.zeros_like(self.weights)
        self.groups = grouped(self.rows, FORWARDS[self.mode]) if self.rows else []
        for row in self.rows:
            row.together = max(row.together, len(self.rows))

    def release(self) -> None:
        """Hold no row and no memory any more."""
        self.rows, self.groups = [], []
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
        """Train an epoch of every row, evaluate it, and note what follows. The device is waited for once."""
        started = time.perf_counter()
        rates = np.array([row.lr.of_epoch() for row in self.rows])
        trained = self.train(rates)
        metrics = by_row({"train": trained, "val": self.evaluate("val")})
        for one, rate in zip(metrics, rates[:, -1].tolist(), strict=True):
            one["lr"] = rate
        seconds = (time.perf_counter() - started) / len(self.rows)
        better = [row.note(one, seconds) for row, one in zip(self.rows, metrics, strict=True)]
        self._keep([place for place, is_best in enumerate(better) if is_best])
        return [row.history[-1] for row in self.rows]

    def _keep(self, places: list[int]) -> None:
        """The weights of these rows are their best so far."""
        chosen = torch.tensor(places, dtype=torch.int64, device=self.device)
        self.best[chosen] = self.weights[chosen]
        for name, held in self.buffers.items():
            self.best_buffers[name][chosen] = held[chosen]

    def train(self, rates: Numbers) -> dict[str, Tensor]:
        """An epoch of every row: loss and metrics (K,) as it went.

        Args:
            rates: (K, steps) learning rates; fewer steps than an epoch has show how long they take.
        """
        found = []
        for here, group in self.groups:
            self.optimizer.prepare(here, group.params, [row.steps for row in group.rows], rates[here])
            buffers = {name: held[here] for name, held in self.buffers.items()}
            weights, gradients, scales = self.weights[here], self.gradients[here], self.optimizer.scales(here)
            step = partial(self.optimizer.step, weights, gradients)
            found.append(group.train(weights, gradients, buffers, step, rates.shape[1], scales))
        return together(found)

    def evaluate(self, part: str) -> dict[str, Tensor]:
        """Loss and metrics (K,) of a part of each row's data, still on the device."""
        return together(
            [
                group.evaluate(part, self.weights[here], {name: held[here] for name, held in self.buffers.items()})
                for here, group in self.groups
            ]
        )

    def test(self, places: Sequence[int]) -> list[dict[str, float]]:
        """Loss and metrics of the test parts of these rows, with their best weights."""
        chosen = torch.tensor(places, dtype=torch.int64, device=self.device)
        best = self.best[chosen]
        buffers = {name: held[chosen] for name, held in self.best_buffers.items()}
        groups = grouped([self.rows[place] for place in places], FORWARDS[self.mode])
        found = [
            group.evaluate("test", best[here], {name: held[here] for name, held in buffers.items()})
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
