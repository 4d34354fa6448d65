"""The contents page: every task by name, torch-free. A task's code lies in its module, imported only where it trains.

To add a task: its parameters and its entry in one of the tables here, its data and model in `jobs/tasks/<name>.py`.
The user's own come from wherever the setting `tasks` or an entry point says.
"""

from collections.abc import Mapping
from functools import cache

from jobs.catalogue import images, language, own, tables
from jobs.catalogue.task import Prepared, Task, Unfit
from jobs.errors import UnknownTask

__all__ = ["Prepared", "Task", "Unfit", "find", "get", "hint", "own_tasks", "tasks"]


BUILT_IN = (*tables.TASKS, *images.TASKS, *language.TASKS)


@cache
def own_tasks() -> own.Found:
    """The user's own, looked for once.

    Raises:
        SettingsError: two tasks have one name, or the setting `tasks` cannot be read.
    """
    return own.find(BUILT_IN)


@cache
def tasks() -> Mapping[str, Task]:
    """Every task by its name.

    Raises:
        SettingsError: see `own_tasks`.
    """
    return {task.name: task for task in (*BUILT_IN, *own_tasks().tasks)}


def hint() -> str:
    """What to say of a task that is not there: it may be one of the user's own."""
    return own_tasks().hint


def get(name: str) -> Task | None:
    """The task of this name, if there is one.

    The user's modules, which may import torch, are loaded only for a name that is none of ours.

    Raises:
        SettingsError: see `own_tasks`.
    """
    built_in = next((task for task in BUILT_IN if task.name == name), None)
    return built_in or tasks().get(name)


def find(name: str) -> Task:
    """The task of this name.

    Raises:
        UnknownTask: there is none; the message names the nearest.
        SettingsError: see `own_tasks`.
    """
    task = get(name)
    if task is None:
        raise UnknownTask(name, tasks(), hint())
    return task
