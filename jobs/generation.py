"""A job that trains nothing: its one epoch writes texts and measures them. The engine sees it as it sees a Row."""

import time

import torch
from torch import Tensor

from jobs.problem import Writing
from jobs.row import Best
from jobs.spec import Assignment, EpochReport, Json


class Generation:
    """The texts of one job."""

    def __init__(self, assignment: Assignment, device: torch.device, writing: Writing) -> None:
        self.assignment, self.spec, self.device = assignment, assignment.spec, device
        self.problem = writing
        self.history: list[EpochReport] = []
        self.best: Best | None = None
        self.samples: list[Json] = []
        self.resumed_from, self.diverged, self.done = 0, None, True

    @property
    def epoch(self) -> int:
        """The last one done."""
        return len(self.history)

    def advance(self) -> EpochReport:
        """Write the texts."""
        started = time.perf_counter()
        measured, self.samples = self.problem.write(self.device)
        metrics = {f"val_{name}": value for name, value in measured.items()}
        seconds = time.perf_counter() - started
        self.history.append(EpochReport(job=self.spec.job, epoch=1, metrics=metrics, seconds=seconds))
        self.best = Best(epoch=1, metrics=metrics)
        return self.history[-1]

    def test(self) -> dict[str, Tensor]:
        """Nothing: there are no rows apart from those that were ranked."""
        return {}

    def write(self) -> list[Json]:
        """The texts of its epoch."""
        return self.samples

    def facts(self) -> Json:
        """What its result depends on besides its spec."""
        return {"data": self.problem.fingerprint}
