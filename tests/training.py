"""What tests of the engine share: reports that are answered, and a job as a pack of its own."""

from collections.abc import Callable, Sequence

import torch

from jobs.engine import Report
from jobs.forward import Mode
from jobs.hall import fresh
from jobs.pack import Pack
from jobs.row import Row
from jobs.spec import Answer, Assignment, EpochReport, JobSpec, Outcome, TrainResult


def answering(say: Callable[[EpochReport], Answer]) -> Report:
    """A report in which each row is answered for itself."""

    def report(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
        return [say(epoch) for epoch in epochs]

    return report


go_on = answering(lambda epoch: Answer.GO_ON)


def content_of(outcome: Outcome) -> bytes:
    """The file of a small best model, which comes with the result."""
    assert isinstance(outcome, TrainResult), outcome
    assert outcome.best is not None
    assert outcome.best.content is not None
    return outcome.best.content


def row_of(spec: JobSpec, attempt: int = 1) -> Row:
    """The job before its first epoch."""
    row = fresh(Assignment(spec=spec, attempt=attempt), torch.device("cpu"))
    assert isinstance(row, Row)
    return row


def alone(row: Row) -> Pack:
    """A pack of one, as the engine makes it where nothing was measured."""
    return Pack([row], Mode.ALONE if row.built.stacked is None else Mode.STACKED, 1)
