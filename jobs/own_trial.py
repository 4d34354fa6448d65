"""A user's own network and loss, tried on a few rows before the first epoch: once for all jobs that share them.

A trial takes a copy of the network, and gradients: of a small job a third of its time. Most jobs of a sweep differ from
one before only by their seed, and so by the numbers in their weights and data, from which no mistake comes.
"""

import copy
import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from jobs import untrained
from jobs.own import OwnTask, refuse, shown
from jobs.params import TrainingParams
from jobs.problem import Problem

ROWS = 3  # that go through network and loss
MORE_ROWS = 256  # if the first reach only some of the weights: a network may send each row another way
MOST = 1000  # trials that a process remembers, some 100 kB


class Passed:
    """Trials that found nothing wrong, and drew nothing: the newest ones."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._found: OrderedDict[str, OwnTask] = OrderedDict()  # each keeps its task, whose id no other one gets

    def __contains__(self, key: str | None) -> bool:
        return key in self._found

    def add(self, key: str, own: OwnTask) -> None:
        self._found[key] = own
        if len(self._found) > self.most:
            self._found.popitem(last=False)


PASSED = Passed()  # in this process


def try_out(own: OwnTask, params: TrainingParams, problem: Problem) -> None:
    """Some training rows through network and loss and back, if such a job has not passed before.

    Raises:
        InputError: the loss is none for each sample, or the network has weights that cannot be trained.
    """
    key = what_it_tries(own, params, problem)
    if key in PASSED:
        return
    before = torch.get_rng_state()
    trial(own, problem)
    # A network that draws leaves the stream elsewhere, from which the task may go on to draw: each job must find it so.
    if key is not None and torch.equal(torch.get_rng_state(), before):
        PASSED.add(key, own)


def what_it_tries(own: OwnTask, params: TrainingParams, problem: Problem) -> str | None:
    """Equal for jobs whose trials end alike; None where that cannot be known, such as with a lambda in the network."""
    net = problem.model.net
    untried = untrained.comparable_digest(net)
    if untried is None or vars(own):  # what a task notes on itself may be of one seed
        return None
    weights = [(name, weight.shape, weight.dtype, weight.requires_grad) for name, weight in net.named_parameters()]
    batch = [(part.shape[1:], part.dtype, len(part[:ROWS])) for part in (problem.train.inputs, problem.train.targets)]
    try:
        facts: list[Any] = [id(own), params, problem.model.signature, untried, repr(net), weights, batch]
        return hashlib.sha256(untrained.dumped(facts)).hexdigest()
    except Exception:  # whatever an object of the user's own raises when it is asked for its bytes or its words
        return None


def trial(own: OwnTask, problem: Problem) -> None:
    """A few training rows through a copy of the network, its loss and back: nothing of the job itself is touched.

    Raises:
        InputError: as `try_out`.
    """
    net = copy.deepcopy(problem.model.net).train()
    if not any(weight.requires_grad for weight in net.parameters()):
        refuse(own, "its network has no weights that could be trained")
    if _unreached(own, problem, net, ROWS) and (unused := _unreached(own, problem, net, MORE_ROWS)):
        refuse(own, f"weights of its network that no output depends on: {', '.join(unused)}; remove them")


def _unreached(own: OwnTask, problem: Problem, net: nn.Module, rows: int) -> list[str]:
    """Names of the weights that so many training rows do not reach.

    Raises:
        InputError: the loss is none for each sample.
    """
    inputs, targets = problem.train.inputs[:rows], problem.train.targets[:rows]
    named = {name: weight for name, weight in net.named_parameters() if weight.requires_grad}
    found = problem.loss(net(inputs), targets)
    if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(inputs):
        wanted = f'a value for every sample, shape ({len(inputs)},): with losses of torch write reduction="none"'
        refuse(own, f"for {len(inputs)} samples its loss is {shown(found)}; it must be {wanted}")
    if not found.requires_grad:
        refuse(own, "its loss does not depend on the network's weights: was it detached, or made of numbers?")
    gradients = torch.autograd.grad(found.mean(), list(named.values()), allow_unused=True)
    return [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]
