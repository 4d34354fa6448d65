"""How the rows of a pack go through their network: stacked, mapped by torch.func, or one by one."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from jobs.built import BACKEND, Built
from jobs.errors import SettingsError

Named = Mapping[str, Tensor]

# Kinds of networks that are compiled at a time: each takes two to four of the eight codes that torch keeps for a class
# of modules. Beyond them it would go on uncompiled, and say nothing.
COMPILED_KINDS = 2


class Mode(StrEnum):
    """How a network is computed; the same for one row and for many, but for the last digits."""

    STACKED = "stacked"  # a network of known layers, for all rows at once; also where there is one
    MAPPED = "mapped"  # any network, for all rows at once, by torch.func.vmap
    ALONE = "alone"  # the network itself, row by row
    COMPILED = "compiled"  # the same, compiled by torch


class Forward(Protocol):
    """What takes inputs (K, B, …) of K rows to outputs (K, B, …)."""

    together: bool  # or it takes one row only

    def leaves(self, built: Built, weights: Tensor, buffers: Named) -> dict[str, Tensor]:
        """The weights (K, N) of some rows as the tensors to differentiate by, in the order of the layout."""

    def __call__(self, built: Built, leaves: Named, buffers: Named, inputs: Tensor, training: bool) -> Tensor: ...

    def draw(self, built: Built, buffers: Named, keys: Tensor, number: int) -> None:
        """Have dropout masks drawn by the keys (steps, K) of this step."""

    def flat(self, built: Built, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of the leaves as parts of the rows: (K, …) each."""

    def keep(self, built: Built, buffers: Named) -> None:
        """See that the rows have the buffers that their networks have come to."""


class Rows:
    """Of all rows at once."""

    together = True

    def leaves(self, built: Built, weights: Tensor, buffers: Named) -> dict[str, Tensor]:
        return {name: view.detach().requires_grad_() for name, view in built.layout.views(weights).items()}

    def flat(self, built: Built, gradients: Sequence[Tensor]) -> list[Tensor]:
        return [gradient.reshape(len(gradient), -1) for gradient in gradients]

    def keep(self, built: Built, buffers: Named) -> None:
        """They were changed in place."""


class Stack(Rows):
    """Of known layers."""

    def draw(self, built: Built, buffers: Named, keys: Tensor, number: int) -> None:
        assert built.stacked is not None  # or this mode would not be ours
        built.stacked.keys, built.stacked.number = keys, number

    def __call__(self, built: Built, leaves: Named, buffers: Named, inputs: Tensor, training: bool) -> Tensor:
        assert built.stacked is not None
        return built.stacked(leaves, buffers, inputs, training)


def write_keys(built: Built, buffers: Named, keys: Tensor, number: int) -> None:
    """Into the buffers of the network's dropout layers."""
    for name in built.dropouts:
        buffers[f"{name}.key"].copy_(keys[number])


class Mapped(Rows):
    """Of whatever torch.func can map."""

    draw = staticmethod(write_keys)

    def __call__(self, built: Built, leaves: Named, buffers: Named, inputs: Tensor, training: bool) -> Tensor:
        net = built.net.train(training)

        def one(weights: Named, state: Named, x: Tensor) -> Tensor:
            return cast(Tensor, functional_call(net, ({**weights}, {**state}), (x,)))

        mapped: Callable[..., Tensor] = vmap(one)
        return mapped(leaves, buffers, inputs)


class Alone:
    """The network itself, whose weights are made those of the row."""

    together = False
    draw = staticmethod(write_keys)

    def leaves(self, built: Built, weights: Tensor, buffers: Named) -> dict[str, Tensor]:
        built.layout.bind(built.net, weights[0], {name: tensor[0] for name, tensor in buffers.items()})
        for layer in built.dropouts.values():
            layer.idle = layer.drops_nothing
        named = dict(built.net.named_parameters())
        return {place.name: named[place.name] for place in built.layout.places}

    def __call__(self, built: Built, leaves: Named, buffers: Named, inputs: Tensor, training: bool) -> Tensor:
        own = inputs[0]
        if built.convolves and own.ndim == 4:
            own = own.contiguous(memory_format=torch.channels_last)
        return self.network(built, training)(own)[None]

    def network(self, built: Built, training: bool) -> Callable[[Tensor], Tensor]:
        return built.net.train(training)

    def flat(self, built: Built, gradients: Sequence[Tensor]) -> list[Tensor]:
        placed = zip(built.layout.places, gradients, strict=True)
        return [(gradient.t() if place.turned else gradient).reshape(1, -1) for place, gradient in placed]

    def keep(self, built: Built, buffers: Named) -> None:
        """Most were changed in place; a user's own layer may have put another tensor in the place of its buffer."""
        now = dict(built.net.named_buffers())
        for name, (held,) in buffers.items():
            own = now.get(name, held).detach()
            if own.data_ptr() != held.data_ptr() and own.shape == held.shape:
                held.copy_(own)


class Compiled(Alone):
    """The network itself, compiled at its first steps: for training, for evaluation, and for batches of other sizes."""

    def __init__(self) -> None:
        self.kinds: set[tuple[str, bool, torch.dtype]] = set()  # what has been compiled

    def network(self, built: Built, training: bool) -> Callable[[Tensor], Tensor]:
        kind = built.device.type
        made = (built.shape, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        if made not in self.kinds and len(self.kinds) == COMPILED_KINDS:
            torch.compiler.reset()
            self.kinds.clear()
        self.kinds.add(made)
        built.net.train(training)
        return built.compiled


FORWARDS: dict[Mode, Forward] = {
    Mode.STACKED: Stack(),
    Mode.MAPPED: Mapped(),
    Mode.ALONE: Alone(),
    Mode.COMPILED: Compiled(),
}


def try_compiling(device: torch.device) -> None:
    """Compile a function of one line.

    Raises:
        SettingsError: this machine cannot; mostly it has no C++ compiler.
    """
    try:
        torch.compile(torch.neg, backend=BACKEND)(torch.ones(2, device=device))
    except Exception as error:  # of many kinds, none of them documented
        why = f"GRIDYARD_COMPILE is on, but torch.compile fails here: {str(error).strip().partition(chr(10))[0]}"
        raise SettingsError(f"{why}; install a C++ compiler, or set it off") from error


def precise(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Where networks compute in the job's precision."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
