"""What the catalogue wants to know of a user's own task, read from its class and held to the rules."""

import inspect
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError

from jobs.catalogue.task import Task, Unusable, mode
from jobs.errors import did_you_mean
from jobs.own import KINDS, OwnTask
from jobs.params import MlpParams, TrainingParams
from jobs.spec import Objective

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
NAME_RULE = "allowed are small letters, digits and _, a letter first, at most 63"
TAKEN = ("loss", "lr", "epoch", "seconds")  # what stands beside the metrics in a history
MODES = ("max", "min")


def facts(own: OwnTask, source: str) -> Task:
    """The task's entry in the catalogue.

    Raises:
        Unusable: its class breaks a rule.
    """
    name, params, metrics = _name(own), _params(own), _metrics(own)
    _check_methods(own, params)
    modes = {metric: own.metrics[metric][0] for metric in own.metrics}
    return Task(
        name=name,
        summary=own.summary or (type(own).__doc__ or name).strip().splitlines()[0].rstrip("."),
        params=params,
        metrics=metrics,
        objective=_objective(own, metrics, modes),
        epochs=_epochs(own),
        module="",
        modes=modes,
        own=own,
        source=source,
    )


def _refuse(own: OwnTask, why: str) -> NoReturn:
    raise Unusable(f"class {type(own).__name__}: {why}")


def _name(own: OwnTask) -> str:
    if own.name == "":
        base = "or begin the class's name with _ if it is only the base of others"
        _refuse(own, f'has no name; write name = "{type(own).__name__.lower()}", {base}')
    if not isinstance(own.name, str) or not NAME.fullmatch(own.name):
        _refuse(own, f"its name is {own.name!r}; {NAME_RULE}")
    return own.name


def _epochs(own: OwnTask) -> int:
    if not isinstance(own.epochs, int) or not 1 <= own.epochs <= 1_000_000:
        _refuse(own, f"its epochs are {own.epochs!r}; allowed is a whole number from 1 to 1,000,000")
    return own.epochs


def _params(own: OwnTask) -> type[TrainingParams]:
    params: Any = own.Params
    if not (inspect.isclass(params) and issubclass(params, TrainingParams)):
        _refuse(own, f"its Params are not derived from TrainingParams: {params!r}; write class Params(TrainingParams):")
    try:
        defaults = params()
    except ValidationError as error:
        names = ", ".join(str(found["loc"][0]) for found in error.errors())
        _refuse(own, f"every parameter needs a default; there is none of {names}")
    try:
        params.model_validate(defaults.model_dump(mode="json"))
        params.model_json_schema()
    except ValidationError as error:
        found = error.errors()[0]
        _refuse(own, f"the default of parameter {found['loc'][0]} breaks its own rule, as JSON: {found['msg']}")
    except (PydanticUserError, PydanticSerializationError) as error:
        _refuse(own, f"its Params cannot be written as JSON: {str(error).splitlines()[0]}")
    return params


def _metrics(own: OwnTask) -> tuple[str, ...]:
    """Those of its kind, then its own."""
    if own.kind not in (*KINDS, ""):
        _refuse(own, f"its kind is {own.kind!r}{did_you_mean(str(own.kind), KINDS)} Allowed: {', '.join(KINDS)}")
    usual = KINDS.get(own.kind, ())
    if not isinstance(own.metrics, Mapping):
        _refuse(own, f'its metrics are {own.metrics!r}; allowed is {{"name": ("max", function)}}')
    for name, given in own.metrics.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            _refuse(own, f"a metric is called {name!r}; {NAME_RULE}")
        if name in (*usual, *TAKEN):
            _refuse(own, f"its metric {name!r} has the name of one that is there already; give it another")
        if not (isinstance(given, tuple) and len(given) == 2 and given[0] in MODES and callable(given[1])):
            better = 'say which is better: ("max", function) or ("min", function)'
            _refuse(own, f"its metric {name!r} is {given!r}; {better}")
    return (*usual, *own.metrics)


def _objective(own: OwnTask, metrics: tuple[str, ...], modes: Mapping[str, str]) -> Objective:
    metric = own.objective or f"val_{(*metrics, 'loss')[0]}"
    allowed = [f"val_{name}" for name in ("loss", *metrics)]
    if metric not in allowed:
        hint = did_you_mean(str(metric), allowed)
        _refuse(own, f"its objective is {metric!r}{hint} Allowed: {', '.join(allowed)}")
    return Objective(metric=metric, mode=mode(metric, modes))


def _check_methods(own: OwnTask, params: type[TrainingParams]) -> None:
    kind = type(own)
    if kind.problem is not OwnTask.problem:
        if kind.model is OwnTask.model:
            _refuse(own, "has a problem of its own, but no model that would be read from a file: write model")
        return
    if kind.data is OwnTask.data:
        _refuse(own, "does not say where its data come from: write data(self, params, seed)")
    if not own.kind:
        _refuse(own, f"does not say what it predicts: write kind = {' or '.join(map(repr, KINDS))}")
    if kind.model is OwnTask.model and not issubclass(params, MlpParams):
        _refuse(own, "has no network: write model(self, params, signature), or derive its Params from MlpParams")
