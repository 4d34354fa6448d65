"""The parameters that a sweep gives, looked at one by one with the task's model."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from jobs.catalogue import Task
from jobs.spec import Json
from scheduler.places import Path, Problems
from scheduler.wording import explain, field_schema, given


class Params:
    """Checks parameters of one task; of an unknown task (None) only what holds for every task."""

    def __init__(self, task: Task | None, problems: Problems) -> None:
        self.problems = problems
        self._model = task.params if task else None
        self._unknown = f"task {task.name} has no parameter" if task else ""

    def defaults(self) -> Json:
        return self._model().model_dump(mode="json") if self._model else {}

    def checked(self, path: Path, given_params: Any) -> Json:
        """The parameters of a cell or of `fixed`, each with its own defaults filled in; the wrong ones are left out."""
        if not isinstance(given_params, dict):
            self.problems.add(path, f"was given {given(given_params)}; allowed is an object such as {{lr: 0.1}}")
            return {}
        if self._model is None:
            return given_params
        refused = self._refused(path, given_params)
        right = {name: value for name, value in given_params.items() if name not in refused}
        whole = self._model.model_validate(right).model_dump(mode="json", include=set(right))
        return {name: whole[name] for name in right}

    def values(self, path: Path, given_values: Any) -> list[Any]:
        """The values of a parameter in a grid: a list, not empty, none twice, each allowed."""
        name = str(path[-1])
        if self._model is not None and name not in self._model.model_fields:
            self._refused(path[:-1], {name: None})
        elif not isinstance(given_values, list):
            single = f"; a single value belongs in fixed, or in a list: [{given(given_values)}]"
            self.problems.add(path, f"was given {given(given_values)}; allowed is a list of values{single}")
        elif not given_values:
            self.problems.add(path, "has no values; give at least one, or leave the parameter out")
        elif self._is_one_value(name, given_values):
            self.problems.add(
                path, f"was given one value, {given(given_values)}; a list of such values is [{given(given_values)}]"
            )
        else:
            values = [self._value(name, (*path, index), value) for index, value in enumerate(given_values)]
            self.refuse_twice(path, dict(enumerate(values)), given_values, "is given twice, first at")
            return values
        return []

    def _value(self, name: str, path: Path, value: Any) -> Any:
        """The value as the task gets it, 1 as 1.0 for a number with fractions; as given when it is refused."""
        if self._model is None:
            return value
        try:
            return self._model.model_validate({name: value}).model_dump(mode="json", include={name})[name]
        except ValidationError as error:
            for wrong in explain(self._model, error, self._unknown):
                self.problems.add((*path, *wrong.path[1:]), wrong.message, at_key=wrong.at_key)
            return value

    def _is_one_value(self, name: str, values: list[Any]) -> bool:
        """Whether `hidden: [16, 8]` was written where `hidden: [[16, 8]]` was meant."""
        if self._model is None or field_schema(self._model, name).get("type") != "array":
            return False
        return not any(isinstance(value, list) for value in values) and not self._errors({name: values})

    def _refused(self, path: Path, params: Json) -> set[str]:
        """Names of the wrong ones, after their problems were noted."""
        errors = self._errors(params)
        if errors is None or self._model is None:
            return set()
        for wrong in explain(self._model, errors, self._unknown):
            self.problems.add((*path, *wrong.path), wrong.message, at_key=wrong.at_key)
        return {str(found["loc"][0]) for found in errors.errors()}

    def _errors(self, params: Json) -> ValidationError | None:
        try:
            assert self._model is not None
            self._model.model_validate(params)
        except ValidationError as error:
            return error
        return None

    def refuse_twice(self, path: Path, values: Mapping[int, Any], as_given: Sequence[Any], same_as: str) -> None:
        """A problem for each value, by its index in the list at the path, that equals an earlier one."""
        first: dict[Any, int] = {}
        for index, value in values.items():
            earlier = first.setdefault(frozen(value), index)
            if earlier != index:
                place = self.problems.places.of((*path, earlier))
                self.problems.add((*path, index), f"{given(as_given[index])} {same_as} {place}")


def frozen(value: Any) -> Any:
    """Equal for equal values, hashable, and true is not 1."""
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    return (bool, value) if isinstance(value, bool) else value
