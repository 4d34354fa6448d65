"""Stateless randomness: each draw's seed is mixed of (job's seed, purpose, epoch or step); there is no shared stream.

So a job's numbers depend neither on its neighbours in a pack nor on an interruption, and a checkpoint holds no random
state.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import torch


class Purpose(StrEnum):
    """What a draw is for: draws of different purposes are independent."""

    INIT = "init"  # initial weights
    SPLIT = "split"  # which rows are for training, validation and test
    ORDER = "order"  # order of the training rows in an epoch
    DROPOUT = "dropout"  # keys of the dropout masks, one for each step of an epoch
    AUGMENT = "augment"  # how the inputs of one step are changed
    FOREIGN = "foreign"  # whatever a layer of another library draws from torch's own stream in one step
    WRITE = "write"  # which words a language model draws


def mix(seed: int, purpose: Purpose, *parts: int) -> int:
    """A seed of 63 bits for this purpose; `parts` are the epoch, the step, …"""
    text = "/".join([purpose, *map(str, (seed, *parts))])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: Purpose, *parts: int) -> torch.Generator:
    """A generator on the CPU, so that every device draws the same."""
    return torch.Generator().manual_seed(mix(seed, purpose, *parts))


@contextmanager
def lent_streams(device: torch.device | None = None) -> Iterator[Callable[[int], None]]:
    """Within, torch's global streams, from which layers draw, may be seeded by what this yields; after, they are as
    before.

    Args:
        device: a CUDA device whose stream is meant too, beside that of the CPU.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []

    def seed(mixed: int) -> None:
        torch.default_generator.manual_seed(mixed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(mixed)

    with torch.random.fork_rng(devices=cuda):
        yield seed


@contextmanager
def drawn_from(seed: int, purpose: Purpose, *parts: int) -> Iterator[None]:
    """Within, torch's global stream on the CPU is seeded; after, it is as before."""
    with lent_streams() as streams:
        streams(mix(seed, purpose, *parts))
        yield


def order(rows: int, seed: int, epoch: int) -> torch.Tensor:
    """The order of the training rows in this epoch: (rows,) int64."""
    return torch.randperm(rows, generator=generator(seed, Purpose.ORDER, epoch))


def dropout_keys(steps: int, seed: int, epoch: int) -> torch.Tensor:
    """One key for each step of this epoch: (steps,) int64."""
    return torch.randint(2**63 - 1, (steps,), generator=generator(seed, Purpose.DROPOUT, epoch))
