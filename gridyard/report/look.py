"""All that a report tells of a job: its record, and its best model on the test part where that can be had."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from db.results import JobDetails
from gridyard.report import facts
from jobs.errors import GridyardError, InputError
from jobs.states import standing

if TYPE_CHECKING:
    from gridyard.job import Job
    from gridyard.report.drawing import Panel
    from jobs.evaluation import Tested

TOLERANCE = 1e-3  # relative: other devices give other last digits, other data or code give other numbers


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of a job."""

    details: JobDetails
    tested: "Tested | None"
    missing: tuple[str, ...]  # what a reader may look for in vain, and why

    @property
    def title(self) -> str:
        return f"Job {self.details.job}: {self.details.task}"

    @property
    def trained(self) -> bool:
        """Whether it learned anything; else it only wrote texts."""
        return any(name.startswith("train_") for epoch in self.details.history for name in epoch)

    @property
    def units(self) -> dict[str, str]:
        """Metric -> unit, where it is known."""
        return facts.units(self.details, self.tested.unit if self.tested else "")

    @cached_property
    def learning(self) -> "list[Panel]":
        """Curves over the epochs; a job of one epoch that learned nothing has none."""
        from gridyard.report import curves

        details = self.details
        return curves.panels(details.history, details.best_epoch, self.units) if self.trained else []

    @cached_property
    def testing(self) -> "list[Panel]":
        """The test part in pictures."""
        from gridyard.report import classes, values
        from jobs.scores import Classification

        if self.tested is None:
            return []
        found, importance = self.tested.scores, values.importance(self.tested)
        if isinstance(found, Classification):
            return [*classes.panels(found), *importance]
        return [*values.panels(self.tested, found), *importance]

    @cached_property
    def pictures(self) -> "list[Panel]":
        """Of mistakes on images."""
        from gridyard.report import classes
        from jobs.scores import Classification

        if self.tested is None or not isinstance(self.tested.scores, Classification):
            return []
        return classes.pictures(self.tested, self.tested.scores)


def look(job: "Job") -> Result:
    """A job's record, and its best model on the test part.

    Raises:
        NotFound: there is no such job.
        InputError: it has done nothing yet that could be shown.
    """
    details = job.details()
    if not details.history and not details.samples and details.best_epoch is None:
        why = "no epoch yet" if details.history_whole else "no epoch that can be read: its history is damaged"
        raise InputError(
            f"job {job.id} {standing(details.state)} and has {why}, so there is nothing to report; "
            f"`gridyard show {job.id}` shows how it stands"
        )
    lost = () if details.history_whole else ("A part of its history is damaged: the learning curves lack it.",)
    tested, missing = _tested(job, details)
    return Result(details=details, tested=tested, missing=(*lost, *missing))


def _tested(job: "Job", details: JobDetails) -> "tuple[Tested | None, list[str]]":
    """Its best model on the test part, where that can be had, and what there is to know of that."""
    if details.best_epoch is None:  # nor an earlier result
        return None, [_unfinished(details)]
    if facts.is_language(details.task):
        return None, []
    try:
        tested = _evaluated(job, details)
    except GridyardError as error:
        return None, [f"The test part was not predicted again: {error}."]
    return tested, _different(details, tested)


def _unfinished(details: JobDetails) -> str:
    how = f"it {details.state} ({details.reason})" if details.reason else f"it is {details.state}"
    return (
        f"This job has not succeeded: {how}, after epoch {details.epoch}. There are no test metrics, no best model and "
        "nothing of the test part; the learning curves end where it stands."
    )


def _evaluated(job: "Job", details: JobDetails) -> "Tested":
    from jobs import evaluation

    data, device = details.environment.get("data"), job.yard.settings.device
    return evaluation.evaluate(job.spec(), job.load(), fingerprint=data, device=device)


def _different(details: JobDetails, tested: "Tested") -> list[str]:
    """A warning for each recorded test metric that came out otherwise."""
    found = []
    for name in ("accuracy", "mse", "rmse", "mae", "r2"):
        recorded, here = details.metrics.get(f"test_{name}"), getattr(tested.scores, name, None)
        if recorded is not None and here is not None and abs(here - recorded) > TOLERANCE * max(abs(recorded), 1e-9):
            found.append(
                f"The recorded test {name} is {recorded:.6g}, but predicted again it is {here:.6g}: this machine, or "
                "the code of the task, is not as it was. The recorded one counts."
            )
    return found
