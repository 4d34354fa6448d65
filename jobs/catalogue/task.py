"""What the catalogue knows of a task without loading its code."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.errors import InputError
from jobs.own import OwnTask
from jobs.params import Params, TrainingParams
from jobs.spec import Json, Objective

HIGHER_IS_BETTER = frozenset(
    {"accuracy", "balanced_accuracy", "f1", "roc_auc", "r2", "distinct_1", "distinct_2", "tokens_per_second"}
)


def mode(metric: str, modes: Mapping[str, str]) -> str:
    """ "max" for val_accuracy and val_r2, "min" for losses and errors, unless `modes` has the metric's own."""
    name = metric.removeprefix("val_")
    return modes.get(name) or ("max" if name in HIGHER_IS_BETTER else "min")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something we can train."""

    name: str
    summary: str  # one line: data, and what is predicted
    params: type[Params]  # TrainingParams where something is trained
    metrics: tuple[str, ...]  # besides loss; each is reported as train_…, val_… and, at the best epoch, test_…
    objective: Objective  # used when the sweep names none
    epochs: int  # used when the sweep names none
    module: str  # holds its code; see jobs/tasks
    data: tuple[str, ...] = ()  # the data sets it needs, by their names in jobs/data
    prepare: str = ""  # a torch-free module whose `prepare(params) -> Prepared` looks at the user's data at submission
    fixed_only: tuple[str, ...] = ()  # parameters that `prepare` reads: the same for all cells
    trains: bool = True  # or its jobs have one epoch in which nothing is learned
    modes: Mapping[str, str] = field(default_factory=dict, hash=False)  # "max" or "min" of metrics that are its own
    own: OwnTask | None = None  # the user's code, in place of `module`
    source: str = "gridyard"  # where it comes from

    @property
    def rowwise(self) -> frozenset[str]:
        """Parameters in which jobs that train together may differ; none where nothing is trained."""
        return self.params.rowwise if issubclass(self.params, TrainingParams) else frozenset()

    @property
    def validation_metrics(self) -> list[str]:
        """What an objective or early stopping may name."""
        return [f"val_{name}" for name in ("loss", *self.metrics) if self.trains or name != "loss"]

    def mode(self, metric: str) -> str:
        """Whether more of a metric is better: "max" or "min"."""
        return mode(metric, self.modes)


@dataclass(frozen=True)
class Refused:
    """A parameter's value that the user's data do not allow."""

    param: str
    value: object
    reason: str


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a look at the user's data gave, before its sweep is stored."""

    params: Json = field(default_factory=dict)  # to be fixed in the sweep: fingerprint, kind of problem, full paths
    metrics: tuple[str, ...] | None = None  # those of the task that fit the data; None: all
    objective: Objective | None = None  # None: the task's
    refused: tuple[Refused, ...] = ()  # what no cell may have with these data


class Unfit(InputError):
    """The user's data, or what was said of them, cannot be used."""

    def __init__(self, param: str, message: str) -> None:
        self.param = param  # the parameter that is wrong
        super().__init__(message)


class Unusable(InputError):
    """What was named as a task of the user's own is none."""
