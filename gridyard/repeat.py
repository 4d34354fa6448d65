"""Train a job again from its record, and compare every number with what was recorded."""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from db.results import JobDetails
from gridyard import bars
from jobs.errors import InputError, JobsFailed, NotFound, StoreError
from jobs.spec import Answer, Assignment, EpochReport, Failure, JobSpec, Json, TrainResult
from jobs.states import standing

if TYPE_CHECKING:
    from gridyard.job import Job

LOOSE = 0.01  # tolerance where another device, another torch or other threads may change the last digits
EXACT_ON = ("device", "mapped", "threads", "torch", "numpy", "platform")  # equal on a CPU: equal bit for bit
TIMED = ("seconds", "tokens_per_second")  # measures of the machine, not of the training

Numbers = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A number that is not what it was."""

    epoch: int | None  # None: of the result
    metric: str
    recorded: float | None  # None: not finite, or not there
    repeated: float | None

    @property
    def absolute(self) -> float:
        """Infinite where only one of both is a number."""
        if self.recorded is None or self.repeated is None:
            return math.inf
        return abs(self.recorded - self.repeated)

    @property
    def relative(self) -> float:
        """To the larger of both."""
        if self.recorded is None or self.repeated is None:
            return math.inf
        return self.absolute / max(abs(self.recorded), abs(self.repeated))


@dataclass(frozen=True, kw_only=True)
class Changed:
    """Something of the environment that is not what it was: a likely cause."""

    name: str
    recorded: Any
    repeated: Any


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """How a job that was trained again compares with its record."""

    job: int
    equal: bool  # bit for bit: all recorded numbers of all epochs, the best model's weights, the texts
    passed: bool  # equal, or no number of the result is further off than the tolerance
    tolerance: float  # relative; 0: bit for bit
    epochs: int  # trained this time
    seconds: float  # of training, this time
    first: Difference | None  # in the history: the first epoch and metric that differ
    result: list[Difference]  # numbers of the result that differ
    weights: bool  # equal bit for bit
    weights_off: float | None  # largest difference of a weight; None: not known, or of another shape
    texts: bool  # a language model wrote the same
    history_whole: bool = True  # false: epochs of the record are damaged, and were not compared
    environment: list[Changed] = field(default_factory=list)


def repeat(job: "Job", tolerance: float | None = None) -> Repeated:
    """Train a job again, here, in a store of its own that is removed, and compare.

    Args:
        tolerance: the largest relative difference of a number of the result that passes; 0: all must be equal bit for
            bit. Default: 0 on a CPU with the recorded versions and threads, else LOOSE.

    Raises:
        InputError: the job has not succeeded.
        JobsFailed: it cannot be trained again: its data has changed, or its training fails.
    """
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise InputError(f"the tolerance is a number from 0 on, not {tolerance}")
    details = job.details()
    if details.best_epoch is None:  # nor an earlier result
        raise InputError(f"job {job.id} {standing(details.state)}; only a job that has succeeded can be repeated")
    result = _trained(job, details)
    return compare(details, result, job.content, tolerance)


def _trained(job: "Job", details: JobDetails) -> TrainResult:
    import torch

    from jobs import engine
    from jobs.store import Store

    options = engine.Options(
        device=_device(job.yard.settings.device, details.environment.get("device", "cpu")),
        threads=details.environment.get("threads", job.yard.settings.threads),
        compile=_compiled(details.environment),
        checkpoint_seconds=math.inf,
        small_model_bytes=1 << 62,
    )
    engine.check(options)
    assignment = Assignment(spec=job.spec(), attempt=1)
    before = torch.get_num_threads()
    try:
        _refuse_other_data(assignment, options.device, details.environment.get("data"))
        with tempfile.TemporaryDirectory(prefix="gridyard-") as folder, _progress(assignment.spec) as report:
            (outcome,) = engine.train([assignment], store=Store(folder), options=options, report=report)
    finally:
        torch.set_num_threads(before)  # those of whoever called us
    if isinstance(outcome, Failure):
        raise _not_again(job.id, outcome)
    assert isinstance(outcome, TrainResult)  # nobody told it to stop
    return outcome


def _compiled(environment: Json) -> bool:
    """Whether its network was compiled; how, depends on what the trainer had compiled before."""
    return bool(environment.get("pack", {}).get("mode") == "compiled")


def _device(setting: str, recorded: str) -> str:
    """The device to repeat on: that of the settings, else the recorded one if it is here."""
    from jobs import devices

    recorded = recorded.split()[0]
    return recorded if setting == "auto" and recorded in devices.available() else setting


def _refuse_other_data(assignment: Assignment, device: str, recorded: str | None) -> None:
    """Look at the data before hours are spent on it."""
    from jobs import devices, ends, hall

    job = assignment.spec.job
    fresh = ends.guarded(assignment, 0, partial(hall.fresh, assignment, devices.choose(device)))
    if isinstance(fresh, Failure):
        raise _not_again(job, fresh)
    found = fresh.problem.fingerprint
    if recorded is not None and found != recorded:
        raise JobsFailed(
            f"the data of job {job} has changed: its fingerprint was {recorded[:12]}, here it is {found[:12]}; "
            "nothing was trained. Put the recorded data back, or submit the sweep again"
        )


def _not_again(job: int, failure: Failure) -> JobsFailed:
    return JobsFailed(f"job {job} cannot be trained again: {failure.reason}: {failure.error.splitlines()[0]}")


@contextmanager
def _progress(spec: JobSpec) -> Iterator[Callable[[Sequence[EpochReport], int], list[Answer]]]:
    """A bar with a step per epoch, as the engine's `report`."""
    metric = spec.objective.metric
    with bars.steps(f"job {spec.job}, epoch", spec.epochs) as advance:

        def report(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
            (epoch,) = epochs
            advance(f"{metric} {epoch.metrics.get(metric, math.nan):.4g}")
            return [Answer.GO_ON]

        yield report


def compare(
    details: JobDetails, result: TrainResult, content: Callable[[], bytes], tolerance: float | None = None
) -> Repeated:
    """What a job came to twice.

    Args:
        content: gives the recorded model's file.
    """
    environment = _changed(details.environment, result.environment)
    if tolerance is None:
        exact = result.environment["device"] == "cpu" and not {one.name for one in environment} & set(EXACT_ON)
        exact = exact and not _compiled(result.environment)
        tolerance = 0.0 if exact else LOOSE
    first = next(_epochs_that_differ(details, result.history.epochs()), None)
    numbers = _that_differ(None, details.metrics, result.metrics)
    off = _weights_off(details, result, content)
    texts = _texts(details.samples) == _texts(result.samples)
    equal = first is None and not numbers and off == 0 and texts
    return Repeated(
        job=details.job,
        equal=equal,
        passed=equal or (tolerance > 0 and all(one.relative <= tolerance for one in numbers)),
        tolerance=tolerance,
        epochs=result.epochs,
        seconds=result.seconds,
        first=first,
        result=numbers,
        weights=off == 0,
        weights_off=off,
        texts=texts,
        history_whole=details.history_whole,
        environment=environment,
    )


def _epochs_that_differ(details: JobDetails, repeated: list[dict[str, float]]) -> Iterator[Difference]:
    recorded: Iterable[Json | None] = details.history
    if not details.history_whole:
        left = {epoch["epoch"]: epoch for epoch in details.history}
        recorded = [left.get(number, now) for number, now in enumerate(repeated, start=1)]
    for number, (before, now) in enumerate(zip_longest(recorded, repeated), start=1):
        yield from _that_differ(number, before or {}, now or {})


def _that_differ(epoch: int | None, recorded: Numbers, repeated: Numbers) -> list[Difference]:
    names = [name for name in dict.fromkeys([*recorded, *repeated]) if name != "epoch" and not name.endswith(TIMED)]
    pairs = [(name, _finite(recorded.get(name)), _finite(repeated.get(name))) for name in names]
    return [
        Difference(epoch=epoch, metric=name, recorded=before, repeated=now)
        for name, before, now in pairs
        if before != now
    ]


def _finite(value: float | None) -> float | None:
    """As the database keeps it."""
    return value if value is None or math.isfinite(value) else None


def _weights_off(details: JobDetails, result: TrainResult, content: Callable[[], bytes]) -> float | None:
    """The largest difference of a weight; None where the recorded file is away or was freed, or holds other shapes."""
    from jobs import tensorfile

    assert result.best is not None  # a job that has succeeded has a model
    assert result.best.content is not None  # of whatever size
    if any(one.sha256 == result.best.sha256 for one in details.artifacts):
        return 0.0
    try:
        before, _ = tensorfile.unpack(content(), "the recorded model")
    except (StoreError, NotFound):
        return None
    now, _ = tensorfile.unpack(result.best.content, "the repeated model")
    if {name: one.shape for name, one in before.items()} != {name: one.shape for name, one in now.items()}:
        return None
    offs = [(before[name].double() - now[name].double()).abs().max().item() for name in now if now[name].numel()]
    return max(offs, default=0.0)


def _texts(samples: list[Json]) -> list[Json]:
    return [{name: value for name, value in sample.items() if not name.endswith(TIMED)} for sample in samples]


def _changed(recorded: Json, repeated: Json) -> list[Changed]:
    """What may change numbers. A pack does not, unless torch.func mapped the network over its jobs."""
    recorded, repeated = (
        {name: value for name, value in one.items() if name not in ("pack", "checkpoint_missed")}
        | {"mapped": one.get("pack", {}).get("mode") == "mapped"}
        for one in (recorded, repeated)
    )
    pairs = ((name, recorded.get(name), repeated.get(name)) for name in dict.fromkeys([*recorded, *repeated]))
    return [Changed(name=name, recorded=before, repeated=now) for name, before, now in pairs if before != now]
