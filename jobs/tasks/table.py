"""The user's own table: any CSV or Parquet file with a column to predict."""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from jobs import sheets, sources, tabular
from jobs.catalogue.tables import CLASSIFICATION, REGRESSION, TableParams
from jobs.metrics import METRICS
from jobs.mixed import Mixed
from jobs.problem import Model, Problem, Signature
from jobs.splits import Parts, by_group, by_time, split
from jobs.survey import Survey, survey

READ_BY = ("data", "target", "kind", "ignore", "class_weights", "log_target", "group", "time", "fingerprint")


@lru_cache(maxsize=2)
def surveyed(facts: str) -> tuple[Survey, str]:
    """What a file holds, and its fingerprint. facts: the parameters that say how it is read, as JSON.

    Raises:
        InputError: it is not here, has changed since submission, or cannot be used as the parameters say.
    """
    params = TableParams.model_validate_json(facts)
    assert params.data is not None  # it was looked at when the sweep was submitted
    path = sources.opened(params.data)
    fingerprint = sources.check(path, params.fingerprint)
    return survey(sheets.read(path), params), fingerprint


def model(params: TableParams, signature: Signature) -> Model:
    if signature.classes:
        return tabular.classifier(params, signature)
    return tabular.regressor(params, signature, log=params.log_target)


def build(params: TableParams, seed: int) -> Problem:
    found, fingerprint = surveyed(params.model_dump_json(include=set(READ_BY)))
    raw = Mixed(
        inputs=found.inputs,
        labels=found.labels,
        target=params.target or "",
        fingerprint=fingerprint,
        classes=found.classes,
        notes=found.notes,
    )
    parts = _parts(found, params, seed)
    table = raw.table(parts[0])
    fresh = model(params, table.signature)
    if not found.classes:
        problem = tabular.regression(table, fresh, params, seed, parts=parts)
        return replace(problem, metrics={name: METRICS[name] for name in REGRESSION})
    balanced = params.class_weights == "balanced"
    problem = tabular.classification(table, fresh, params, seed, parts=parts, balanced=balanced)
    notes = (*problem.notes, *_unseen(found, parts))
    return replace(problem, metrics={name: METRICS[name] for name in CLASSIFICATION}, notes=notes)


def _parts(found: Survey, params: TableParams, seed: int) -> Parts:
    if found.groups is not None:
        return by_time(found.groups) if params.group is None else by_group(found.groups, params, seed)
    return split(len(found.labels), params, seed, classes=found.labels if found.classes else None)


def _unseen(found: Survey, parts: Parts) -> list[str]:
    """Classes that the training rows of this split do not have, so that they are never predicted."""
    seen = set(np.unique(found.labels[parts[0].numpy()]).tolist())
    missing = [name for number, name in enumerate(found.classes) if number not in seen]
    return [f"no training row has class {', '.join(missing)}"] if missing else []
