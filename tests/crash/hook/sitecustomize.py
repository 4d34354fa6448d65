"""Ends a process of Gridyard at a named point of a job's life, once; or makes come soon what only time would bring.

Python imports a module of this name when it starts, if its folder is on PYTHONPATH: so the code that is tested knows
nothing of it. `KILL_AT` names the point, `KILL_MARK` a file that is made when the process is killed.
`PATIENCE_OVER` names a file: when it is there, and not before, trainers have had their time for stopping.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Any


class Point(StrEnum):
    """Where in a job's life its process dies."""

    AFTER_CLAIM = "after claim"  # the worker: it holds a job, and its trainer does not know
    DATA_LOADING = "in data loading"  # the trainer
    BATCH = "in a batch"  # the trainer
    CHECKPOINT = "while writing a checkpoint"  # the trainer: the temporary file is there, the checkpoint is not
    REPORT = "between checkpoint and report"  # the trainer: of the next epoch
    BEFORE_FINISH = "before finish"  # the worker: the result is known, and nothing of it written
    BEFORE_COMMIT = "between finish and its commit"  # the worker
    AFTER_FINISH = "after finish, before the next claim"  # the worker
    BEFORE_BELL = "between commit and bell"  # the submitter, or the scheduler

    @property
    def in_trainer(self) -> bool:
        return self in (Point.DATA_LOADING, Point.BATCH, Point.CHECKPOINT, Point.REPORT)


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
MIDDLE = 1_000  # batches and checkpoints are not the first: of batches, so many have gone before


def die() -> None:
    try:
        os.close(os.open(os.environ["KILL_MARK"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:  # once is enough
        return
    os.kill(os.getpid(), signal.SIGKILL)


def before(when: Callable[..., bool] = lambda *args, **named: True) -> Wrap:
    """Die when the function is called, if the arguments are such."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **named: Any) -> Any:
            if when(*args, **named):
                die()
            return function(*args, **named)

        return wrapped

    return wrap


def after(function: Callable[..., Any]) -> Callable[..., Any]:
    """Die when the function returns something, or nothing that could be something."""

    def wrapped(*args: Any, **named: Any) -> Any:
        found = function(*args, **named)
        if found or found is None:
            die()
        return found

    return wrapped


def later(*_: Any, **__: Any) -> bool:
    """Whether so many calls have come before."""
    later.calls = getattr(later, "calls", 0) + 1  # type: ignore[attr-defined]
    return later.calls > MIDDLE  # type: ignore[attr-defined]


def is_of_a_checkpoint(*_: Any) -> bool:
    """Whether one is just being written, by the frames that have led here."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "write" and "last.safetensors" in str(frame.f_locals.get("path")):
            return True
    return False


# Point -> module, the name in it that is wrapped, and how.
PLACES: dict[Point, tuple[str, str, Wrap]] = {
    Point.AFTER_CLAIM: ("workers.claimer", "Claimer.claim", after),
    Point.DATA_LOADING: ("jobs.tabular", "classification", before()),  # the table is read, the problem not made of it
    Point.BATCH: ("jobs.group", "Group._learn", before(later)),
    Point.CHECKPOINT: ("jobs.store", "os.fsync", before(is_of_a_checkpoint)),
    Point.REPORT: ("jobs.checkpoint", "Writer._write", after),
    Point.BEFORE_FINISH: ("db.ending", "finish", before()),
    Point.BEFORE_COMMIT: ("db.ending", "finish", after),
    Point.AFTER_FINISH: ("workers.pack", "Pack.let_go", before(lambda pack, watches: bool(watches))),
    Point.BEFORE_BELL: ("workers.bell", "ring", before()),
}


class Patcher(importlib.abc.MetaPathFinder):
    """Wraps the place when its module is imported."""

    def __init__(self, module: str, name: str, wrap: Wrap) -> None:
        self._module, self._name, self._wrap = module, name, wrap

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_wrap(module: Any) -> None:
            execute(module)
            *owners, last = self._name.split(".")
            for owner in owners:
                module = getattr(module, owner)
            setattr(module, last, self._wrap(getattr(module, last)))

        spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


def until_a_file_is_there(_: Any) -> Any:
    """A property of the settings: seconds that are over when the test says so."""
    return property(lambda settings: 0.0 if os.path.exists(os.environ["PATIENCE_OVER"]) else float("inf"))


if "PATIENCE_OVER" in os.environ:
    sys.meta_path.insert(0, Patcher("jobs.settings", "Settings.trainer_grace_seconds", until_a_file_is_there))
if "KILL_AT" in os.environ:
    sys.meta_path.insert(0, Patcher(*PLACES[Point(os.environ["KILL_AT"])]))
