"""One job while it trains: everything that is its own, but for its weights. None of them looks at another."""

import json
import math
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from jobs.built import Built
from jobs.params import TrainingParams
from jobs.progress import Progress
from jobs.schedules import LearningRate
from jobs.spec import Assignment, EpochReport, Json
from jobs.stopping import Ranking, Stopper


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best epoch so far."""

    epoch: int
    metrics: dict[str, float]  # of that epoch's report


@dataclass(kw_only=True)
class State:
    """The tensors of a row, while it is in no pack."""

    weights: Tensor  # (N,), as `Layout` has them
    buffers: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    best_weights: Tensor | None = None  # of the best epoch
    best_buffers: dict[str, Tensor] = field(default_factory=dict)
    progress: Progress | None = None  # in the epoch that is under way; None: between two


class Row:
    """A job's learning rate, early stopping, best epoch and history."""

    def __init__(self, assignment: Assignment, params: TrainingParams, built: Built) -> None:
        """Fresh, before its first epoch."""
        self.assignment, self.spec, self.params = assignment, assignment.spec, params
        self.built, self.problem = built, built.problem
        self.state: State | None = None  # before a pack takes it in; None: as it was built
        self.lr = LearningRate(params, epochs=self.spec.epochs, steps=len(built.batches))
        self.stopper, self.ranking = Stopper(self.spec.early_stopping), Ranking(self.spec)
        self.best: Best | None = None
        self.history: list[EpochReport] = []
        self.seconds = 0.0  # of the epoch that is under way
        self.resumed_from = 0
        self.unsaved: str | None = None  # the last checkpoint that could not be written, and why
        self.together = 1  # the most rows that a pack had while it was among them

    def take_state(self) -> State:
        """Its tensors, for the pack that takes it in."""
        state, self.state = self.state, None
        return state or State(weights=self.built.weights, buffers=self.built.buffers)

    @cached_property
    def shape(self) -> str:
        """Jobs of equal shapes may be rows of one pack."""
        params = self.params.model_dump(mode="json", exclude=set(self.params.rowwise))
        moving = self.params.momentum > 0  # rows without momentum have no state for it
        return json.dumps([self.spec.task, params, moving, self.built.shape])

    @property
    def epoch(self) -> int:
        """The last one trained."""
        return len(self.history)

    @property
    def at(self) -> tuple[int, int] | None:
        """Where in its epoch it is to go on, if not between two; see `Progress`."""
        return None if self.state is None or self.state.progress is None else self.state.progress.at

    @property
    def steps(self) -> int:
        """Optimizer steps done before this epoch."""
        return self.epoch * len(self.built.batches)

    @property
    def done(self) -> bool:
        return self.epoch >= self.spec.epochs or self.stopper.stopped

    @property
    def diverged(self) -> str | None:
        """The first loss of the last epoch that is not finite."""
        metrics = self.history[-1].metrics
        return next((name for name in ("train_loss", "val_loss") if not math.isfinite(metrics[name])), None)

    def note(self, metrics: dict[str, float]) -> bool:
        """An epoch has been trained and evaluated: what follows? Whether it is the best so far."""
        seconds, self.seconds = self.seconds, 0.0
        self.history.append(EpochReport(job=self.spec.job, epoch=self.epoch + 1, metrics=metrics, seconds=seconds))
        if self.diverged:
            return False
        better = self.best is None or self.ranking.better(metrics, self.best.metrics)
        if better:
            self.best = Best(epoch=self.epoch, metrics=metrics)
        self.stopper.update(metrics)
        self.lr.after_epoch(metrics["val_loss"])
        return better

    def write(self) -> list[Json]:
        """What the network writes with the weights it has; nothing, where it is no language model."""
        return [] if self.problem.write is None else self.problem.write()

    def facts(self) -> Json:
        """What its result depends on besides its spec."""
        parts = ("train", "val", "test")
        return {
            "data": self.problem.fingerprint,
            "rows": {name: len(getattr(self.problem, name)) for name in parts},
            "parameters": self.built.parameters,
            **({"notes": list(self.problem.notes)} if self.problem.notes else {}),
            **({"code": self.problem.code} if self.problem.code else {}),
            **({"checkpoint_missed": self.unsaved} if self.unsaved else {}),
        }
