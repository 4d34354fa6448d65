"""The facts that cross layers: frozen, plain, JSON-able. Rows of the database never leave `db/`."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import ConfigDict

from jobs.history import History
from jobs.states import RETRIED, FailureReason

Json = dict[str, Any]

# How facts travel as JSON: losses may be infinite, and models are bytes.
AS_JSON = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What ranks the jobs of a sweep."""

    metric: str  # a validation metric, such as "val_accuracy"
    mode: str  # "max" or "min"


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """Stop a job whose monitored metric no longer improves."""

    monitor: str = "val_loss"  # any metric of an epoch's validation; it also chooses the best checkpoint
    mode: str = "min"  # "max" or "min"
    patience: int = 20  # epochs without improvement before the job stops
    min_delta: float = 0.0  # a smaller change is no improvement


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What a sweep keeps of jobs that have succeeded. Their numbers are kept in any case."""

    best: int | None = None  # models of so many jobs, those ranked first; None: of all
    last: bool = False  # the last checkpoints too


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One job as a trainer needs it: complete, so that the trainer asks nobody."""

    job: int  # id of the row
    sweep: int  # id of its sweep
    sweep_uid: str  # unique over all databases: a checkpoint of another database's job 7 is never taken for ours
    task: str  # name in the catalogue
    params: Json  # every parameter of the task, defaults filled in
    seed: int  # all randomness comes from it
    epochs: int  # the most epochs it trains
    objective: Objective
    early_stopping: EarlyStopping | None = None

    @property
    def key(self) -> str:
        """Names the job in its checkpoints, over all databases."""
        return f"{self.sweep_uid}/{self.job}"


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What a job did in one epoch."""

    __pydantic_config__: ClassVar[ConfigDict] = AS_JSON

    job: int
    epoch: int  # 1, 2, …
    metrics: dict[str, float]  # train_loss, val_loss, train_accuracy, …, lr; may hold NaN or infinity
    seconds: float  # wall time of this epoch


@dataclass(frozen=True, kw_only=True)
class BestModel:
    """The best checkpoint, as it is kept: small ones in the database, others in the store."""

    __pydantic_config__: ClassVar[ConfigDict] = AS_JSON

    sha256: str
    size: int  # bytes
    content: bytes | None = None  # the safetensors file itself when it is small
    path: str | None = None  # else its path in the store: "{job}/{attempt}/best.safetensors"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a job ended that trained to its end."""

    __pydantic_config__: ClassVar[ConfigDict] = AS_JSON

    job: int
    score: float  # the objective's metric at the best epoch
    metrics: dict[str, float]  # train_*, val_*, test_* of the best epoch
    best_epoch: int
    epochs: int  # epochs trained, at most those of the spec
    seconds: float  # training time over all attempts
    history: History  # every epoch, also those of earlier attempts
    environment: Json = field(default_factory=dict)  # device, versions, data fingerprint, …
    best: BestModel | None = None
    samples: list[Json] = field(default_factory=list)  # texts that a language model wrote, with their prompts
    resumed_from: int = 0  # the epoch whose checkpoint this attempt started from; 0: from scratch


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A job that a worker holds. `attempt` fences every later write."""

    spec: JobSpec
    worker: str
    attempt: int  # 1, 2, …
    time_limit: float | None = None  # seconds one attempt may take; None: no limit
    pack: int = 0  # jobs of one sweep and one pack number may train together
    most: int = 0  # of such jobs at once; 0: as many as pay
    more: int = 0  # such jobs that were still ready after this claim, counted no further than is of use
    suspect: bool = False  # workers were lost with it: this one is to hold nothing else

    @property
    def job(self) -> int:
        return self.spec.job


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """One validated sweep, before it is expanded: cells = every combination of `grid`, or the list `cells`."""

    name: str
    task: str
    grid: dict[str, list[Any]] = field(default_factory=dict)  # parameter -> its values, in the user's order
    cells: list[Json] = field(default_factory=list)  # instead of a product: each a dict of parameters
    fixed: Json = field(default_factory=dict)  # parameters that all cells share
    seeds: list[int] = field(default_factory=lambda: [0])  # each cell is trained once with each
    epochs: int
    early_stopping: EarlyStopping | None = None
    objective: Objective
    retries: int = 2  # further attempts after the first failed one
    retry_on: list[str] = field(default_factory=lambda: sorted(RETRIED))  # FailureReasons after which there is one
    priority: int = 0  # higher is claimed first
    queue: str = "cpu"  # the workers that may claim its jobs
    time_limit: float | None = None  # seconds one attempt may take
    pack: int = 0  # the most jobs trained together; 0: as many as pay, 1: each alone
    max_running: int | None = None  # jobs that run at once; None: no limit
    keep: Keep = field(default_factory=Keep)


class Answer(StrEnum):
    """What a report of an epoch is answered with, or what is wished before it."""

    GO_ON = "go_on"
    CANCELLED = "cancelled"  # stop: the user does not want the job any more
    GIVE_BACK = "give_back"  # stop after writing the last checkpoint: another worker goes on
    CLAIM_LOST = "claim_lost"  # stop at once, write nothing: the job belongs to another attempt


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One attempt at one job, as the engine gets it."""

    spec: JobSpec
    attempt: int  # its files lie under "{job}/{attempt}/"
    most: int = 0  # jobs that may train together with it; 0: as many as pay, 1: none
    more: int = 0  # ready jobs that could join it; 0: its pack need not be measured


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A job that stopped because a report's answer, or a wish in the middle of an epoch, said so."""

    job: int
    answer: Answer
    epoch: int  # last one trained
    batch: int = 0  # so many were learned of the next epoch


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A job whose attempt failed."""

    job: int
    reason: FailureReason
    error: str  # its first line is the message; below lies the traceback where there is one
    again: bool = True  # another attempt may end differently, if its reason is one of those
    beside: bool = False  # others trained in the same process, which died: any of them may have done it
    epoch: int = 0  # last one trained


Outcome = TrainResult | Stopped | Failure
