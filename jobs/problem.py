"""What a task gives to the engine: data in three parts, a model, a loss. The engine knows nothing else of a task."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from jobs.errors import InputError
from jobs.losses import Loss


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of the data, preprocessed, as tensors of one device; row i of each belongs together."""

    inputs: Tensor  # (N, …) what the network takes
    targets: Tensor  # (N, …) what the loss compares the network's outputs with
    truth: Tensor  # (N, …) what the metrics compare the predictions with, in the task's own unit

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Tensor) -> "Split":
        """These rows, in this order."""
        return Split(
            inputs=self.inputs.index_select(0, rows),
            targets=self.targets.index_select(0, rows),
            truth=self.truth.index_select(0, rows),
        )

    def to(self, device: torch.device) -> "Split":
        return Split(inputs=self.inputs.to(device), targets=self.targets.to(device), truth=self.truth.to(device))


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model takes and gives: enough to build it again without the data."""

    input_shape: tuple[int, ...]  # of one raw row
    features: tuple[str, ...] = ()  # names of a table's columns
    classes: tuple[str, ...] = ()  # names in the order of the logits; none: it predicts values


class Model(nn.Module):
    """The whole way from raw rows (B, *input_shape) to predictions: logits (B, classes), or values (B, 1).

    Only `net` is trained. `before` and `after` are fitted on the training rows, and hold what they learned as buffers.
    """

    def __init__(self, signature: Signature, *, before: nn.Module, net: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.signature, self.task = signature, ""
        self.before, self.net, self.after = before, net, after

    @property
    def classes(self) -> tuple[str, ...]:
        return self.signature.classes

    @property
    def features(self) -> tuple[str, ...]:
        return self.signature.features

    def forward(self, rows: ArrayLike | Tensor) -> Tensor:
        """
        Args:
            rows: (B, *input_shape), raw, as a tensor or anything that NumPy takes for an array, of any type of number.

        Raises:
            InputError: they have another shape.
        """
        weight = next(self.parameters())
        given = rows if isinstance(rows, Tensor) else torch.from_numpy(np.asarray(rows))
        if given.shape[1:] != self.signature.input_shape or given.ndim == 0:
            columns = f": {', '.join(self.features)}" if self.features else ""
            raise InputError(
                f"the model takes rows of shape (rows, {', '.join(map(str, self.signature.input_shape))}){columns}; "
                f"given was {tuple(given.shape)}"
            )
        predictions: Tensor = self.after(self.net(self.before(given.to(weight))))
        return predictions


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One task with its data split by one seed, and a model with fresh weights."""

    model: Model
    loss: Loss
    train: Split
    val: Split
    test: Split
    fingerprint: str  # sha256 of the raw data

    def to(self, device: torch.device) -> "Problem":
        parts = {name: getattr(self, name).to(device) for name in ("train", "val", "test")}
        return replace(self, model=self.model.to(device), **parts)
