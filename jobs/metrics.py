"""Metrics: what a job reports besides its loss, from (predictions, truth) in the task's own unit, as 0-dim tensors."""

from collections.abc import Callable

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


def accuracy(predictions: Tensor, truth: Tensor) -> Tensor:
    """Part of the samples whose largest logit is the true class: 0 to 1, higher is better (sklearn accuracy_score).

    predictions: (B, classes) logits; truth: (B,) int64. In float64, so that 29 of 30 is 29/30 to the last digit shown,
    but on mps, which has none.
    """
    exact = torch.float32 if truth.device.type == "mps" else torch.float64
    right = (predictions.argmax(1) == truth).sum(dtype=exact)
    return right / torch.full_like(right, len(truth))  # on CUDA, / len(truth) would be * (1 / len(truth))


def mse(predictions: Tensor, truth: Tensor) -> Tensor:
    """mean (p - t)²: squared unit of the target, lower is better (sklearn mean_squared_error)."""
    return (predictions - truth).square().mean()


def rmse(predictions: Tensor, truth: Tensor) -> Tensor:
    """√ mean (p - t)²: unit of the target, lower is better (sklearn root_mean_squared_error)."""
    return mse(predictions, truth).sqrt()


def mae(predictions: Tensor, truth: Tensor) -> Tensor:
    """mean |p - t|: unit of the target, lower is better (sklearn mean_absolute_error)."""
    return (predictions - truth).abs().mean()


def r2(predictions: Tensor, truth: Tensor) -> Tensor:
    """1 - Σ(p - t)² / Σ(t - mean t)²: no unit, at most 1, higher is better (sklearn r2_score).

    Not finite where all truths are equal.
    """
    return 1 - (predictions - truth).square().sum() / (truth - truth.mean()).square().sum()


METRICS: dict[str, Metric] = {"accuracy": accuracy, "mse": mse, "rmse": rmse, "mae": mae, "r2": r2}


# Metrics that follow from the mean loss alone. Perplexity: e to a language model's cross-entropy in nats per token.
OF_LOSS: dict[str, Callable[[Tensor], Tensor]] = {"perplexity": torch.exp}
