"""What a supervisor and its trainer say to each other: JSON, one line a message, over the trainer's stdin and stdout.

    supervisor -> trainer   Setup, once; then Train, also while others train; at any time Reply
    trainer -> supervisor   Ready, once; then Epochs …, and one TrainResult, Stopped or Failure per assignment

A trainer ends when its stdin is closed, so none outlives its supervisor.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import ConfigDict, TypeAdapter

from jobs.spec import AS_JSON, Answer, Assignment, EpochReport, Failure, Stopped, TrainResult

OUT_OF_MEMORY = 12  # exit code of a trainer that ended for want of memory, where no single job was to blame


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a trainer needs to know of its place, and never asks a database or a setting for."""

    store: str  # URL
    data: str  # folder of the data sets
    cache: str  # folder of decoded copies of the data sets
    files: str  # folders besides `data` that jobs may read, or "*"
    tasks: str  # the setting: modules of the user's own tasks
    device: str
    threads: int
    compile: bool
    checkpoint_seconds: float
    small_model_bytes: int


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The trainer has loaded what it trains with."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train these together, and with those that train already."""

    assignments: list[Assignment]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """This job is to go on so, or to stop so at its next batch."""

    job: int
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """An epoch of every job that trains.

    Thousands come in a second; a list in one message costs half of what a message each costs (measured: 2.0 µs an
    epoch to write and read, instead of 3.9).
    """

    __pydantic_config__: ClassVar[ConfigDict] = AS_JSON

    reports: list[EpochReport]
    room: int  # so many more jobs would train along at little cost


Message = Setup | Ready | Train | Reply | Epochs | TrainResult | Stopped | Failure

_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Setup, Ready, Train, Reply, Epochs, TrainResult, Stopped, Failure)
}


class Writable(Protocol):
    def write(self, data: bytes, /) -> Any: ...
    def flush(self) -> Any: ...


def send(pipe: Writable, message: Message) -> None:
    """Write one message.

    Raises:
        OSError: the other side is gone.
    """
    kind = type(message).__name__
    pipe.write(kind.encode() + b" " + _ADAPTERS[kind].dump_json(message) + b"\n")
    pipe.flush()


def decode(line: bytes) -> Message:
    """The message of one line.

    Raises:
        ValueError: the line is no message: it was cut off, or something else wrote to the pipe.
    """
    kind, _, body = line.partition(b" ")
    adapter = _ADAPTERS.get(kind.decode(errors="replace"))
    if adapter is None or not line.endswith(b"\n"):
        raise ValueError(f"no message: {line[:80]!r}")
    message: Message = adapter.validate_json(body)
    return message
