"""What the catalogue knows of a task without loading its code."""

from dataclasses import dataclass, field

from jobs.errors import InputError
from jobs.params import TrainingParams
from jobs.spec import Json, Objective


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something we can train."""

    name: str
    summary: str  # one line: data, and what is predicted
    params: type[TrainingParams]
    metrics: tuple[str, ...]  # besides loss; each is reported as train_…, val_… and, at the best epoch, test_…
    objective: Objective  # used when the sweep names none
    epochs: int  # used when the sweep names none
    module: str  # holds its code; see jobs/tasks
    data: tuple[str, ...] = ()  # the data sets it needs, by their names in jobs/data
    prepare: str = ""  # a torch-free module whose `prepare(params) -> Prepared` looks at the user's data at submission
    fixed_only: tuple[str, ...] = ()  # parameters that `prepare` reads: the same for all cells
    trains: bool = True  # or its jobs have one epoch in which nothing is learned

    @property
    def validation_metrics(self) -> list[str]:
        """What an objective or early stopping may name."""
        return [f"val_{name}" for name in ("loss", *self.metrics) if self.trains or name != "loss"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a look at the user's data gave, before its sweep is stored."""

    params: Json = field(default_factory=dict)  # to be fixed in the sweep: fingerprint, kind of problem, full paths
    metrics: tuple[str, ...] | None = None  # those of the task that fit the data; None: all
    objective: Objective | None = None  # None: the task's


class Unfit(InputError):
    """The user's data, or what was said of them, cannot be used."""

    def __init__(self, param: str, message: str) -> None:
        self.param = param  # the parameter that is wrong
        super().__init__(message)
