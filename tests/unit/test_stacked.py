"""Layers of many rows at once are torch's own, row by row; what is not such a layer is refused."""

import copy
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from jobs.built import stack
from jobs.layers import Dropout, dropouts
from jobs.randomness import dropout_keys
from jobs.stacked import EXACT, ROUNDED, Stacked, Unknown

ROWS, SAMPLES, WIDTH = 3, 7, 5

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(WIDTH, 4),
    "linear without bias": lambda: nn.Linear(WIDTH, 4, bias=False),
    "linear to one": lambda: nn.Linear(WIDTH, 1),
    "linear from one": lambda: nn.Sequential(nn.Linear(WIDTH, 1), nn.Linear(1, 6)),
    "batch norm": lambda: nn.BatchNorm1d(WIDTH),
    "batch norm of another momentum": lambda: nn.BatchNorm1d(WIDTH, momentum=0.4, eps=0.01),
    "layer norm": lambda: nn.LayerNorm(WIDTH, eps=0.01),
    "flatten": lambda: nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 2)),
    "dropout": lambda: nn.Sequential(nn.Linear(WIDTH, 4), Dropout(0.4)),
    "leaky": lambda: nn.LeakyReLU(0.3),
    "elu": lambda: nn.ELU(0.7),
    "gelu by tanh": lambda: nn.GELU(approximate="tanh"),
    **{kind.__name__: kind for kind in (*EXACT, *ROUNDED)},
    "one layer used twice": lambda: twice(nn.LeakyReLU(0.2)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(WIDTH, 4), nn.Tanh()), nn.Sequential(nn.Linear(4, 2))),
}


def twice(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), layer, nn.Linear(WIDTH, WIDTH), layer)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Rows:
    """Networks of one shape with weights of their own, and the same as rows."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self.nets = [nn.Sequential(nn.Linear(WIDTH, WIDTH), make()) for _ in range(ROWS)]
        for net in self.nets:
            for weight in net.parameters():
                nn.init.normal_(weight)
        self.stacked = Stacked(self.nets[0])
        self.keys = dropout_keys(ROWS, seed=0, epoch=1)
        self.stacked.keys = self.keys[None]
        for net, key in zip(self.nets, self.keys, strict=True):
            for layer in dropouts(net):
                layer.key.fill_(key)
        self.weights = torch.stack([self.stacked.layout.row(net) for net in self.nets]).requires_grad_()
        named = [dict(net.named_buffers()) for net in self.nets]
        self.buffers = {name: torch.stack([own[name] for own in named]) for name in named[0]}
        self.inputs = torch.randn(ROWS, SAMPLES, WIDTH)

    def together(self, training: bool) -> Tensor:
        return self.stacked(self.stacked.layout.views(self.weights), self.buffers, self.inputs, training)

    def one_by_one(self, training: bool) -> Tensor:
        return torch.stack([net.train(training)(own) for net, own in zip(self.nets, self.inputs, strict=True)])


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_outputs_gradients_and_buffers_are_those_of_the_layer_alone(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    rows = Rows(make)
    for training in (True, True, False):  # what batch norm has seen twice is what it evaluates with
        found, expected = rows.together(training), rows.one_by_one(training)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        factors = torch.randn_like(expected)
        (gradients,) = torch.autograd.grad((found * factors).sum(), rows.weights)
        weights = [weight for net in rows.nets for weight in net.parameters()]
        for weight, own in zip(weights, torch.autograd.grad((expected * factors).sum(), weights), strict=True):
            weight.data.copy_(own)  # so that the layout lays them out as it does weights
        alone = torch.stack([rows.stacked.layout.row(net) for net in rows.nets])
        torch.testing.assert_close(gradients, alone, rtol=1e-4, atol=1e-5)
        for row, net in enumerate(rows.nets):
            rows.stacked.layout.bind(net, rows.weights[row].detach().clone(), {})
            for name, buffer in net.named_buffers():
                torch.testing.assert_close(rows.buffers[name][row], buffer)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_a_row_is_computed_alone_as_among_others_bit_for_bit(make: Callable[[], nn.Module]) -> None:
    rows = Rows(make)
    views = rows.stacked.layout.views(rows.weights)
    for training in (True, False):
        before = copy.deepcopy(rows.buffers)
        among = rows.together(training)
        for row in range(ROWS):
            here = slice(row, row + 1)
            own = {name: weight[here] for name, weight in views.items()}
            rows.stacked.keys = rows.keys[None, here]
            buffers = {name: buffer[here] for name, buffer in before.items()}
            assert torch.equal(rows.stacked(own, buffers, rows.inputs[here], training)[0], among[row])
        rows.stacked.keys = rows.keys[None]


class Doubled(nn.Sequential):
    """Not the layers one after the other."""

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = super().forward(rows)
        return 2 * found


class Doubling(nn.Linear):
    """Nor a Linear."""

    def forward(self, rows: Tensor) -> Tensor:
        return 2 * super().forward(rows)


def hooked(how: str) -> nn.Module:
    net = nn.Sequential(nn.Linear(WIDTH, 4))
    getattr(net[0], how)(lambda *given: None)
    return net


def tied() -> nn.Module:
    first, second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


def of_double_precision() -> nn.Module:
    return nn.Linear(WIDTH, WIDTH).double()


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "a hook": partial(hooked, "register_forward_hook"),
    "a hook before it": partial(hooked, "register_forward_pre_hook"),
    "a hook on the way back": partial(hooked, "register_full_backward_hook"),
    "a hook before it on the way back": partial(hooked, "register_full_backward_pre_hook"),
    "a parametrization": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(WIDTH, 4))),
    "a Sequential of the user's own": lambda: Doubled(nn.Linear(WIDTH, 4)),
    "a Linear of the user's own": lambda: nn.Sequential(Doubling(WIDTH, 4)),
    "tied weights": tied,
    "a Linear used twice": lambda: twice(nn.Linear(WIDTH, WIDTH)),
    "a batch norm used twice": lambda: twice(nn.BatchNorm1d(WIDTH)),
    "a dropout used twice": lambda: twice(Dropout(0.0)),
    "frozen weights": lambda: nn.Sequential(nn.Linear(WIDTH, 4).requires_grad_(False), nn.Linear(4, 2)),
    "double precision": of_double_precision,
    "a batch norm without running statistics": lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False),
    "a batch norm without weights": lambda: nn.BatchNorm1d(WIDTH, affine=False),
    "a batch norm of all batches alike": lambda: nn.BatchNorm1d(WIDTH, momentum=None),
    "a layer norm of two dimensions": lambda: nn.LayerNorm((2, WIDTH)),
    "a layer norm without weights": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "a layer norm without bias": lambda: nn.LayerNorm(WIDTH, bias=False),
    "a flatten of other dimensions": lambda: nn.Flatten(2),
    "a flatten that keeps some": lambda: nn.Flatten(1, 2),
    "torch's dropout": lambda: nn.Dropout(0.2),
    "a softmax": lambda: nn.Softmax(1),
    "a convolution": lambda: nn.Conv1d(1, 2, 3),
    "a module of the user's own around known ones": lambda: nn.ModuleList([nn.Linear(WIDTH, 4)]),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_a_known_layer_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(Unknown):
        Stacked(make())
    assert stack(make()) is None
