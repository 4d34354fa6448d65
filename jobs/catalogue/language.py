"""Tasks on texts: their parameters and facts."""

from jobs.catalogue.task import Task

TASKS: tuple[Task, ...] = ()
