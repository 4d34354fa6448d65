"""One file per task, imported only where it trains. Two functions make a task, whatever its data:

    build(params, seed) -> Problem        its data, split and preprocessed, a model with fresh weights, its loss;
                                          or a Writing, where nothing is trained
    model(params, signature) -> Model     the same model without data, for the file of a best model to fill

`params` is an object of the task's class in `jobs/catalogue.py`. torch's global stream is seeded around both, so
weights may be drawn from it; whatever else is random takes its seed from `jobs.randomness`. See docs/adding-a-task.md.
"""

from importlib import import_module
from typing import Any, Protocol, cast

from jobs.catalogue import find
from jobs.own_problem import OwnCode
from jobs.params import Params
from jobs.problem import Model, Problem, Signature, Writing
from jobs.spec import Json


class TaskModule(Protocol):
    """What `jobs/tasks/<name>.py` holds; each takes its own kind of parameters."""

    def build(self, params: Any, seed: int) -> Problem | Writing: ...

    def model(self, params: Any, signature: Signature) -> Model: ...


def load(name: str, params: Json) -> tuple[TaskModule, Params]:
    """A task's code, and its parameters as an object.

    Raises:
        UnknownTask: there is no such task.
        pydantic.ValidationError: a parameter is wrong.
    """
    task = find(name)
    code = import_module(task.module) if task.own is None else OwnCode(task.own)
    return cast(TaskModule, code), task.params.model_validate(params)
