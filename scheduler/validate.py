"""From plain data to a SweepSpec, or to every problem there is. Nothing here stores a row."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from jobs import catalogue
from jobs.catalogue import Prepared, Task, Unfit
from jobs.errors import InputError
from jobs.spec import EarlyStopping, Json, Keep, Objective, SweepSpec
from jobs.states import RETRIED
from scheduler.grid import product_size
from scheduler.params import Params
from scheduler.places import Path, Problems
from scheduler.sweep_keys import EarlyStoppingKeys, KeepKeys, ObjectiveKeys, Reason, SweepKeys, is_name
from scheduler.wording import explain, field_schema, given, listed, narrow, refusal, suggestion

SURE = 0.8  # a name so like a task's is taken for it, as difflib measures: "irs", "mnst", but not "wine" for "sine"
MAX_SEEDS = 10_000
JOBS_PER_CELL = 10  # a sweep has at most so many jobs for each cell that it may have
MAX_KEPT = 10_000_000  # models of a sweep: all that it can have
MAX_PACK = 65_536  # jobs trained together
MAX_SEED = 2**32 - 1  # what NumPy's and scikit-learn's generators take


def validate(
    data: Json, problems: Problems, default_name: str | None, max_cells: int, keep: Keep | None = None
) -> SweepSpec:
    """The sweep that `data` describes, complete with all defaults. A user's own data are looked at.

    Args:
        keep: what is kept where `data` does not say; None: everything.

    Raises:
        SweepFileError: it is wrong; every problem is in the one error.
    """
    keys = _keys(data, problems)
    task = _task(keys.task, problems)
    params = Params(task or _meant(keys), problems)
    fixed = params.checked(("fixed",), keys.fixed if keys.fixed is not None else {})
    grid = _grid(data, keys, params, fixed)
    cells = _cells(data, keys, params, fixed)
    seeds = _seeds(keys.seeds, problems)
    prepared = _prepared(task, params.defaults() | fixed, grid, cells, problems)
    if task is not None and prepared.metrics is not None:
        task = replace(task, metrics=prepared.metrics, objective=prepared.objective or task.objective)
    objective = _objective(keys.objective, task, problems)
    stopping = _early_stopping(keys.early_stopping, task, problems)
    pack = _pack(keys.pack, task, problems)
    kept = _keep(keys.keep, keep or Keep(), problems)
    retry_on = _retry_on(keys.retry_on, problems)
    _refuse_epochs(keys, task, problems)
    number = len(cells) or product_size(grid)
    check_size(number, seeds, max_cells, "grid" if grid else "cells" if cells else "seeds", problems)
    problems.raise_if_any()
    assert task is not None  # an unknown task is a problem
    effective = params.defaults() | fixed | prepared.params
    return SweepSpec(
        name=keys.name or (default_name if is_name(default_name) else None) or task.name,
        task=task.name,
        grid=grid,
        cells=cells,
        fixed={name: value for name, value in effective.items() if name not in grid},
        seeds=seeds,
        epochs=keys.epochs or task.epochs,
        early_stopping=stopping,
        objective=objective or task.objective,
        retries=keys.retries,
        retry_on=retry_on,
        priority=keys.priority,
        queue=keys.queue or ("gpu" if keys.resources.gpu else "cpu"),
        time_limit=keys.time_limit,
        pack=pack,
        max_running=keys.max_running,
        keep=kept,
    )


def _keys(data: Json, problems: Problems) -> SweepKeys:
    """The top-level keys; what is wrong becomes a problem and gets its default, so that the rest is looked at too."""
    try:
        return SweepKeys.model_validate(data)
    except ValidationError as error:
        right = data
        for wrong in explain(SweepKeys, error, "there is no key"):
            tasks = f". Tasks: {listed(sorted(catalogue.tasks()))}" if wrong.path == ("task",) else ""
            problems.add(wrong.path, wrong.message + tasks, at_key=wrong.at_key)
            right = _without(right, wrong.path)
        return SweepKeys.model_validate({"task": ""} | right)


def _without(data: Json, path: Path) -> Json:
    """The data without the wrong value at a path: without `objective.mode`, or without all of `objective`."""
    key, inner = path[0], data.get(str(path[0]))
    if len(path) > 1 and isinstance(inner, dict) and path[1] in inner:
        return data | {str(key): {name: value for name, value in inner.items() if name != path[1]}}
    return {name: value for name, value in data.items() if name != key}


def _task(name: str, problems: Problems) -> Task | None:
    task = catalogue.get(name)
    if task is None:  # one that is no text, "", has its problem already
        tasks = catalogue.tasks()
        known = f"{suggestion(name, tasks)}Tasks: {listed(sorted(tasks))}; {catalogue.hint()}"
        problems.add(("task",), f"there is no task {given(name)}{known}")
    return task


def _meant(keys: SweepKeys) -> Task | None:
    """The task whose name was mistyped: what is wrong with its parameters is told along with that.

    Not one that has hardly any of the names: then another was meant, such as one of the user's that is not found.
    """
    near = difflib.get_close_matches(keys.task, catalogue.tasks(), n=1, cutoff=SURE)
    if not near:
        return None
    task, cells = catalogue.tasks()[near[0]], keys.cells if isinstance(keys.cells, list) else []
    names = {name for part in (keys.grid, keys.fixed, *cells) if isinstance(part, dict) for name in part}
    return task if 2 * len(names & set(task.params.model_fields)) >= len(names) else None


def _prepared(
    task: Task | None, fixed: Json, grid: dict[str, list[Any]], cells: list[Json], problems: Problems
) -> Prepared:
    """What the task says of the user's data; nothing while there are other problems, which it might stumble over."""
    if task is None or not task.prepare:
        return Prepared()
    paths: list[Path] = [("grid", name) for name in grid]
    paths += [("cells", index, name) for index, cell in enumerate(cells) for name in cell]
    for path in paths:
        if path[-1] in task.fixed_only:
            problems.add(path, f"is the same for all cells of task {task.name}; give it under fixed", at_key=True)
    if problems.in_order():
        return Prepared()
    prepare: Callable[[Json], Prepared] = import_module(task.prepare).prepare
    try:
        found = prepare(fixed)
    except Unfit as wrong:
        problems.add(("fixed", wrong.param), str(wrong))
        return Prepared()
    values: list[tuple[Path, Any]]
    values = [(("grid", name, index), value) for name in grid for index, value in enumerate(grid[name])]
    values += [(("cells", index, name), cell[name]) for index, cell in enumerate(cells) for name in cell]
    for path, value in values:
        for refused in found.refused:
            if refused.param in path and refused.value == value:
                problems.add(path, refused.reason)
    return found


def _refuse_epochs(keys: SweepKeys, task: Task | None, problems: Problems) -> None:
    if task is None or task.trains:
        return
    if keys.epochs not in (None, 1):
        problems.add(("epochs",), f"was given {keys.epochs}; task {task.name} trains nothing: allowed is 1")
    if keys.early_stopping is not None:
        problems.add(("early_stopping",), f"task {task.name} trains nothing that could stop early; leave it out")


def _grid(data: Json, keys: SweepKeys, params: Params, fixed: Json) -> dict[str, list[Any]]:
    problems = params.problems
    if keys.grid is not None and keys.cells is not None:
        problems.add(("cells",), "grid and cells are both given; keep one of them", at_key=True)
    if "grid" not in data or (keys.grid is None and keys.cells is not None):
        return {}
    if keys.grid is None or keys.grid == {}:
        problems.add(
            ("grid",), "is empty; name a parameter with its values, such as lr: [0.01, 0.1], or leave grid out"
        )
        return {}
    if not isinstance(keys.grid, dict):
        problems.add(("grid",), f"was given {given(keys.grid)}; allowed is a list of values for each parameter")
        return {}
    for name in keys.grid:
        if isinstance(keys.fixed, dict) and name in keys.fixed:
            other = problems.places.of(("fixed", name), at_key=True)
            problems.add(("grid", name), f"stands in fixed too ({other}); keep one of them", at_key=True)
    return {name: params.values(("grid", name), values) for name, values in keys.grid.items()}


def _cells(data: Json, keys: SweepKeys, params: Params, fixed: Json) -> list[Json]:
    if keys.cells is None and ("cells" not in data or keys.grid is not None):
        return []
    if not isinstance(keys.cells, list) or not keys.cells:
        was = "is empty" if keys.cells in ([], None) else f"was given {given(keys.cells)}"
        params.problems.add(("cells",), f"{was}; allowed is a list of cells, such as [{{lr: 0.1}}, {{lr: 0.01}}]")
        return []
    cells = [params.checked(("cells", index), cell) for index, cell in enumerate(keys.cells)]
    shared = params.defaults() | fixed
    right = {
        index: shared | cell
        for index, (cell, whole) in enumerate(zip(cells, keys.cells, strict=True))
        if isinstance(whole, dict) and len(cell) == len(whole)
    }
    params.refuse_twice(("cells",), right, keys.cells, "is the same as")
    return cells


def _seeds(given_seeds: Any, problems: Problems) -> list[int]:
    allowed = f"allowed is a number of seeds from 1 to {MAX_SEEDS}, or a list of different seeds"
    if isinstance(given_seeds, int) and not isinstance(given_seeds, bool) and 1 <= given_seeds <= MAX_SEEDS:
        return list(range(given_seeds))
    if not isinstance(given_seeds, list) or not 1 <= len(given_seeds) <= MAX_SEEDS:
        problems.add(("seeds",), f"was given {given(given_seeds)}; {allowed}")
        return []
    first: dict[Any, Path] = {}
    for index, seed in enumerate(given_seeds):
        path = ("seeds", index)
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            problems.add(path, f"was given {given(seed)}; allowed is a whole number from 0 to {MAX_SEED}")
        elif seed in first:
            problems.add(path, f"{seed} is given twice, first at {problems.places.of(first[seed])}")
        else:
            first[seed] = path
    return list(first)


def _pack(given_pack: Any, task: Task | None, problems: Problems) -> int:
    """The most jobs trained together: 0 for as many as pay, 1 where nothing is trained."""
    sizes = {"auto": 0, "off": 1}
    number = isinstance(given_pack, int) and not isinstance(given_pack, bool) and 1 <= given_pack <= MAX_PACK
    if not number and given_pack not in ("auto", "off"):
        allowed = f"off, auto or a whole number from 1 to {MAX_PACK:,}"
        problems.add(("pack",), f"was given {given(given_pack)}; allowed is {allowed}")
        return 0
    if task is not None and not task.rowwise:
        return 1
    return given_pack if number else sizes[given_pack]


def _retry_on(reasons: list[Reason] | None, problems: Problems) -> list[str]:
    """Sorted, so that sweeps which differ in the order alone are the same."""
    if reasons is None:
        return sorted(RETRIED)
    for index, reason in enumerate(reasons):
        first = reasons.index(reason)
        if first < index:
            place = problems.places.of(("retry_on", first))
            problems.add(("retry_on", index), f'"{reason}" is given twice, first at {place}')
    return sorted(reasons)


def _keep(keys: KeepKeys | None, default: Keep, problems: Problems) -> Keep:
    if keys is None:
        return default
    best, last = keys.best, default.last if keys.last is None else keys.last
    if best is None:
        return Keep(best=default.best, last=last)
    if isinstance(best, int) and not isinstance(best, bool) and 0 <= best <= MAX_KEPT:
        return Keep(best=best, last=last)
    if best != "all":
        problems.add(
            ("keep", "best"), f"was given {given(best)}; allowed is all or a whole number from 0 to {MAX_KEPT:,}"
        )
    return Keep(best=None, last=last)


def _objective(keys: ObjectiveKeys | None, task: Task | None, problems: Problems) -> Objective | None:
    if keys is None or task is None:
        return None
    metric = task.objective.metric if keys.metric is None else keys.metric
    _check_metric(("objective", "metric"), metric, task, problems)
    return Objective(metric=metric, mode=keys.mode or task.mode(metric))


def _early_stopping(keys: EarlyStoppingKeys | None, task: Task | None, problems: Problems) -> EarlyStopping | None:
    if keys is None or task is None:
        return None
    _check_metric(("early_stopping", "monitor"), keys.monitor, task, problems)
    mode = keys.mode or task.mode(keys.monitor)
    return EarlyStopping(monitor=keys.monitor, mode=mode, patience=keys.patience, min_delta=keys.min_delta)


def check_key(name: str, value: Any) -> None:
    """Raises:
    InputError: a key of a sweep file, such as `queue`, cannot have this value.
    """
    try:
        SweepKeys.model_validate({"task": "", name: value})
    except ValidationError:
        raise InputError(f"{name} {refusal(value, narrow(field_schema(SweepKeys, name)))}") from None


def _check_metric(path: Path, metric: str, task: Task, problems: Problems) -> None:
    allowed = task.validation_metrics
    if metric in allowed:
        return
    split, _, rest = metric.partition("_")
    if split in ("test", "train") and f"val_{rest}" in allowed:
        why = "a test metric that chooses is no test any more" if split == "test" else "training data cannot tell"
        message = f'was given "{metric}", but {why}; use "val_{rest}". Allowed: {listed(allowed)}'
    else:
        message = (
            f"task {task.name} has no metric {given(metric)}{suggestion(metric, allowed)}Allowed: {listed(allowed)}"
        )
    problems.add(path, message)


def check_size(number: int, seeds: Sequence[int], max_cells: int, where: str, problems: Problems) -> None:
    """Note it as a problem of this key if so many cells with these seeds are too many."""
    jobs, max_jobs = number * len(seeds), JOBS_PER_CELL * max_cells
    if number > max_cells:
        message = f"{number:,} cells; allowed are {max_cells:,} (setting GRIDYARD_MAX_CELLS)"
        problems.add((where,), message, at_key=True)
    elif jobs > max_jobs:
        message = f"{number:,} cells x {len(seeds):,} seeds = {jobs:,} jobs; allowed are {max_jobs:,}"
        reason = f"{JOBS_PER_CELL} for each cell of the setting GRIDYARD_MAX_CELLS"
        problems.add((where,), f"{message} ({reason})", at_key=True)
