"""The learning rate over time: linear warm-up, then one of torch's schedulers, driven apart from the optimizer.

A scheduler turns the lr of an `LrHolder`, and the trainer copies it into the optimizer (or into one row of a pack). So
warm-up combines with every scheduler, also with plateau, which torch's SequentialLR refuses.
"""

from collections import defaultdict
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from jobs.params import CosineScheduler, OneCycleScheduler, PlateauScheduler, Scheduler, StepScheduler, TrainingParams
from jobs.spec import Json


class LrHolder(Optimizer):
    """An optimizer of nothing: a place for the learning rate that a torch scheduler turns."""

    def __init__(self, lr: float) -> None:
        # Not Optimizer.__init__, which refuses to hold no parameters.
        self.defaults = {"lr": lr}
        self.param_groups = [{"lr": lr, "params": []}]
        self.state = defaultdict(dict)
        self._opt_called = True  # or torch warns that the scheduler steps before its optimizer

    def step(self, closure: Any = None) -> Any:
        """Nothing to do; torch's schedulers look for it."""


class LearningRate:
    """One job's learning rate: `of_epoch` for the steps of the next epoch; then told how the epoch went."""

    def __init__(self, params: TrainingParams, *, epochs: int, steps: int) -> None:
        """`epochs` of the job, `steps` of one epoch."""
        self.steps, self.steps_done = steps, 0
        self.top, self.warmup_steps = params.lr, params.warmup_epochs * steps
        self.holder = LrHolder(params.lr)
        self.by_step = isinstance(params.scheduler, OneCycleScheduler)
        left = max(1, epochs - params.warmup_epochs)  # at least 1: torch refuses a schedule of no length
        self.scheduler = torch_scheduler(params.scheduler, self.holder, left, steps) if params.scheduler else None

    @property
    def value(self) -> float:
        if self.steps_done < self.warmup_steps:
            return self.top * (self.steps_done + 1) / self.warmup_steps
        return float(self.holder.param_groups[0]["lr"])

    def of_epoch(self) -> list[float]:
        """The learning rate of each step of the next epoch, which counts as done."""
        if self.steps_done < self.warmup_steps or (self.scheduler is not None and self.by_step):
            return [self._of_step() for _ in range(self.steps)]
        self.steps_done += self.steps
        return [self.value] * self.steps

    def _of_step(self) -> float:
        value = self.value
        self.after_step()
        return value

    def after_step(self) -> None:
        self.steps_done += 1
        if self.scheduler is not None and self.by_step and self.steps_done > self.warmup_steps:
            self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        if self.scheduler is None or self.by_step or self.steps_done <= self.warmup_steps:
            return
        if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(val_loss)
        else:
            self.scheduler.step()

    def state(self) -> Json:
        group = {name: value for name, value in self.holder.param_groups[0].items() if name != "params"}
        scheduler = self.scheduler.state_dict() if self.scheduler is not None else None
        return {"steps_done": self.steps_done, "group": group, "scheduler": scheduler}

    def restore(self, state: Json) -> None:
        self.steps_done = state["steps_done"]
        self.holder.param_groups[0].update(state["group"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])


def torch_scheduler(wanted: Scheduler, holder: LrHolder, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
    """torch's scheduler over so many epochs of so many steps."""
    match wanted:
        case StepScheduler():
            return lr_scheduler.StepLR(holder, wanted.step_size, wanted.gamma)
        case CosineScheduler():
            return lr_scheduler.CosineAnnealingLR(holder, epochs, wanted.min_lr)
        case PlateauScheduler():
            return lr_scheduler.ReduceLROnPlateau(
                holder, factor=wanted.factor, patience=wanted.patience, min_lr=wanted.min_lr
            )
        case OneCycleScheduler():
            return one_cycle(wanted, holder, epochs * steps)


def one_cycle(wanted: OneCycleScheduler, holder: LrHolder, steps: int) -> lr_scheduler.OneCycleLR:
    rise = wanted.pct_start * steps
    if abs(rise - 1) < 1e-6:
        rise = 1 + 1e-6  # torch divides by rise - 1
    return lr_scheduler.OneCycleLR(
        holder,
        max_lr=float(holder.param_groups[0]["lr"]),
        total_steps=steps,
        pct_start=rise / steps,
        div_factor=wanted.div_factor,
        final_div_factor=wanted.final_div_factor,
        cycle_momentum=False,
    )
