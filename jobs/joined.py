"""The data of several rows side by side, whether they share a problem or each has its own."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from jobs import losses
from jobs.layout import WIDTH
from jobs.losses import Loss
from jobs.problem import Problem
from jobs.stacked import padded


class Joined:
    """Problems of one shape, one for each row; often the same for many of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.distinct = list({id(problem): problem for problem in problems}.values())
        numbers = {id(problem): number for number, problem in enumerate(self.distinct)}
        self.numbers = [numbers[id(problem)] for problem in problems]
        device = self.distinct[0].train.inputs.device
        self.places = torch.tensor(self.numbers, device=device)[:, None]  # (K, 1)
        self._held: dict[tuple[str, str], Tensor] = {}

    def _tensor(self, part: str, name: str) -> Tensor:
        """That of all distinct problems, one after the other."""
        if (part, name) not in self._held:
            tensors = [cast(Tensor, getattr(getattr(problem, part), name)) for problem in self.distinct]
            self._held[part, name] = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        return self._held[part, name]

    def take(self, part: str, name: str, chosen: Tensor) -> Tensor:
        """Some data of each row, by their numbers (K, B): (K, B, …)."""
        held = self._tensor(part, name)
        if len(self.distinct) > 1:
            chosen = chosen + self.places * len(getattr(self.distinct[0], part))
        return held.index_select(0, chosen.reshape(-1)).view(*chosen.shape, *held.shape[1:])

    def all(self, part: str, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """The data of each row from start to stop: (K, n, …); one for all, where there is one problem."""
        held = self._tensor(part, name)
        if len(self.distinct) == 1:
            own = held[start:stop]
            return own.expand(len(self.numbers), *own.shape)
        own = held.view(len(self.distinct), -1, *held.shape[1:])[:, start:stop]
        return own.index_select(0, self.places[:, 0])

    def batches(self, part: str, rows: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of each row, so many at a time, from the first."""
        for start in range(first, len(getattr(self.distinct[0], part)), rows):
            yield self.all(part, "inputs", start, start + rows), self.all(part, "targets", start, start + rows)

    def each(self, of: Callable[[Problem], nn.Module], values: Tensor) -> Tensor:
        """Values (K, B, …) through a module that every problem has, fitted or not."""
        modules = [of(problem) for problem in self.distinct]
        if isinstance(modules[0], nn.Identity):
            return values
        if len(modules) == 1 or ours(modules[0]):
            return flat(modules[0], values)
        return torch.stack([modules[number](own) for number, own in zip(self.numbers, values, strict=True)])

    def losses(self, outputs: Tensor, targets: Tensor, *, together: bool) -> Tensor:
        """The losses of each row: (K, …).

        Args:
            together: no value may depend on how many others there are.
        """
        wanted = [problem.loss for problem in self.distinct]
        if all(loss == wanted[0] for loss in wanted):
            return lost(wanted[0], outputs, targets, together)
        own = zip(self.numbers, torch.split(outputs, 1), torch.split(targets, 1), strict=True)
        return torch.cat([lost(wanted[number], output, target, together) for number, output, target in own])


def ours(module: nn.Module) -> bool:
    """Whether it is one of ours that learned nothing from a split; what a user's own holds nobody knows."""
    return type(module).__module__.startswith("jobs.") and not module.state_dict()


def flat(module: nn.Module, values: Tensor) -> Tensor:
    """Through a module that takes samples and knows no rows: (K, B, …) -> (K, B, …)."""
    if len(values) == 1:  # as it is: a view of many would lose the order in memory that the module gave it
        return cast(Tensor, module(values[0]))[None]
    found = cast(Tensor, module(values.flatten(0, 1)))
    return found.view(*values.shape[:2], *found.shape[1:])


def lost(loss: Loss, outputs: Tensor, targets: Tensor, together: bool) -> Tensor:
    samples, truths = outputs.flatten(0, 1), targets.flatten(0, 1)
    ours = getattr(loss, "__module__", "") == losses.__name__
    if together and ours and outputs[0].numel() % WIDTH:
        return loss(padded(samples), padded(truths))[: len(samples)].reshape(len(outputs), -1)
    return loss(samples, truths).reshape(len(outputs), -1)
