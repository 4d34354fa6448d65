"""Metrics: what a job reports besides its loss, from (predictions, truth) in the task's own unit, as 0-dim tensors.

Of a pack all rows at once: further axes before those that are named here, such as predictions (K, B, classes), give a
value each, (K,), which on one thread is bit for bit that of its row alone. Truth may lack these axes: it is shared.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


def accuracy(predictions: Tensor, truth: Tensor) -> Tensor:
    """Part of the samples whose largest logit is the true class: 0 to 1, higher is better (sklearn accuracy_score).

    predictions: (B, classes) logits; truth: (B,) int64. In float64, so that 29 of 30 is 29/30 to the last digit shown,
    but on mps, which has none.
    """
    right = (predictions.argmax(-1) == truth).sum(-1, dtype=_exact(truth))
    return right / torch.full_like(right, truth.shape[-1])  # on CUDA, / 30 would be * (1 / 30)


def f1(predictions: Tensor, truth: Tensor) -> Tensor:
    """Mean over classes of 2 · right / (predicted + true): 0 to 1, higher is better (sklearn f1_score, macro).

    Of the classes that any sample is said to have, or has. predictions: (B, classes) logits; truth: (B,) int64.
    """
    right, predicted, true = _counts(predictions, truth)
    both = predicted + true
    return (2 * right / both.clamp(min=1)).sum(-1) / (both > 0).sum(-1)


def balanced_accuracy(predictions: Tensor, truth: Tensor) -> Tensor:
    """Mean over classes of right / true: 0 to 1, higher is better (sklearn balanced_accuracy_score).

    Of the classes that any sample has. predictions: (B, classes) logits; truth: (B,) int64.
    """
    right, _, true = _counts(predictions, truth)
    return (right / true.clamp(min=1)).sum(-1) / (true > 0).sum(-1)


def roc_auc(predictions: Tensor, truth: Tensor) -> Tensor:
    """How likely a sample of a class has a higher probability of it than one of another: 0.5 by chance, at most 1.

    Higher is better. Two classes: of the second one's probability; more: the mean over classes of one against the rest
    (sklearn roc_auc_score, multi_class="ovr"). A class that all samples have, or none, is not counted; where none is
    left, it is 0.5. By ranks, those of equal probabilities in their middle (Mann and Whitney 1947).

    predictions: (B, classes) logits; truth: (B,) int64.
    """
    classes = predictions.shape[-1]
    truth = truth.expand(predictions.shape[:-1])
    if classes == 2:
        scores, has = predictions[..., 1:] - predictions[..., :1], (truth == 1)[..., None]
    else:  # log-probabilities order samples as probabilities do, and are not all rounded to 1
        scores, has = predictions.log_softmax(-1), truth[..., None] == torch.arange(classes, device=truth.device)
    ordered, order = scores.mT.sort(-1)  # (…, classes, B)
    ranks = _twice_ranks(ordered).to(_exact(truth))
    counts = has.sum(-2)
    pairs = counts * (truth.shape[-1] - counts)
    won = (ranks * has.mT.gather(-1, order)).sum(-1) - counts * (counts + 1)  # twice the pairs in order
    counted = pairs > 0
    found = won / (2 * pairs.clamp(min=1)) * counted
    return torch.where(counted.any(-1), found.sum(-1) / counted.sum(-1).clamp(min=1), 0.5)


def _twice_ranks(ordered: Tensor) -> Tensor:
    """Twice the ranks, from 1, of numbers in order along the last axis; equal ones share the middle of theirs."""
    places = torch.arange(ordered.shape[-1], device=ordered.device)
    new = ordered[..., 1:] != ordered[..., :-1]
    edge = torch.ones_like(ordered[..., :1], dtype=torch.bool)
    first = torch.where(torch.cat([edge, new], -1), places, 0).cummax(-1).values
    last = torch.where(torch.cat([new, edge], -1), places, len(places) - 1).flip(-1).cummin(-1).values.flip(-1)
    return first + last + 2


def _exact(truth: Tensor) -> torch.dtype:
    return torch.float32 if truth.device.type == "mps" else torch.float64


def _counts(predictions: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each class, how many samples are rightly said to have it, said to have it, have it: (…, classes) each."""
    classes, said = predictions.shape[-1], predictions.argmax(-1)
    table = torch.zeros(*said.shape[:-1], classes**2, dtype=_exact(truth), device=truth.device)
    table.scatter_add_(-1, truth * classes + said, table.new_ones(()).expand_as(said))
    table = table.view(*said.shape[:-1], classes, classes)
    return table.diagonal(dim1=-2, dim2=-1), table.sum(-2), table.sum(-1)


def mse(predictions: Tensor, truth: Tensor) -> Tensor:
    """mean (p - t)²: squared unit of the target, lower is better (sklearn mean_squared_error).

    Of all these, predictions and truth: (B, 1), or as many values of a sample as there are.
    """
    return _values(predictions - truth).square().mean(-1)


def rmse(predictions: Tensor, truth: Tensor) -> Tensor:
    """√ mean (p - t)²: unit of the target, lower is better (sklearn root_mean_squared_error)."""
    return mse(predictions, truth).sqrt()


def mae(predictions: Tensor, truth: Tensor) -> Tensor:
    """mean |p - t|: unit of the target, lower is better (sklearn mean_absolute_error)."""
    return _values(predictions - truth).abs().mean(-1)


def r2(predictions: Tensor, truth: Tensor) -> Tensor:
    """1 - Σ(p - t)² / Σ(t - mean t)²: no unit, at most 1, higher is better (sklearn r2_score).

    Not finite where all truths are equal.
    """
    true = _values(truth)
    spread = (true - true.mean(-1, keepdim=True)).square().sum(-1)
    return 1 - _values(predictions - truth).square().sum(-1) / spread


def _values(tensor: Tensor) -> Tensor:
    """(…, B, 1) -> (…, B), one row after the other in memory: elsewhere sums are made in another order."""
    return tensor.flatten(max(0, tensor.ndim - 2)).contiguous()


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "roc_auc": roc_auc,
    "mse": mse,
    "rmse": rmse,
    "mae": mae,
    "r2": r2,
}


OF_VALUES = (mse, rmse, mae, r2)


# Metrics that follow from the mean loss alone. Perplexity: e to a language model's cross-entropy in nats per token.
OF_LOSS: dict[str, Callable[[Tensor], Tensor]] = {"perplexity": torch.exp}


def measured(metrics: Sequence[Metric], predictions: Tensor, truth: Tensor) -> Tensor:
    """A metric of each row of a pack, (K, B, …) and (K, B, …) -> (K,). A user's own metric knows one row.

    Args:
        metrics: each row's; all are one of ours, or none is.
    """
    metric = metrics[0]
    if metric in OF_VALUES:  # of all the values that a sample has
        return metric(predictions.flatten(1)[..., None], truth.flatten(1)[..., None])
    if metric in METRICS.values():
        return metric(predictions, truth)
    return torch.stack([own(*row) for own, *row in zip(metrics, predictions, truth, strict=True)])
