"""Tables of numbers: what the tasks on tables share. Splits, standardised columns, classification and regression.

Two classes are learned by one logit and binary cross-entropy; more by a logit each. Values are learned standardised, so
a loss is in units of the target's standard deviation, and metrics in the target's own unit.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs import losses, tensorfile
from jobs.layers import BothLogits, Standardise, Unstandardise, mlp
from jobs.params import MlpParams, RegressionParams, TrainingParams
from jobs.problem import Model, Problem, Signature, Split
from jobs.randomness import Purpose, generator

VALIDATION, TEST = 0.2, 0.2  # parts of all rows


@dataclass(frozen=True, kw_only=True)
class Table:
    """Raw data: one row per sample. Equal tables have equal fingerprints."""

    rows: NDArray[Any]  # (N, features) numbers
    labels: NDArray[Any]  # (N,) class numbers from 0, or values
    features: tuple[str, ...]
    classes: tuple[str, ...] = ()  # none: regression

    @property
    def signature(self) -> Signature:
        return Signature(input_shape=(len(self.features),), features=self.features, classes=self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over shapes, types and bytes."""
        digest = hashlib.sha256()
        for array in (self.rows, self.labels):
            digest.update(f"{array.shape} {array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def as_file(self) -> bytes:
        """All of it as one safetensors file."""
        arrays = {"rows": torch.from_numpy(self.rows), "labels": torch.from_numpy(self.labels)}
        return tensorfile.pack(arrays, {"features": self.features, "classes": self.classes})

    @classmethod
    def from_file(cls, content: bytes, name: str) -> "Table":
        """What `as_file` gave.

        Raises:
            CheckpointDamaged: the file is not whole; the message names it.
        """
        arrays, facts = tensorfile.unpack(content, name)
        names = {key: tuple(value) for key, value in facts.items()}
        return cls(rows=arrays["rows"].numpy(), labels=arrays["labels"].numpy(), **names)


def classification(table: Table, model: Model, params: TrainingParams, seed: int) -> Problem:
    """The model learns the table's classes."""
    truth = torch.from_numpy(table.labels).long()
    binary = len(table.classes) == 2
    targets = truth.float()[:, None] if binary else truth
    loss = losses.binary_cross_entropy if binary else losses.cross_entropy
    train, *rest = split(len(truth), params, seed, classes=table.labels)
    return problem(table, model, loss, (train, *rest), targets, truth)


def regression(table: Table, model: Model, params: RegressionParams, seed: int) -> Problem:
    """The model learns the table's values, standardised; its `after` takes them back."""
    truth = torch.from_numpy(table.labels).float()[:, None]
    parts = split(len(truth), params, seed)
    assert isinstance(model.after, Unstandardise)
    model.after.fit(truth[parts[0]])
    loss = losses.regression(params.loss, params.huber_delta)
    return problem(table, model, loss, parts, model.after.standardise(truth), truth)


def problem(
    table: Table, model: Model, loss: losses.Loss, parts: tuple[Tensor, ...], targets: Tensor, truth: Tensor
) -> Problem:
    """All together; the columns are standardised by their training rows."""
    rows = torch.from_numpy(table.rows).float()
    assert isinstance(model.before, Standardise)
    model.before.fit(rows[parts[0]])
    inputs = model.before(rows)
    train, val, test = (
        Split(inputs=inputs[part], targets=targets[part], truth=truth[part], rows=part) for part in parts
    )
    return Problem(model=model, loss=loss, train=train, val=val, test=test, fingerprint=table.fingerprint)


def split(
    rows: int, params: TrainingParams, seed: int, classes: NDArray[Any] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Row numbers of training, validation and test; with `classes`, each part has the same share of every class.

    Of a class, or of all rows, the first in a drawn order are for testing and the next for validation. How many is
    rounded so that the parts have their sizes exactly, and no class in a part is more than one row off its share.
    """
    seed = seed if params.split_seed is None else params.split_seed
    shuffled = torch.randperm(rows, generator=generator(seed, Purpose.SPLIT))
    label = np.zeros(rows) if classes is None else classes[shuffled]
    groups = [shuffled[torch.from_numpy(label == value)] for value in np.unique(label)]
    ends = torch.tensor([len(group) for group in groups]).cumsum(0)
    test, kept = shares(ends, TEST), shares(ends, TEST + VALIDATION)
    parts = [torch.tensor_split(group, cuts) for group, *cuts in zip(groups, test, kept, strict=True)]
    tests, vals, trains = (torch.cat(part) for part in zip(*parts, strict=True))
    return trains, vals, tests


def shares(ends: Tensor, part: float) -> list[int]:
    """How many rows of each group make this part of all, given where the groups end (cumulative sizes)."""
    return torch.diff((ends * part).round().long(), prepend=torch.zeros(1, dtype=torch.long)).tolist()


def classifier(params: MlpParams, signature: Signature) -> Model:
    """A multilayer perceptron on standardised columns; predicts logits (B, classes).

    Raises:
        ValueError: batch_norm, but batches of one row.
    """
    binary = len(signature.classes) == 2
    return Model(
        signature,
        before=Standardise(signature.input_shape),
        net=perceptron(params, signature, outputs=1 if binary else len(signature.classes)),
        after=BothLogits() if binary else nn.Identity(),
    )


def perceptron(params: MlpParams, signature: Signature, outputs: int) -> nn.Sequential:
    if params.batch_norm and params.hidden and params.batch_size == 1:  # rules of params never cross fields
        raise ValueError("batch_norm needs batches of at least two rows; given batch_size 1")
    return mlp(
        signature.input_shape[0],
        params.hidden,
        outputs,
        activation=params.activation,
        dropout=params.dropout,
        batch_norm=params.batch_norm,
        init=params.init,
    )
