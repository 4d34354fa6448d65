"""The user's own tasks: found by entry point or by the setting `tasks`, and their facts held to the rules.

A module that cannot be loaded, and a class that breaks a rule, are troubles: the other tasks go on without them, and
who asks for a task that is not there is told.
"""

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from jobs import settings
from jobs.catalogue.facts import facts
from jobs.catalogue.task import Task, Unusable
from jobs.errors import SettingsError
from jobs.own import OwnTask

GROUP = "gridyard.tasks"  # of the entry points
VARIABLE = f"{settings.PREFIX}TASKS"
PART = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?")


@dataclass(frozen=True)
class Found:
    """What was found of the user's own."""

    tasks: list[Task] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)  # why others are missing

    @property
    def hint(self) -> str:
        """What to say of a task that is not there."""
        if self.troubles:
            return f"could not be loaded: {'; '.join(self.troubles)}"
        named = settings.load().tasks
        return f"{VARIABLE}={named} names no other" if named else f"one of your own needs {VARIABLE}=ITS_MODULE"


def find(built_in: Iterable[Task]) -> Found:
    """The tasks of all entry points, then those of the setting.

    Raises:
        SettingsError: two tasks have one name, or the setting cannot be read.
    """
    found, names = Found(), {task.name: task for task in built_in}
    for source, load in _places():
        with _noting(source, found.troubles):
            for one in load():
                with _noting(source, found.troubles):
                    _add(facts(one, source), names, found.tasks)
    return found


def _add(task: Task, names: dict[str, Task], tasks: list[Task]) -> None:
    other = names.setdefault(task.name, task)
    if other is task:
        tasks.append(task)
    elif other.own is None or type(other.own) is not type(task.own):  # else installed, and named by the setting too
        which = f"one of {other.source}, one of {task.source}"
        raise SettingsError(f"two tasks are called {task.name!r}: {which}; rename the one that is yours")


def _places() -> Iterator[tuple[str, Callable[[], Iterable[OwnTask]]]]:
    """Where tasks may be, in words, and what loads them."""
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist else "?"
        yield f"package {package} ({entry.value})", partial(_of_entry, entry)
    for part in filter(None, map(str.strip, settings.load().tasks.split(","))):
        yield f"{VARIABLE}={part}", partial(_of_setting, part)


@contextmanager
def _noting(source: str, troubles: list[str]) -> Iterator[None]:
    try:
        with redirect_stdout(sys.stderr):  # what a module prints is no answer of ours
            yield
    except Unusable as error:
        troubles.append(f"{source}: {error}")


def _of_entry(entry: EntryPoint) -> Iterable[OwnTask]:
    return _tasks_in(_loaded(entry.load, entry.module))


def _of_setting(part: str) -> Iterable[OwnTask]:
    module, _, name = part.partition(":")
    if not PART.fullmatch(part) or part.endswith(".py"):
        likely = Path(part).stem if part.endswith(".py") else "my_task"
        raise Unusable(f"is no module's name; allowed is for example {likely} or {likely}:Name")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: a folder called `jobs` where the user happens to stand is not ours
    importlib.invalidate_caches()
    loaded = _loaded(partial(importlib.import_module, module), module)
    if not name:
        return _tasks_in(loaded)
    if not hasattr(loaded, name):
        raise Unusable(f"{loaded.__file__} has no {name}")
    return _tasks_in(getattr(loaded, name))


def _loaded(load: Callable[[], Any], module: str) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:  # whatever stands in the user's file
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        if name is not None and f"{module}.".startswith(f"{name}."):
            raise Unusable(f"there is no module {name!r} in the current folder or on PYTHONPATH") from None
        first_line = (str(error).splitlines() or [""])[0]
        raise Unusable(f"{_place(error)}{type(error).__name__}: {first_line}".removesuffix(": ")) from None


def _place(error: BaseException) -> str:
    """File and line of the user's module where it went wrong, not of a library that it called."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    last = next((frame for frame in reversed(theirs) if frame.filename == theirs[0].filename), None)
    return f"{last.filename}, line {last.lineno}: " if last else ""


def _tasks_in(given: Any) -> Iterable[OwnTask]:
    """The task that was given as a class or an object, or those whose classes a module holds."""
    if isinstance(given, ModuleType):
        classes = dict.fromkeys(member for member in vars(given).values() if _is_task_of(member, given))
        if not classes:
            raise Unusable(f"{given.__file__} holds no class that is derived from OwnTask")
        return map(_made, classes)
    if isinstance(given, OwnTask):
        return [given]
    if not (inspect.isclass(given) and issubclass(given, OwnTask)):
        raise Unusable(f"{given!r} is no class that is derived from OwnTask")
    return [_made(given)]


def _is_task_of(member: Any, module: ModuleType) -> bool:
    """Whether it is a task's class of this module or package; one whose name begins with _ is a base of others."""
    if not (inspect.isclass(member) and issubclass(member, OwnTask)) or member.__name__.startswith("_"):
        return False
    return f"{member.__module__}.".startswith(f"{module.__name__}.")


def _made(kind: type[OwnTask]) -> OwnTask:
    made: OwnTask = _loaded(kind, kind.__module__)
    return made
