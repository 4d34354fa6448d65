"""What a user's own `data` gave, as tensors: rows, labels and their split, held to what they must be."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.own import OwnTask, refuse, shown
from jobs.params import TrainingParams
from jobs.problem import Signature
from jobs.splits import split
from jobs.tabular import Table

PARTS = ("train", "val", "test")
FEWEST = 3  # rows of a class: one each for training, validation and test
SHOWN = 5  # rows that a message names
Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Some rows with their labels."""

    rows: Tensor  # (N, …) float32
    labels: Tensor  # (N,) int64 class numbers, or float32 values
    numbers: Tensor  # (N,) int64, their places in the raw data, from 0


@dataclass(frozen=True)
class Parts:
    """The split data, and what a model of them takes and gives."""

    train: Rows
    val: Rows
    test: Rows
    rows: Tensor  # (N, …) float32, all of them in the order of the raw data
    signature: Signature
    fingerprint: str  # sha256


@dataclass(frozen=True)
class Raw:
    """Rows as they were given."""

    rows: Array  # (N, …) numbers
    labels: Array  # (N,) of any type
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None  # of labels that are numbers of classes already


def parts_of(own: OwnTask, params: TrainingParams, seed: int) -> Parts:
    """Its data, split: as it says, else 60 % for training and 20 % each for validation and test, by class.

    Raises:
        InputError: the data are none that could be trained on; the message says what is wrong, and where.
    """
    given = own.data(params, seed)
    sizes: list[int] = []
    if isinstance(given, Mapping):
        if set(given) != set(PARTS):
            refuse(own, f"its data have the parts {', '.join(map(repr, given))}; allowed are {', '.join(PARTS)}")
        raws = [read(own, given[part], f"{part} ") for part in PARTS]
        sizes = [len(raw.labels) for raw in raws]
        raw = together(own, raws)
    else:
        raw = read(own, given, "")
    classification = own.kind == "classification"
    labels, classes = numbered(own, raw) if classification else (values(own, raw), ())
    if sizes:
        numbers = torch.split(torch.arange(len(labels)), sizes)
    else:
        numbers = split(len(labels), params, seed, labels if classification else None)
    _check_parts(own, labels, classes, numbers)
    return _assembled(raw, labels, classes, numbers)


def read(own: OwnTask, given: Any, part: str) -> Raw:
    """Rows and labels as arrays: as many of one as of the other, and every number finite."""
    if isinstance(given, Table) and given.columns:
        refuse(own, f"its {part}data are a Table with columns that are no plain numbers; give numbers")
    if isinstance(given, Table):
        given, features, classes = (given.rows, given.labels), given.features, given.classes or None
    elif isinstance(given, tuple) and len(given) == 2:
        features, classes = tuple(map(str, getattr(given[0], "columns", ()))), None
    else:
        refuse(own, f"its {part}data are {shown(given)}; allowed is (rows, labels), a Table, or a dict of {PARTS}")
    rows, labels = array(own, given[0], f"{part}rows"), array(own, given[1], f"{part}labels")
    if rows.ndim < 2:
        refuse(own, f"its {part}rows have shape {rows.shape}; allowed is (rows, columns); of one column rows[:, None]")
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        refuse(own, f"its {part}labels have shape {labels.shape}; allowed is one for each row, ({len(rows)},)")
    if len(rows) != len(labels):
        refuse(own, f"its {part}data have {len(rows)} rows, but {len(labels)} labels")
    return Raw(finite(own, numeric(own, rows, f"{part}rows"), f"{part}rows", features), labels, features, classes)


def array(own: OwnTask, given: Any, what: str) -> Array:
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths; a tensor that has a gradient
        refuse(own, f"its {what} cannot be taken for an array: {error}")


def numeric(own: OwnTask, given: Array, what: str) -> Array:
    if given.dtype.kind in "biuf":
        return given
    try:
        return given.astype(np.float64)
    except (ValueError, TypeError):
        text = next((f"; one is {str(value)!r}" for value in given.flat if isinstance(value, str)), "")
        refuse(own, f"its {what} are of type {given.dtype}, allowed are numbers{text}")


def finite(own: OwnTask, given: Array, what: str, features: tuple[str, ...] = ()) -> Array:
    """The same, when it holds neither NaN nor infinity."""
    wrong = ~np.isfinite(given.reshape(len(given), -1))
    if wrong.any():
        numbers = np.flatnonzero(wrong.any(axis=1))
        first, column = numbers[0], int(np.flatnonzero(wrong[numbers[0]])[0])
        of = f" in column {features[column]}" if features else f" in column {column}" if given.ndim > 1 else ""
        named = ", ".join(map(str, numbers[:SHOWN])) + (", …" if len(numbers) > SHOWN else "")
        value = f"{given.reshape(len(given), -1)[first, column]}{of}"
        refuse(own, f"{len(numbers)} of its {what} are not finite, counted from 0: {named} (the first has {value})")
    return given


def together(own: OwnTask, raws: list[Raw]) -> Raw:
    """The parts one after the other."""
    shapes = {raw.rows.shape[1:] for raw in raws}
    if len(shapes) > 1:
        refuse(own, f"the rows of its parts have different shapes: {', '.join(map(str, sorted(shapes)))}")
    rows, labels = (np.concatenate([getattr(raw, name) for raw in raws]) for name in ("rows", "labels"))
    return Raw(rows, labels, raws[0].features, raws[0].classes)


def numbered(own: OwnTask, raw: Raw) -> tuple[Array, tuple[str, ...]]:
    """The labels (N,) as numbers of classes, and the classes' names: those of whole numbers are written out."""
    if raw.labels.dtype.kind == "O":
        no_text = [number for number, label in enumerate(raw.labels) if not isinstance(label, str)]
        if no_text:
            refuse(own, f"label {no_text[0]} is {raw.labels[no_text[0]]!r}, others are texts; all must be of one type")
    elif raw.labels.dtype.kind not in "iubU":
        hint = 'for values write kind = "regression", and whole numbers with .astype(int)'
        refuse(own, f"its labels are {raw.labels.dtype}; a classification needs texts or whole numbers: {hint}")
    if raw.classes is None:
        texts = raw.labels.dtype.kind == "O"
        found, numbers = np.unique(raw.labels.astype(str) if texts else raw.labels, return_inverse=True)
        return numbers, tuple(map(str, found))
    if raw.labels.min() < 0 or raw.labels.max() >= len(raw.classes):
        refuse(own, f"its labels go from {raw.labels.min()} to {raw.labels.max()}, its classes are {len(raw.classes)}")
    return raw.labels.astype(np.int64), raw.classes


def values(own: OwnTask, raw: Raw) -> Array:
    """The labels (N,) as float64."""
    labels = finite(own, numeric(own, raw.labels, "labels"), "labels").astype(np.float64)
    if np.ptp(labels) == 0:
        refuse(own, f"all its labels are {labels[0]:g}: there is nothing to learn")
    return labels


def _check_parts(own: OwnTask, labels: Array, classes: tuple[str, ...], numbers: tuple[Tensor, ...]) -> None:
    sizes = dict(zip(PARTS, map(len, numbers), strict=True))
    if not all(sizes.values()):
        refuse(own, f"its {len(labels)} rows leave a part empty: {sizes}")
    if not classes:
        return
    if len(classes) == 1:
        refuse(own, f"all its labels are {classes[0]!r}: there is nothing to learn")
    count, trained = (
        np.bincount(labels, minlength=len(classes)),
        np.bincount(labels[numbers[0]], minlength=len(classes)),
    )
    for name, rows, of_train in zip(classes, count, trained, strict=True):
        if rows < FEWEST:
            refuse(own, f"class {name!r} has {rows} of its rows; at least {FEWEST}: for training, validation and test")
        if of_train == 0:
            refuse(own, f"class {name!r} has no row in its part for training")


def _assembled(raw: Raw, labels: Array, classes: tuple[str, ...], numbers: tuple[Tensor, ...]) -> Parts:
    shape = raw.rows.shape[1:]
    features = raw.features or (tuple(f"x{column}" for column in range(shape[0])) if len(shape) == 1 else ())
    kind = "table" if len(shape) == 1 else "array"
    rows = torch.from_numpy(np.ascontiguousarray(raw.rows, dtype=np.float32))
    truth = torch.from_numpy(labels.astype(np.int64 if classes else np.float32))
    parts = {name: Rows(rows[part], truth[part], part) for name, part in zip(PARTS, numbers, strict=True)}
    table = Table(rows=raw.rows, labels=labels, features=features)
    facts = [table.fingerprint, features, classes, list(map(len, numbers))]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    signature = Signature(kind=kind, input_shape=shape, features=features, classes=classes)
    return Parts(**parts, rows=rows, signature=signature, fingerprint=digest)
