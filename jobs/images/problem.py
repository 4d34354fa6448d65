"""From pixels and labels to a Problem, whatever the pictures show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs import logits
from jobs.catalogue.images import Augmentation
from jobs.images.augment import augmentation
from jobs.images.networks import Scale
from jobs.params import TrainingParams
from jobs.problem import Augment, Model, Problem, Signature, Split

MOST_ON_DEVICE = 1 << 30  # bytes of pictures that a device keeps; of more, each batch is sent to it
PIXELS_AT_ONCE = 1 << 21  # of one forward pass without gradients


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Decoded pictures; equal ones have equal fingerprints."""

    pixels: NDArray[np.uint8]  # (N, S, S, C), mostly mapped from a file
    labels: NDArray[np.int64]  # (N,) class numbers from 0
    classes: tuple[str, ...]
    fingerprint: str
    names: Sequence[str] = ()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        return int(self.pixels.shape[3])


class Feed(nn.Module):
    """Row numbers (B,) to pictures (B, C, S, S) of -1 to 1, channels last.

    A split holds row numbers only, so the pictures stay where they are mapped, once for all trainers of a machine.
    """

    pixels: Tensor  # (N, S, S, C) uint8

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__()
        kept = torch.from_numpy(pixels)
        if kept.nbytes <= MOST_ON_DEVICE:
            self.register_buffer("pixels", kept, persistent=False)
        else:
            self.pixels = kept
        self.scale = Scale()

    def forward(self, rows: Tensor) -> Tensor:
        chosen = self.pixels.index_select(0, rows.to(self.pixels.device)).to(rows.device)
        pictures: Tensor = self.scale(chosen.permute(0, 3, 1, 2).float())
        return pictures


def model(signature: Signature, net: nn.Module) -> Model:
    """Raw pixels (B, C, S, S) of 0 to 255 to logits (B, classes)."""
    return Model(signature, before=Scale(), net=net, after=logits.after(logits.outputs(signature.classes)))


def problem(
    pictures: Pictures, built: Model, parts: Sequence[Tensor], params: TrainingParams, augment: Augment | None = None
) -> Problem:
    """The model learns the classes of the pictures; `parts` are the rows of training, validation and test."""
    truth = torch.from_numpy(pictures.labels)
    targets = logits.targets(truth, built.after)
    train, val, test = (Split(inputs=part, targets=targets[part], truth=truth[part], rows=part) for part in parts)
    return Problem(
        model=built,
        loss=logits.loss(targets),
        train=train,
        val=val,
        test=test,
        fingerprint=pictures.fingerprint,
        feed=Feed(pictures.pixels),
        raw=lambda rows: torch.from_numpy(pictures.pixels[rows.numpy()]).permute(0, 3, 1, 2),
        augment=augmentation(params) if augment is None and isinstance(params, Augmentation) else augment,
        evaluation_rows=max(1, PIXELS_AT_ONCE // pictures.size**2),
        names=pictures.names,
        notes=pictures.notes,
    )
