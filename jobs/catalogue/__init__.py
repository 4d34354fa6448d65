"""The contents page: every task by name, torch-free. A task's code lies in its module, imported only where it trains.

To add a task: its parameters and its entry in one of the tables here, its data and model in `jobs/tasks/<name>.py`.
"""

from collections.abc import Mapping
from functools import cache

from jobs.catalogue import images, language, tables
from jobs.catalogue.task import Prepared, Task, Unfit
from jobs.errors import UnknownTask

__all__ = ["Prepared", "Task", "Unfit", "find", "tasks"]


@cache
def tasks() -> Mapping[str, Task]:
    """Every task by its name."""
    return {task.name: task for task in (*tables.TASKS, *images.TASKS, *language.TASKS)}


def find(name: str) -> Task:
    """The task of this name.

    Raises:
        UnknownTask: there is none; the message names the nearest.
    """
    if name not in tasks():
        raise UnknownTask(name, tasks())
    return tasks()[name]
