"""A look at a user's table: what is to be predicted, from which columns, and what is wrong with it. Torch-free."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs import sheets, sources
from jobs.catalogue.tables import CLASSIFICATION, REGRESSION, TableParams
from jobs.catalogue.task import Prepared, Refused, Unfit
from jobs.cells import MISSING, MOST_VALUES, Cells, categories, guessed, numbers, words
from jobs.errors import InputError
from jobs.sheets import Sheet
from jobs.spec import Json, Objective

logger = logging.getLogger(__name__)

FEWEST_ROWS = 10
MOST_CLASSES = 100
FEW_NUMBERS = 10  # whole numbers of at most so many values are taken for classes, unless the user says otherwise
FREE_TEXT = 0.5  # of the rows: a text column of more values tells rows apart, not kinds of rows


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a table holds for a task."""

    inputs: tuple[Cells, ...]
    labels: NDArray[Any]  # (N,) class numbers from 0, or values
    classes: tuple[str, ...]  # none: regression
    groups: NDArray[np.int64] | None  # (N,) from 0: of the group column, or ranks of the time column
    notes: tuple[str, ...]
    refused: tuple[Refused, ...]


def prepare(given: Json) -> Prepared:
    """Look at the user's table at submission; every worker reads it again.

    Raises:
        Unfit: it cannot be used as the parameters say.
    """
    params = TableParams.model_validate(given)
    path = sources.locate("data", params.data)
    if path.is_dir():
        raise Unfit("data", f'was given "{params.data}", a folder; give a CSV or Parquet file')
    try:
        sheet = sheets.read(path)
    except InputError as wrong:
        raise Unfit("data", str(wrong)) from None
    found = survey(sheet, params)
    for note in found.notes:  # on the submitter's stderr; of a job they are kept with its result
        logger.warning("%s: %s", sheet.name, note)
    kind = "classification" if found.classes else "regression"
    metric = "val_accuracy" if found.classes else "val_r2"
    facts = {"data": sources.portable(path), "fingerprint": sources.fingerprint(path), "kind": kind}
    metrics = CLASSIFICATION if found.classes else REGRESSION
    objective = Objective(metric=metric, mode="max")
    return Prepared(params=facts, metrics=metrics, objective=objective, refused=found.refused)


def survey(sheet: Sheet, params: TableParams) -> Survey:
    """The same for the same file and parameters, whatever the seed.

    Raises:
        Unfit: the table cannot be used as the parameters say; the message names file and row.
    """
    _check_names(sheet, params)
    if len(sheet.cells) < FEWEST_ROWS:
        rows = "1 row" if len(sheet.cells) == 1 else f"{len(sheet.cells)} rows"
        raise Unfit("data", f"{sheet.name} has {rows}; at least {FEWEST_ROWS} are needed")
    assert params.target is not None  # its name was checked
    labels, classes, notes = _target(sheet, params, params.target)
    refused = _refused(sheet, params.target, labels, classes)
    for wrong in refused:
        if getattr(params, wrong.param) == wrong.value:
            raise Unfit(wrong.param, wrong.reason)
    groups = _groups(sheet, params)
    given = [name for name in sheet.names if name not in {params.target, params.group, *params.ignore}]
    inputs, more = _inputs(sheet, given)
    if not inputs:
        raise Unfit("data", f"{sheet.name} has no column to predict {params.target} from{_listed(more)}")
    notes += more
    return Survey(inputs=inputs, labels=labels, classes=classes, groups=groups, notes=tuple(notes), refused=refused)


def _listed(notes: list[str]) -> str:
    return f": {'; '.join(notes)}" if notes else ""


def _check_names(sheet: Sheet, params: TableParams) -> None:
    if params.target is None:
        raise Unfit("target", f"is missing; name the column to predict. Columns: {', '.join(sheet.names)}")
    given = [("target", params.target), ("group", params.group), ("time", params.time)]
    given += [("ignore", name) for name in params.ignore]
    for param, name in given:
        try:
            sheet.check_columns([name] if name is not None else [])
        except InputError as wrong:
            raise Unfit(param, str(wrong)) from None
        if param != "target" and name == params.target:
            raise Unfit(param, f'"{name}" is the target; give another column')
    if params.group is not None and params.time is not None:
        raise Unfit("time", "group is given too; a split follows one of them")


def _target(sheet: Sheet, params: TableParams, name: str) -> tuple[NDArray[Any], tuple[str, ...], list[str]]:
    """Labels, classes (none of a regression), and what was decided."""
    texts, missing = words(sheet.cells[name], MISSING)
    if missing.any():
        places = np.flatnonzero(missing).tolist()
        raise Unfit("target", f'{sheet.name}, {sheet.rows(places)}: "{name}" is empty; fill it in or remove the row')
    values, wrong = numbers(sheet.cells[name], sheet.separator)
    different = texts.nunique() if wrong.any() else len(np.unique(values))  # 1 and 1.0 are the same
    if different == 1:
        raise Unfit("target", f'"{name}" is "{texts.iloc[0]}" in every row; there is nothing to learn')
    by_class = params.kind == "classification"
    if params.kind == "auto":
        by_class = bool(wrong.mean() > 0.5 or (different <= FEW_NUMBERS and not wrong.any() and not (values % 1).any()))
    if by_class:
        labels, classes = _classes(sheet, name, values, wrong)
        _check_classes(sheet, name, labels, classes)
        return labels, classes, [f'classification: "{name}" has {len(classes)} classes']
    _check_values(sheet, name, wrong)
    return values, (), [f'regression: "{name}" has {different:,} different values']


def _classes(
    sheet: Sheet, name: str, values: NDArray[np.float64], wrong: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Numbers are sorted as numbers, 2 before 10."""
    if not wrong.any():
        different, labels = np.unique(values, return_inverse=True)
        return labels, tuple(f"{value:.15g}" for value in different)
    cells = categories(sheet.cells[name], name)
    return cells.values.astype(np.int64), cells.names


def _check_classes(sheet: Sheet, name: str, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    if len(classes) > MOST_CLASSES:
        raise Unfit(
            "target",
            f'"{name}" has {len(classes):,} different values in {len(labels):,} rows, too many for classes (at most '
            f"{MOST_CLASSES}); of numbers, kind: regression learns the value",
        )
    counts = np.bincount(labels)
    single = np.flatnonzero(counts == 1)
    if len(single):
        row = sheet.row(int(np.flatnonzero(labels == single[0])[0]))
        more = f", as {len(single) - 1} more classes have" if len(single) > 1 else ""
        raise Unfit(
            "target",
            f'{row}: class "{classes[single[0]]}" of "{name}" has this one row{more}; a class needs two at least: '
            "remove it or join it with another",
        )


def _check_values(sheet: Sheet, name: str, wrong: NDArray[np.bool_]) -> None:
    if wrong.any():
        place = int(np.argmax(wrong))
        held = sheet.cells[name].iloc[place]
        raise Unfit(
            "target",
            f'{sheet.row(place)}: "{name}" holds "{held}"; a regression needs numbers. '
            "Correct it, or set kind: classification",
        )


def _refused(sheet: Sheet, name: str, labels: NDArray[Any], classes: tuple[str, ...]) -> tuple[Refused, ...]:
    """What a target of this kind does not allow, also in some cells of a sweep only."""
    if classes:
        return (Refused("log_target", True, f'"{name}" holds classes, which have no logarithm; leave it out'),)
    reason = f'"{name}" holds values, not classes; leave it out, or set kind: classification'
    weights, lowest = Refused("class_weights", "balanced", reason), int(labels.argmin())
    if labels[lowest] > -1:
        return (weights,)
    reason = f'{sheet.row(lowest)}: "{name}" is {labels[lowest]:g}; log(1 + {name}) needs values above -1'
    return weights, Refused("log_target", True, reason)


def _groups(sheet: Sheet, params: TableParams) -> NDArray[np.int64] | None:
    """Of each row, its group's number, or the rank of its time; None where neither is asked for."""
    param = "group" if params.group is not None else "time"
    name = params.group if params.group is not None else params.time
    if name is None:
        return None
    cells = categories(sheet.cells[name], name) if param == "group" else _input(sheet, name)
    if param == "time" and cells.kind == "category":
        raise Unfit(param, f'"{name}" holds neither dates nor numbers, such as "{cells.names[0]}"')
    missing = np.isnan(cells.values)
    if missing.any():
        places = sheet.rows(np.flatnonzero(missing).tolist())
        raise Unfit(param, f'{sheet.name}, {places}: "{name}" is empty; fill it in or remove the row')
    different, codes = np.unique(cells.values, return_inverse=True)
    if len(different) < 3:
        raise Unfit(param, f'"{name}" has {len(different)} different values; three parts need three at least')
    return codes


def _inputs(sheet: Sheet, names: list[str]) -> tuple[tuple[Cells, ...], list[str]]:
    """The columns that tell something, and what was found in the others and in them."""
    inputs, left_out, notes = [], [], []
    for name in names:
        cells = _input(sheet, name)
        if reason := _useless(cells, name):
            left_out.append(f'"{name}" ({reason})')
            continue
        inputs.append(cells)
        notes += _told(cells, name)
    repeated = int(sheet.cells.duplicated().sum())
    notes += [f"{repeated:,} rows are copies of an earlier one"] if repeated else []
    return tuple(inputs), [*([f"left out: {', '.join(left_out)}"] if left_out else []), *notes]


def _input(sheet: Sheet, name: str) -> Cells:
    try:
        return guessed(sheet, name)
    except InputError as wrong:
        raise Unfit("data", str(wrong)) from None


def _useless(cells: Cells, name: str) -> str | None:
    """Why a column cannot help to predict; None: it may."""
    present = cells.values[~np.isnan(cells.values)]
    different = len(np.unique(present))
    if different == 0:
        return "empty"
    if different == 1 and len(present) == len(cells.values):
        return "the same in every row"
    if cells.kind == "number":
        steps = len(present) == len(cells.values) and present[0] in (0, 1) and bool((np.diff(present) == 1).all())
        named = name.casefold() in ("id", "index") or name.casefold().endswith(("_id", " id"))
        whole = different == len(present) and not (present % 1).any()
        return "numbers the rows" if steps or (named and whole) else None
    if cells.kind == "category" and different == len(present):
        return "different in every row"
    if cells.kind == "category" and different > MOST_VALUES and different > FREE_TEXT * len(present):
        return "different in most rows"
    return None


def _told(cells: Cells, name: str) -> list[str]:
    """What the user should know of how a column is read."""
    missing = int(np.isnan(cells.values).sum())
    notes = []
    if cells.kind == "date":
        notes.append(f'"{name}" holds dates{f", read as {cells.format}" if "%" in cells.format else ""}')
    if missing:
        filled = "a value of its own" if cells.kind == "category" else "filled by the training rows' median, and marked"
        notes.append(f'"{name}" is empty in {missing:,} rows: {filled}')
    if len(cells.names) > MOST_VALUES:
        notes.append(f'"{name}" has {len(cells.names):,} values: all but the {MOST_VALUES} most common are one')
    return notes
