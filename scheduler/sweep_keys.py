"""The keys at the top of a sweep file, with their types, defaults and ranges; `docs/sweep-file.md` lists them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Name = Annotated[str, Field(pattern=r"^\P{C}+$", max_length=200, description="1 to 200 printable characters")]
Queue = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="1 to 64 letters, digits, dots, dashes or underscores")
]
Mode = Literal["max", "min"]
Reason = Literal["diverged", "out_of_memory", "error", "crashed", "lost", "timeout"]  # every FailureReason


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class EarlyStoppingKeys(_Keys):
    """Stop a job whose monitored metric no longer improves."""

    monitor: str = "val_loss"
    mode: Mode | None = None  # None: by the metric
    patience: int = Field(20, ge=1, le=1_000_000)
    min_delta: float = Field(0.0, ge=0)


class ObjectiveKeys(_Keys):
    """What ranks the jobs."""

    metric: str | None = None  # None: the task's
    mode: Mode | None = None  # None: by the metric


class ResourceKeys(_Keys):
    """What a job needs."""

    gpu: int = Field(0, ge=0, le=1)


class KeepKeys(_Keys):
    """What is kept of jobs that have succeeded."""

    best: Any = None  # None: the setting `keep_best`
    last: bool | None = None  # None: the setting `keep_last`


class SweepKeys(_Keys):
    """A sweep file. What is `Any` depends on the task or on other keys; `scheduler.validate` looks at it."""

    name: Name | None = None
    task: str
    grid: Any = None
    cells: Any = None
    fixed: Any = None
    seeds: Any = 1
    epochs: int | None = Field(None, ge=1, le=1_000_000)  # None: the task's
    early_stopping: EarlyStoppingKeys | None = None
    objective: ObjectiveKeys | None = None  # None: the task's
    retries: int = Field(2, ge=0, le=1_000)
    retry_on: list[Reason] | None = None  # None: those of jobs.states.RETRIED
    priority: int = Field(0, ge=-1_000_000, le=1_000_000)
    resources: ResourceKeys = ResourceKeys()
    queue: Queue | None = None  # None: by the resources
    time_limit: float | None = Field(None, gt=0)
    pack: Any = "auto"
    max_running: int | None = Field(None, ge=1, le=1_000_000)  # None: no limit
    keep: KeepKeys | None = None  # None: the settings


def is_name(text: str | None) -> bool:
    """Whether a sweep may be called so."""
    try:
        TypeAdapter(Name).validate_python(text)
    except ValidationError:
        return False
    return True
