"""The optimizers, from torch.optim; fused updates of packs are tested against them."""

from torch import Tensor, optim

from jobs.params import TrainingParams


def make(params: TrainingParams, weights: Tensor) -> optim.Optimizer:
    """The job's optimizer over all its weights, which are one flat vector (N,): each update is elementwise."""
    lr, decay, momentum = params.lr, params.weight_decay, params.momentum
    match params.optimizer:
        case "adam":
            return optim.Adam([weights], lr, weight_decay=decay)
        case "adamw":
            return optim.AdamW([weights], lr, weight_decay=decay)
        case "rmsprop":
            return optim.RMSprop([weights], lr, momentum=momentum, weight_decay=decay)
        case "sgd":
            nesterov = params.nesterov and momentum > 0  # torch refuses Nesterov without momentum
            return optim.SGD([weights], lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)


def tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by name: momenta, squares, step counter; empty before its first step."""
    (weights,) = optimizer.param_groups[0]["params"]
    return {name: value for name, value in optimizer.state[weights].items() if value is not None}


def restore(optimizer: optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Take up a state that `tensors` gave."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {0: state} if state else {}, "param_groups": groups})
