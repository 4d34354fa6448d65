"""Which epoch of a job is the best, and when it no longer improves. Plain numbers: no tensors here."""

import math

from jobs.spec import EarlyStopping, JobSpec, Json


def better(value: float, other: float, mode: str) -> bool:
    """Whether value is strictly better than other; a number that is not finite is never better than one that is."""
    if not (math.isfinite(value) and math.isfinite(other)):
        return math.isfinite(value)
    return value > other if mode == "max" else value < other


class Stopper:
    """Early stopping of one job.

    The anchor is the last value that improved on the anchor before it by more than min_delta. After `patience` epochs
    without a new anchor the job stops.
    """

    def __init__(self, settings: EarlyStopping | None) -> None:
        self.settings = settings
        self.anchor: float | None = None
        self.waited = 0  # epochs since the anchor
        self.stopped = False

    def update(self, metrics: dict[str, float]) -> None:
        if self.settings is None:
            return
        value = metrics[self.settings.monitor]
        if self.anchor is None or self.improves(value, self.anchor):
            self.anchor, self.waited = value, 0
            return
        self.waited += 1
        self.stopped = self.waited >= self.settings.patience

    def improves(self, value: float, anchor: float) -> bool:
        assert self.settings is not None
        gain = value - anchor if self.settings.mode == "max" else anchor - value
        return better(value, anchor, self.settings.mode) and not gain <= self.settings.min_delta

    def state(self) -> Json:
        return {"anchor": self.anchor, "waited": self.waited, "stopped": self.stopped}

    def restore(self, state: Json) -> None:
        self.anchor, self.waited, self.stopped = state["anchor"], state["waited"], state["stopped"]


class Ranking:
    """Which of two epochs of a job is better: by early stopping's monitor, else by the objective; then by val_loss."""

    def __init__(self, spec: JobSpec) -> None:
        chooser = spec.early_stopping
        self.metric = chooser.monitor if chooser else spec.objective.metric
        self.mode = chooser.mode if chooser else spec.objective.mode

    def better(self, metrics: dict[str, float], best: dict[str, float]) -> bool:
        value, other = metrics[self.metric], best[self.metric]
        if value == other:
            return better(metrics["val_loss"], best["val_loss"], "min")
        return better(value, other, self.mode)
