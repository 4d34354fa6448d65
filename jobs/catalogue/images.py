"""Tasks on images: their parameters and facts."""

from jobs.catalogue.task import Task

TASKS: tuple[Task, ...] = ()
