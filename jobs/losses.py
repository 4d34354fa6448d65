"""Losses, element by element: a job's loss is their mean, taken outside so that rows of a pack cannot mix."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> losses, at least one for each sample


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(outputs)[target], in nats: (B, classes), (B,) int64 -> (B,)."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of one logit, in nats: (B, 1), (B, 1) of 0.0 and 1.0 -> (B, 1)."""
    return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """(output - target)²."""
    return functional.mse_loss(outputs, targets, reduction="none")


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """|output - target|."""
    return functional.l1_loss(outputs, targets, reduction="none")


def huber(delta: float) -> Loss:
    """Half the square up to an error of delta, linear beyond (Huber 1964)."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.huber_loss(outputs, targets, reduction="none", delta=delta)

    return loss


def regression(name: Literal["mse", "l1", "huber"], huber_delta: float) -> Loss:
    """The loss of this name."""
    return {"mse": mse, "l1": l1, "huber": huber(huber_delta)}[name]


def weighted(loss: Loss, weights: Tensor) -> Loss:
    """The same, each element times the weight of its class. weights: (classes,); targets: class numbers."""

    @cache  # sent to a device once, not with each batch
    def on(device: torch.device) -> Tensor:
        return weights.to(device)

    def weighted_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return loss(outputs, targets) * on(targets.device)[targets.long()]

    return weighted_loss


def balancing(labels: Tensor, classes: int) -> Tensor:
    """Weights (classes,) by which every class counts the same; their mean over the rows is 1.

    N / (classes · rows of the class), as scikit-learn's class_weight="balanced". A class without rows is not counted.
    """
    counts = torch.bincount(labels, minlength=classes)
    present = counts > 0
    return torch.where(present, len(labels) / (present.sum() * counts.clamp(min=1)), 1.0)
