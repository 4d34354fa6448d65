"""From pixels and labels to a Problem, whatever the pictures show."""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

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

MOST_ON_DEVICE = 1 << 30  # bytes of pictures that a device keeps which does not tell what is free; see `room`
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
    copies: MutableMapping[torch.device, Tensor] = field(  # while a job holds them
        init=False, repr=False, compare=False, default_factory=WeakValueDictionary
    )

    def on(self, device: torch.device) -> Tensor:
        """The pixels on this device, one copy for all jobs of a trainer; as they are mapped, where they do not fit."""
        found, kept = self.copies.get(device), torch.from_numpy(self.pixels)
        if found is not None or device.type == "cpu" or kept.nbytes > room(device):
            return kept if found is None else found
        self.copies[device] = copy = kept.to(device)
        return copy

    @property
    def size(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        return int(self.pixels.shape[3])


def room(device: torch.device) -> int:
    """Bytes of pictures that a device may keep: half of what a GPU has free, the rest is for training."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else MOST_ON_DEVICE


class Feed(nn.Module):
    """Row numbers (B,) to pictures (B, C, S, S) of -1 to 1, channels last.

    A split holds row numbers only, so the pictures stay where they are mapped, once for all trainers of a machine; or
    lie on the trainer's device, once for all its jobs. Of those that do not fit there each batch is sent to it.
    """

    def __init__(self, pictures: Pictures) -> None:
        super().__init__()
        self.pictures, self.pixels = pictures, torch.from_numpy(pictures.pixels)  # (N, S, S, C) uint8
        self.scale = Scale()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """What `to(device)` comes down to."""
        self.pixels = self.pictures.on(fn(torch.empty(0)).device)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, rows: Tensor) -> Tensor:
        chosen = self.pixels.index_select(0, rows.to(self.pixels.device)).to(rows.device)
        pictures: Tensor = self.scale(chosen.permute(0, 3, 1, 2))
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
        feed=Feed(pictures),
        raw=lambda rows: torch.from_numpy(pictures.pixels[rows.numpy()]).permute(0, 3, 1, 2),
        augment=augmentation(params) if augment is None and isinstance(params, Augmentation) else augment,
        evaluation_rows=max(1, PIXELS_AT_ONCE // pictures.size**2),
        names=pictures.names,
        notes=pictures.notes,
    )
