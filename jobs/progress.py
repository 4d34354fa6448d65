"""An epoch that is under way: what its batches have given so far. With that a job goes on where it stopped."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jobs.optimizers import Numbers
from jobs.spec import Json


class Seen(NamedTuple):
    """What a batch gave, or several one after the other."""

    losses: Tensor  # (K, …) as the problem's loss gives them
    outputs: Tensor  # (K, B, …) of the network; none where no metric needs them


class Part:
    """A pass of K rows over their training or their validation data."""

    def __init__(self, done: int = 0, seen: Sequence[Seen] = (), found: dict[str, Tensor] | None = None) -> None:
        """
        Args:
            done: batches of training; samples where nothing is learned, whose batches may have another size tomorrow.
            found: loss and metrics (K,) at its end, when what was seen is no longer needed.
        """
        self.done, self.seen, self.found = done, list(seen), found

    def add(self, seen: Seen, done: int) -> None:
        """A batch has been learned, or so many samples looked at."""
        self.seen.append(seen)
        self.done += done

    def end(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """All has been seen, and this was found."""
        self.seen, self.found = [], found
        return found

    def row(self, place: int) -> "Part":
        """One row's share."""
        if len(self.seen) > 1:  # once for all rows
            self.seen = [Seen(*(torch.cat(parts, 1) for parts in zip(*self.seen, strict=True)))]
        here = slice(place, place + 1)
        found = None if self.found is None else {name: value[here] for name, value in self.found.items()}
        return Part(self.done, [Seen(seen.losses[here], seen.outputs[here]) for seen in self.seen], found)

    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by name."""
        held = {"losses": self.seen[0].losses, "outputs": self.seen[0].outputs} if self.seen else {}
        return held | {f"found/{name}": value for name, value in (self.found or {}).items()}


class Progress:
    """How far K rows are in an epoch: all at the same batch."""

    def __init__(self, rates: Numbers, train: Part | None = None, val: Part | None = None) -> None:
        """
        Args:
            rates: (K, steps), the learning rates of the whole epoch.
        """
        self.rates, self.train, self.val = rates, train or Part(), val or Part()

    @property
    def at(self) -> tuple[int, int]:
        """Batches learned, and validation samples seen."""
        return self.train.done, self.val.done

    def row(self, place: int) -> "Progress":
        """One row's, which does not change when the others go on."""
        return Progress(self.rates[place : place + 1], self.train.row(place), self.val.row(place))


def joined(rows: Sequence[Progress]) -> Progress:
    """Of rows that are at the same batch."""
    assert len({row.at for row in rows}) == 1, "rows of a group go on together"
    rates = np.concatenate([row.rates for row in rows])
    return Progress(rates, _joined([row.train for row in rows]), _joined([row.val for row in rows]))


def _joined(parts: Sequence[Part]) -> Part:
    first = parts[0]
    seen = (
        [Seen(*(torch.cat(held) for held in zip(*(part.seen[0] for part in parts), strict=True)))] if first.seen else []
    )
    if first.found is None:
        return Part(first.done, seen)
    return Part(
        first.done, seen, {name: torch.cat([(part.found or {})[name] for part in parts]) for name in first.found}
    )


def dumped(row: Progress) -> tuple[dict[str, Tensor], Json]:
    """A single row's, for a checkpoint: tensors by name, and plain facts."""
    parts = {"train": row.train, "val": row.val}
    tensors = {f"{name}/{key}": held for name, part in parts.items() for key, held in part.tensors().items()}
    found = {name: list(part.found or ()) for name, part in parts.items()}  # in the order of a report
    facts: Json = {"batches": row.train.done, "samples": row.val.done, "found": found}
    return {"rates": torch.from_numpy(row.rates.copy()), **tensors}, facts


def restored(tensors: dict[str, Tensor], facts: Json, device: torch.device) -> Progress:
    """What `dumped` was given."""
    rates = tensors["rates"].numpy()
    held = {name: tensor.to(device) for name, tensor in tensors.items() if name != "rates"}

    def part(name: str, done: int) -> Part:
        losses = held.get(f"{name}/losses")
        seen = [] if losses is None else [Seen(losses, held[f"{name}/outputs"])]
        found = {key: held[f"{name}/found/{key}"] for key in facts["found"][name]}
        return Part(done, seen, found or None)

    return Progress(rates, part("train", facts["batches"]), part("val", facts["samples"]))
