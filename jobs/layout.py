"""Where the weights of a network lie in one row of numbers: jobs of equal networks are rows of one matrix."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

WIDTH = 32  # floats; rows of a multiple of it leave no rest that other instructions would round in another way


class Place(NamedTuple):
    """One weight."""

    name: str  # in the network
    start: int  # of its first number in the row
    stop: int
    shape: tuple[int, ...]  # in the row
    own: torch.Size  # in the network
    turned: bool  # the network has it transposed


class Layout:
    """The trained weights of a network, one after the other, as one row (N,)."""

    def __init__(self, net: nn.Module, shapes: Mapping[str, tuple[int, ...]], turned: Collection[str]) -> None:
        """
        Args:
            shapes: of weights that have another shape in the row.
            turned: names of those that lie there transposed.
        """
        self.places: list[Place] = []
        start = 0
        for name, weight in net.named_parameters():
            if weight.requires_grad:
                stop, shape = start + weight.numel(), shapes.get(name, tuple(weight.shape))
                self.places.append(Place(name, start, stop, shape, weight.shape, name in turned))
                start = stop
        self.used = start  # numbers that are weights
        self.size = math.ceil(start / WIDTH) * WIDTH  # N

    @property
    def facts(self) -> list[list[Any]]:
        """What two networks must share for a row of one to fit the other, as JSON gives it back."""
        return [[place.name, list(place.shape), place.turned] for place in self.places]

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """The weights of all rows (K, N) by name: (K, …) each, in the shapes of the row."""
        return {place.name: rows[:, place.start : place.stop].view(-1, *place.shape) for place in self.places}

    def _as_in_network(self, row: Tensor, place: Place) -> Tensor:
        part = row[place.start : place.stop]
        return part.view(place.shape).t() if place.turned else part.view(place.own)

    def row(self, net: nn.Module) -> Tensor:
        """The network's weights as a row of its own (N,)."""
        named = dict(net.named_parameters())
        first = next(iter(named.values()))
        row = torch.zeros(self.size, dtype=first.dtype, device=first.device)
        for place in self.places:
            weight = named[place.name].detach()
            row[place.start : place.stop] = (weight.t() if place.turned else weight).reshape(-1)
        return row

    def bind(self, net: nn.Module, row: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Make the network's weights views of this row (N,), and its buffers these tensors: nothing is copied."""
        named = dict(net.named_parameters())
        for place in self.places:
            named[place.name].data = self._as_in_network(row, place)
        for name, tensor in buffers.items():
            owner, _, last = name.rpartition(".")
            net.get_submodule(owner)._buffers[last] = tensor
