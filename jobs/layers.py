"""Layers and networks that tasks share. Each works under `torch.func.vmap`, with weights and buffers for every row."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}

# Odd 64-bit constants of splitmix64 (Steele, Lea, Flood 2014), as signed numbers.
_MIX1, _MIX2 = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
_STRIDE = 2**40  # elements of one layer's mask at most; keeps the counters of a network's layers apart


class Dropout(nn.Module):
    """Dropout whose mask is a function of (key, layer, element), not of a stream of random numbers.

    The trainer writes a fresh `key` before each step. `p` and `key` are buffers, so each row of a pack may have its
    own; they follow from the job's parameters and seed, so no file keeps them.
    """

    p: Tensor  # () float32, probability of zero
    key: Tensor  # () int64

    def __init__(self, p: float) -> None:
        super().__init__()
        self.register_buffer("p", torch.tensor(p), persistent=False)
        self.register_buffer("key", torch.tensor(0), persistent=False)
        self.layer = 0  # place among the network's dropout layers; see `dropouts`
        self.drops_nothing = p == 0
        self.idle = self.drops_nothing  # of no row that it serves: saves the time of a mask that keeps all

    def forward(self, x: Tensor) -> Tensor:
        if self.idle or not self.training:
            return x
        return x * ((self.uniform(x) >= self.p) / (1 - self.p))  # so only one operation is differentiated

    def uniform(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """Numbers in [0, 1), one for each element of x, with 24 random bits each: (*key.shape, *x.shape).

        Args:
            key: None: its own.
        """
        key = self.key if key is None else key
        first = self.layer * _STRIDE
        bits = torch.arange(first, first + x.numel(), device=x.device) + key[..., None]
        bits = bits * _MIX1
        bits = (bits ^ ((bits >> 32) & 0xFFFFFFFF)) * _MIX2
        return (((bits >> 40) & 0xFFFFFF) * 2.0**-24).view(*key.shape, *x.shape)


def dropouts(network: nn.Module) -> list[Dropout]:
    """The network's dropout layers, numbered so that each draws masks of its own."""
    found = [module for module in network.modules() if isinstance(module, Dropout)]
    for number, module in enumerate(found):
        module.layer = number
    return found


def stateless_dropout(network: nn.Module, p: float | None = None) -> None:
    """Put `Dropout` in the place of every nn.Dropout that drops anything, with its probability or `p` for all."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout) and child.p > 0:
                setattr(module, name, Dropout(child.p if p is None else p))


def replace_dropout(network: nn.Module) -> None:
    """Another library's network with our dropout: masks are then a function of the step, as everywhere here."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))


class Standardise(nn.Module):
    """(x - mean) / std of each feature, fitted on training rows; a constant feature is only shifted."""

    mean: Tensor  # one row's shape
    std: Tensor  # same, population standard deviation

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def fit(self, rows: Tensor) -> None:
        # In float64: a feature of mean 1e4 and std 1 would lose four of its seven digits.
        self.mean.copy_(rows.double().mean(0))
        std = rows.double().std(0, correction=0)
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.std


class Unstandardise(Standardise):
    """x · std + mean: takes outputs of a network that learned standardised targets back to their unit."""

    def standardise(self, rows: Tensor) -> Tensor:
        """The targets the network learns."""
        return super().forward(rows)

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.std + self.mean


class BothLogits(nn.Module):
    """One logit z (B, 1) of the second class as logits [0, z] (B, 2) of both: their softmax is the sigmoid of z."""

    def forward(self, logit: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(logit), logit], dim=-1)


def mlp(
    inputs: int,
    hidden: list[int],
    outputs: int,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
    batch_norm: bool = False,
    init: Literal["default", "he", "xavier"] = "default",
) -> nn.Sequential:
    """A multilayer perceptron: (B, inputs) -> (B, outputs). Its weights come from torch's global stream."""
    layers: list[nn.Module] = []
    for before, after in pairwise([inputs, *hidden]):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if batch_norm else [])]
        layers += [ACTIVATIONS[activation](), Dropout(dropout)]
    network = nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else inputs, outputs))
    for module in network.modules():
        if isinstance(module, nn.Linear) and init != "default":
            initialise(module, init)
    return network


def initialise(layer: nn.Linear, init: Literal["he", "xavier"]) -> None:
    """Weights by He et al. 2015 (normal, for ReLU) or Glorot & Bengio 2010 (uniform); biases 0."""
    if init == "he":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
