"""Steps of many rows at once are torch.optim's to the last bit, given equal gradients."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, optim

from jobs import optimizers
from jobs.optimizers import FUSED, OTHERS, OWN, Numbers, Optimizer
from jobs.params import TrainingParams

CPU = torch.device("cpu")
SMALL, WIDE = 256, FUSED + 1016  # numbers of a row; the wide ones are updated by torch's fused kernels
STEPS = 10  # of an epoch

# As a plain loop would make them; Adam, AdamW and SGD fused where our rows are wide.
TORCHS: dict[str, Callable[[nn.Parameter, TrainingParams, bool], optim.Optimizer]] = {
    "adam": lambda weights, p, fused: optim.Adam([weights], p.lr, weight_decay=p.weight_decay, fused=fused),
    "adamw": lambda weights, p, fused: optim.AdamW([weights], p.lr, weight_decay=p.weight_decay, fused=fused),
    "sgd": lambda weights, p, fused: optim.SGD(
        [weights],
        p.lr,
        momentum=p.momentum,
        nesterov=p.nesterov and p.momentum > 0,
        weight_decay=p.weight_decay,
        fused=fused,
    ),
    "rmsprop": lambda weights, p, _: optim.RMSprop([weights], p.lr, momentum=p.momentum, weight_decay=p.weight_decay),
    "adagrad": lambda weights, p, _: optim.Adagrad([weights], p.lr, weight_decay=p.weight_decay),
    "adamax": lambda weights, p, _: optim.Adamax([weights], p.lr, weight_decay=p.weight_decay),
    "nadam": lambda weights, p, _: optim.NAdam([weights], p.lr, weight_decay=p.weight_decay),
    "radam": lambda weights, p, _: optim.RAdam([weights], p.lr, weight_decay=p.weight_decay),
}
KINDS: dict[str, dict[str, Any]] = {
    **{name: {"optimizer": name} for name in TORCHS},
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9},
    "sgd with Nesterov's momentum": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    "rmsprop with momentum": {"optimizer": "rmsprop", "momentum": 0.9},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def params_of(number: int, momentum: float = 0.0, **kind: Any) -> TrainingParams:
    """Parameters of the number-th row: no two rows agree in any."""
    momentum *= 1 - 0.07 * number
    return TrainingParams(lr=0.0007 * 2.3**number, weight_decay=0.013 * (number % 4), momentum=momentum, **kind)


class Beside:
    """Rows of ours, and for each of them an optimizer of torch that gets the same gradients and learning rates."""

    def __init__(self, size: int, **kind: Any) -> None:
        self.kind, self.size = kind, size
        self.params: list[TrainingParams] = []
        self.done: list[int] = []
        self.weights = torch.zeros(0, size)
        self.torchs: list[tuple[nn.Parameter, optim.Optimizer]] = []
        self.ours: Optimizer = optimizers.make(params_of(0, **kind), size, CPU)
        self.draw = torch.Generator().manual_seed(1)

    def join(self, count: int) -> None:
        """Further rows, which have done no step."""
        for number in range(len(self.done), len(self.done) + count):
            params = params_of(number, **self.kind)
            start = torch.randn(self.size, generator=self.draw)
            fused = params.optimizer in ("adam", "adamw", "sgd") and self.size > FUSED
            weights = nn.Parameter(start.clone())
            self.torchs.append((weights, TORCHS[params.optimizer](weights, params, fused)))
            self.params.append(params)
            self.done.append(0)
            self.weights = torch.cat([self.weights, start[None]])
        self.ours.add([{}] * count)

    def keep(self, rows: Sequence[int]) -> None:
        """Only these go on, in this order."""
        self.params, self.done = [self.params[row] for row in rows], [self.done[row] for row in rows]
        self.torchs = [self.torchs[row] for row in rows]
        self.weights = self.weights[list(rows)]
        self.ours.keep(torch.tensor(rows))

    def epoch(self) -> None:
        """Steps of all rows; each has a learning rate of its own at each of them."""
        rates = self.rates()
        self.ours.prepare(slice(0, len(self.done)), self.params, self.done, rates)
        for number in range(STEPS):
            gradients = torch.randn(self.weights.shape, generator=self.draw)
            for (weights, torchs), gradient, rate in zip(self.torchs, gradients, rates[:, number], strict=True):
                weights.grad = gradient.clone()
                torchs.param_groups[0]["lr"] = float(rate)
                torchs.step()
            with torch.no_grad():
                self.ours.step(self.weights, gradients, number)
        self.done = [done + STEPS for done in self.done]

    def rates(self) -> Numbers:
        tops = np.array([params.lr for params in self.params])[:, None]
        steps = np.array(self.done)[:, None] + np.arange(STEPS)
        return tops * 0.97**steps

    def assert_equal(self) -> None:
        theirs = torch.stack([weights.detach() for weights, _ in self.torchs])
        assert torch.equal(self.weights, theirs), (self.weights - theirs).abs().amax(1)


@pytest.mark.parametrize("size", [SMALL, WIDE])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_rows_of_different_numbers_are_updated_as_torch_does_it_alone(kind: dict[str, Any], size: int) -> None:
    beside = Beside(size, **kind)
    beside.join(5)
    for _ in range(3):
        beside.epoch()
    beside.assert_equal()


@pytest.mark.parametrize("size", [SMALL, WIDE])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_rows_that_join_later_and_stay_when_others_leave_keep_their_own_steps(kind: dict[str, Any], size: int) -> None:
    """Bias corrections and schedules follow a row's own number of steps; its state moves with it."""
    beside = Beside(size, **kind)
    beside.join(2)
    beside.epoch()
    beside.join(2)
    beside.epoch()
    beside.keep([3, 0])
    beside.epoch()
    assert beside.done == [20, 30]
    beside.assert_equal()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_row_goes_on_from_the_state_that_was_taken_of_it(kind: dict[str, Any]) -> None:
    """As from a checkpoint: copies of its tensors, in another pack, at another place."""
    beside = Beside(SMALL, **kind)
    beside.join(3)
    beside.epoch()
    states = [{name: value.clone() for name, value in beside.ours.of(row).items()} for row in range(3)]
    beside.ours = optimizers.make(beside.params[0], SMALL, CPU)
    beside.ours.add([states[0]])
    beside.ours.add(states[1:])
    beside.keep([2, 1, 0])
    beside.epoch()
    beside.assert_equal()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_slice_of_the_rows_is_updated_and_no_other(kind: dict[str, Any]) -> None:
    """As where each row is a group of its own."""
    beside = Beside(SMALL, **kind)
    beside.join(3)
    before = beside.weights.clone()
    gradients = torch.randn(1, SMALL)
    beside.ours.prepare(slice(1, 2), beside.params[1:2], [0], beside.rates()[1:2])
    with torch.no_grad():
        beside.ours.step(beside.weights[1:2], gradients.clone(), 0)
    weights, torchs = beside.torchs[1]
    weights.grad = gradients[0]
    torchs.step()
    assert torch.equal(beside.weights[1], weights)
    assert torch.equal(beside.weights[[0, 2]], before[[0, 2]])


def test_every_optimizer_that_params_allow_is_compared() -> None:
    names = set(TrainingParams.model_fields["optimizer"].annotation.__args__)
    assert names == set(TORCHS) == {*OWN, *OTHERS}


def test_powers_are_those_of_python() -> None:
    """torch.optim computes its bias corrections with them; NumPy's differ in the last bit."""
    steps = np.arange(1, 3001).reshape(3, 1000)
    for base in (0.9, 0.999):
        expected = [[base ** int(step) for step in row] for row in steps]
        assert optimizers.powers(base, steps).tolist() == expected


@pytest.mark.parametrize("size", [SMALL, WIDE])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_row_of_nan_touches_no_other(kind: dict[str, Any], size: int) -> None:
    beside = Beside(size, **kind)
    beside.join(3)
    beside.weights[1] = float("nan")
    with torch.no_grad():
        beside.torchs[1][0].fill_(float("nan"))
    beside.epoch()
    theirs = torch.stack([weights.detach() for weights, _ in beside.torchs])
    assert torch.equal(beside.weights[[0, 2]], theirs[[0, 2]])
    assert theirs[[0, 2]].isfinite().all()
    assert beside.weights[1].isnan().all()
