"""The values of a leaderboard's filter, held to the rules of the parameters: what no job can have is a typing error."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from db.filters import models_in
from jobs.catalogue import Task
from jobs.errors import InputError
from scheduler.wording import explain, field_schema, not_one_of


def check(where: Mapping[str, Any], tasks: Iterable[Task]) -> None:
    """Each value must be allowed by one of the tasks; that the parameters exist is checked elsewhere.

    Raises:
        InputError: a value breaks its parameter's rule; the message has the rule.
    """
    models = [task.params for task in tasks]
    for name, value in where.items():
        fields = [found for model in models for found in _fields(model, name.split("."))]
        refusals = [_refusal(model, field, value) for model, field in fields]
        if refusals and all(refusals):
            kinds = [field_schema(model, field).get("const") for model, field in fields]
            message = not_one_of(value, dict.fromkeys(map(str, kinds))) if all(kinds) else refusals[0]
            raise InputError(f"where {name}: {message}")


def _fields(model: type[BaseModel], path: list[str]) -> Iterator[tuple[type[BaseModel], str]]:
    """The fields that a dotted name means: `scheduler.gamma` is one of the kinds of schedulers that have it."""
    top, *rest = path
    if top not in model.model_fields:
        return
    if not rest:
        yield model, top
    for inner in models_in(model.model_fields[top].annotation) if rest else ():
        yield from _fields(inner, rest)


def _refusal(model: type[BaseModel], field: str, value: Any) -> str | None:
    """What is wrong with one field's value, whatever the others are; None: nothing."""
    try:
        model.model_validate({field: value})
    except ValidationError as error:
        wrongs = (wrong for wrong in explain(model, error, "there is no key") if wrong.path[:1] == (field,))
        return next((wrong.message for wrong in wrongs), None)
    return None
