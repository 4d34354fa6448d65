"""Training in float16: losses are multiplied so that small gradients do not vanish, each row's by its own factor.

The factor goes as in torch.amp.GradScaler: a row whose gradients are not finite leaves out this step and halves its
factor; after 2000 steps without that it doubles. Nothing waits for the device, and no row looks at another.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.optimizers import Numbers, Optimizer
from jobs.params import TrainingParams

START, GROWTH, BACKOFF, INTERVAL = 65536.0, 2.0, 0.5, 2000  # torch's defaults
LOST = 2.0**-24  # float16's smallest number: a factor below it keeps nothing from vanishing


class Scaled:
    """An optimizer that leaves out the steps of rows whose gradients are not finite."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner = inner
        # "before": what was skipped before this epoch.
        counts = {name: torch.tensor(0) for name in ("growth", "skipped", "before")}
        fresh = {"scale": torch.tensor(START), **counts}
        self.fresh = {name: value.to(inner.device) for name, value in fresh.items()}
        self.state = {name: value.new_zeros(0) for name, value in self.fresh.items()}  # (K,) each

    def keep(self, rows: Tensor) -> None:
        """Only these rows go on, in this order."""
        self.inner.keep(rows)
        self.state = {name: held[rows] for name, held in self.state.items()}

    def add(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Further rows, each with what `of` gave of it, or nothing."""
        self.inner.add([{name: held for name, held in one.items() if name not in self.fresh} for one in states])
        for name, value in self.fresh.items():
            new = [one.get(name, value).to(value.device) for one in states]
            self.state[name] = torch.cat([self.state[name], torch.stack(new)])

    def of(self, row: int) -> dict[str, Tensor]:
        """The state of a row."""
        return {**self.inner.of(row), **{name: held[row] for name, held in self.state.items()}}

    def scales(self, here: slice) -> Tensor:
        """The factors (K,) of these rows' losses; each step changes them in place."""
        return self.state["scale"][here]

    def begin(self, here: slice) -> None:
        """These rows begin an epoch."""
        self.state["before"][here] = self.state["skipped"][here]

    def prepare(self, here: slice, params: Sequence[TrainingParams], done: Sequence[int], rates: Numbers) -> None:
        """See `Optimizer.prepare`. Steps that were left out before this epoch do not count as done."""
        self.here, self.before = here, self.state["before"][here]
        self.inner.prepare(here, params, np.asarray(done) - read(self.before), rates)

    def step(self, weights: Tensor, gradients: Tensor, number: int) -> None:
        """The number-th step of the epoch, from 0; see `Optimizer.step`. gradients: those of the unscaled losses."""
        scale, growth, skipped = (self.state[name][self.here] for name in ("scale", "growth", "skipped"))
        fine = gradients.isfinite().all(1)
        self.inner.step_where(fine, weights, gradients, number - (skipped - self.before))
        grown = torch.where(fine, growth + 1, 0)
        due, larger = grown == INTERVAL, scale * GROWTH
        scale.copy_(torch.where(fine, torch.where(due & larger.isfinite(), larger, scale), scale * BACKOFF))
        growth.copy_(torch.where(due, 0, grown))
        skipped.add_(~fine)


def read(counts: Tensor) -> NDArray[np.int64]:
    """To be called before the first step, when the device has nothing to do."""
    return counts.numpy(force=True)


def unscaled(losses: Tensor, scales: Tensor) -> Tensor:
    """Losses (K,) of an epoch; not finite where the factor has fallen to nothing, and nothing more is learned."""
    return torch.where(scales < LOST, torch.nan, losses)
