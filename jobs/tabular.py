"""Tables: what the tasks on them share. Standardised columns, classification and regression.

Values are learned standardised, so a loss is in units of the target's standard deviation, and metrics in the target's
own unit.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs import logits, losses, tensorfile
from jobs.column_layers import Expand, UnstandardiseLog
from jobs.layers import Standardise, Unstandardise, mlp
from jobs.params import MlpParams, RegressionParams, TrainingParams
from jobs.problem import Model, Problem, Signature, Split
from jobs.schema import Column, columns_of
from jobs.spec import Json
from jobs.splits import Parts, split


@dataclass(frozen=True, kw_only=True)
class Table:
    """Raw data: one row per sample. Equal tables have equal fingerprints."""

    rows: NDArray[Any]  # (N, features) numbers
    labels: NDArray[Any]  # (N,) class numbers from 0, or values
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()  # none: regression
    columns: tuple[Column, ...] = ()  # what the features mean, where they are not all plain numbers
    target: str = ""  # name of the labels' column
    unit: str = ""  # of the labels
    source: str = ""  # sha256 of the file it was read from
    notes: tuple[str, ...] = ()  # what was done to the data that its owner should know

    @property
    def signature(self) -> Signature:
        about: Json = {"columns": [column.model_dump(mode="json") for column in self.columns]} if self.columns else {}
        told = {"target": self.target, "unit": self.unit}
        about |= {name: text for name, text in told.items() if text}
        shape = (len(self.features),)
        return Signature(input_shape=shape, features=self.features, classes=self.classes, about=about)

    @cached_property
    def fingerprint(self) -> str:
        """That of the file; without one, sha256 over shapes, types and bytes."""
        if self.source:
            return self.source
        digest = hashlib.sha256()
        for array in (self.rows, self.labels):
            digest.update(f"{array.shape} {array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def as_file(self) -> bytes:
        """A table of plain numbers as one safetensors file."""
        arrays = {"rows": torch.from_numpy(self.rows), "labels": torch.from_numpy(self.labels)}
        return tensorfile.pack(arrays, {"features": self.features, "classes": self.classes})

    @classmethod
    def from_file(cls, content: bytes, name: str) -> "Table":
        """What `as_file` gave.

        Raises:
            CheckpointDamaged: the file is not whole; the message names it.
        """
        arrays, facts = tensorfile.unpack(content, name)
        names: dict[str, Any] = {key: tuple(value) for key, value in facts.items()}
        return cls(rows=arrays["rows"].numpy(), labels=arrays["labels"].numpy(), **names)


def classification(
    table: Table,
    model: Model,
    params: TrainingParams,
    seed: int,
    *,
    parts: Parts | None = None,
    balanced: bool = False,
) -> Problem:
    """The model learns the table's classes.

    Args:
        parts: None: drawn by the seed, each with the same share of every class.
        balanced: every class weighs the same in the loss, however many rows it has.
    """
    truth = torch.from_numpy(table.labels).long()
    targets = logits.targets(truth, model.after)
    loss = logits.loss(targets)
    parts = parts or split(len(truth), params, seed, classes=table.labels)
    if balanced:
        loss = losses.weighted(loss, losses.balancing(truth[parts[0]], len(table.classes)))
    return problem(table, model, loss, parts, targets, truth)


def regression(
    table: Table, model: Model, params: RegressionParams, seed: int, *, parts: Parts | None = None
) -> Problem:
    """The model learns the table's values, standardised; its `after` takes them back."""
    truth = torch.from_numpy(table.labels).float()[:, None]
    parts = parts or split(len(truth), params, seed)
    assert isinstance(model.after, Unstandardise)
    model.after.fit(truth[parts[0]])
    loss = losses.regression(params.loss, params.huber_delta)
    return problem(table, model, loss, parts, model.after.standardise(truth), truth)


def problem(table: Table, model: Model, loss: losses.Loss, parts: Parts, targets: Tensor, truth: Tensor) -> Problem:
    """All together; the columns are standardised by their training rows."""
    rows = torch.from_numpy(table.rows).float()
    assert isinstance(model.before, (Standardise, Expand))
    model.before.fit(rows[parts[0]])
    inputs = model.before(rows)
    train, val, test = (
        Split(inputs=inputs[part], targets=targets[part], truth=truth[part], rows=part) for part in parts
    )
    return Problem(
        model=model,
        loss=loss,
        train=train,
        val=val,
        test=test,
        fingerprint=table.fingerprint,
        raw=rows.__getitem__,
        notes=table.notes,
    )


def classifier(params: MlpParams, signature: Signature) -> Model:
    """A multilayer perceptron on standardised columns; predicts logits (B, classes).

    Raises:
        ValueError: batch_norm, but batches of one row.
    """
    outputs = logits.outputs(signature.classes)
    return whole(params, signature, outputs, logits.after(outputs))


def regressor(params: MlpParams, signature: Signature, *, log: bool = False) -> Model:
    """A multilayer perceptron on standardised columns; predicts values (B, 1), learned as logarithms with `log`.

    Raises:
        ValueError: batch_norm, but batches of one row.
    """
    return whole(params, signature, 1, UnstandardiseLog((1,)) if log else Unstandardise((1,)))


def whole(params: MlpParams, signature: Signature, outputs: int, after: nn.Module) -> Model:
    """A perceptron between what its columns need and what makes predictions of its outputs."""
    mixed = bool(signature.about.get("columns"))
    before = Expand(columns_of(signature)) if mixed else Standardise(signature.input_shape)
    inputs = before.inputs if isinstance(before, Expand) else signature.input_shape[0]
    return Model(signature, before=before, net=perceptron(params, inputs, outputs), after=after)


def perceptron(params: MlpParams, inputs: int, outputs: int) -> nn.Sequential:
    """As the parameters say, with fresh weights: (B, inputs) to (B, outputs).

    Raises:
        ValueError: batch_norm, but batches of one row.
    """
    if params.batch_norm and params.hidden and params.batch_size == 1:  # rules of params never cross fields
        raise ValueError("batch_norm needs batches of at least two rows; given batch_size 1")
    return mlp(
        inputs,
        params.hidden,
        outputs,
        activation=params.activation,
        dropout=params.dropout,
        batch_norm=params.batch_norm,
        init=params.init,
    )
