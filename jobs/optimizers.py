"""The optimizers, from torch.optim; fused updates of packs are tested against them."""

import inspect
from typing import TypeVar, cast

from torch import Tensor, optim

from jobs.params import TrainingParams

T = TypeVar("T", bound=optim.Optimizer)


def undecorated(optimizer: type[T]) -> type[T]:
    """The same optimizer without the decorators that keep torch.compile away from it.

    At their first call these import torch._dynamo, which takes each trainer 3.6 s of CPU time. Its `step` must be
    called under `torch.no_grad`, which one of them saw to.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "step")
    plain = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    return cast(type[T], type(optimizer.__name__, (optimizer,), plain))


ADAM, ADAMW = undecorated(optim.Adam), undecorated(optim.AdamW)
RMSPROP, SGD = undecorated(optim.RMSprop), undecorated(optim.SGD)


def make(params: TrainingParams, weights: Tensor) -> optim.Optimizer:
    """The job's optimizer over all its weights, which are one flat vector (N,): each update is elementwise."""
    lr, decay, momentum = params.lr, params.weight_decay, params.momentum
    match params.optimizer:
        case "adam":
            return ADAM([weights], lr, weight_decay=decay)
        case "adamw":
            return ADAMW([weights], lr, weight_decay=decay)
        case "rmsprop":
            return RMSPROP([weights], lr, momentum=momentum, weight_decay=decay)
        case "sgd":
            nesterov = params.nesterov and momentum > 0  # torch refuses Nesterov without momentum
            return SGD([weights], lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)


def tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by name: momenta, squares, step counter; empty before its first step."""
    (weights,) = optimizer.param_groups[0]["params"]
    return {name: value for name, value in optimizer.state[weights].items() if value is not None}


def restore(optimizer: optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Take up a state that `tensors` gave."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {0: state} if state else {}, "param_groups": groups})
