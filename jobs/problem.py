"""What a task gives to the engine: data in three parts, a model, a loss. The engine knows nothing else of a task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from jobs.errors import InputError
from jobs.losses import Loss
from jobs.metrics import Metric
from jobs.spec import Json

# (inputs of a batch as the network takes them, a generator on the CPU) -> the inputs, changed at random
Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of the data as tensors of one device; row i of each belongs together."""

    inputs: Tensor  # (N, …) what the problem's `feed` turns into what the network takes
    targets: Tensor  # (N, …) what the loss compares the network's outputs with
    truth: Tensor  # (N, …) what the metrics compare the predictions with, in the task's own unit
    rows: Tensor  # (N,) int64, their numbers in the raw data, from 0

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device) -> "Split":
        parts = {name: getattr(self, name).to(device) for name in ("inputs", "targets", "truth")}
        return Split(**parts, rows=self.rows)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model takes and gives: enough to build it again without the data."""

    kind: str = "table"  # "table", "image" or "text": how a person's input becomes raw rows
    input_shape: tuple[int, ...]  # of one raw row; () where rows differ
    features: tuple[str, ...] = ()  # names of a table's columns
    classes: tuple[str, ...] = ()  # names in the order of the logits; none: it predicts values
    about: Json = field(default_factory=dict)  # whatever else its task needs to build it and to read its inputs


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
    feed: nn.Module = field(default_factory=nn.Identity)  # from a batch of a split's inputs to the network's
    augment: Augment | None = None  # of what `feed` gave, in training only
    metrics: Mapping[str, Metric] | None = None  # None: those of these names in jobs.metrics that the catalogue lists
    raw: Callable[[Tensor], Tensor] | None = None  # (B,) numbers of raw rows -> these rows, for the model
    write: Callable[[], list[Json]] | None = None  # texts that the model writes with its best weights
    evaluation_rows: int = 4096  # of one forward pass without gradients: bounds its memory
    names: Sequence[str] = ()  # of the raw rows, such as a picture's file name; none: they are numbered
    notes: tuple[str, ...] = ()  # what was done to the data that its owner should know
    code: str = ""  # sha256 of the file of a user's own task, which no commit of ours tells

    def to(self, device: torch.device) -> "Problem":
        if self.train.inputs.device == device:
            return self
        parts = {name: getattr(self, name).to(device) for name in ("train", "val", "test")}
        return replace(self, model=self.model.to(device), feed=self.feed.to(device), **parts)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a task gives that trains nothing: a model that writes, and how well it does."""

    model: Model  # what its file holds; no weights
    fingerprint: str  # sha256 of the weights it wrote with
    write: Callable[[torch.device], tuple[dict[str, float], list[Json]]]  # metrics without "val_", and the texts
