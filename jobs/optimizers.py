"""One optimizer step for all rows of a pack: elementwise on flat matrices (K, N), numbers of a job as columns (K, 1).

Given equal gradients, SGD, Adam, AdamW and RMSprop are torch.optim's to the last bit; tests compare them. Any other
optimizer is torch.optim's own, one for each row.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim
from torch.optim import adam, adamw, sgd

from jobs.params import TrainingParams

T = TypeVar("T", bound=optim.Optimizer)
Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]

# Rows longer than this are updated one by one with torch's fused kernels: one pass over memory in place of ten. On a
# GPU only a row that is alone: of many, a pass is one kernel for all, and starting one for each would take longer.
FUSED = 5_000
FUSED_ON = ("cpu", "cuda")
BETA1, BETA2, EPS, ALPHA = 0.9, 0.999, 1e-8, 0.99  # torch's defaults


class Optimizer:
    """The optimizer of all rows of a pack. Rows come and go; each has a state of its own."""

    slots: tuple[str, ...] = ()  # names of the state's matrices, each (K, N)

    def __init__(self, params: TrainingParams, size: int, device: torch.device) -> None:
        """
        Args:
            params: of any of the rows, which share the optimizer's name and flags.
            size: N.
        """
        self.params, self.size, self.device = params, size, device
        self.state = {name: torch.zeros(0, size, device=device) for name in self.slots}
        self.wide = size > FUSED and device.type in FUSED_ON

    def keep(self, rows: Tensor) -> None:
        """Only these rows go on, in this order."""
        self.state = {name: matrix[rows] for name, matrix in self.state.items()}

    def add(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Further rows, each with what `of` gave of it, or nothing."""
        fresh = torch.zeros(self.size, device=self.device)
        for name, matrix in self.state.items():
            new = [state.get(name, fresh).to(self.device) for state in states]
            self.state[name] = torch.cat([matrix, torch.stack(new)])

    def of(self, row: int) -> dict[str, Tensor]:
        """The state of a row: (N,) each."""
        return {name: matrix[row] for name, matrix in self.state.items()}

    def scales(self, here: slice) -> Tensor | None:
        """Factors (K,) of these rows' losses; None: they are not scaled."""
        return None

    def begin(self, here: slice) -> None:
        """These rows begin an epoch."""

    def prepare(
        self, here: slice, params: Sequence[TrainingParams], done: Sequence[int] | Counts, rates: Numbers
    ) -> None:
        """Before the first step of an epoch, and before it goes on.

        Args:
            here: the rows that are trained.
            params: of them.
            done: the steps each of them had done before this epoch.
            rates: (K, steps) their learning rates.
        """
        self.here, self.rows, self.rates = here, params, rates
        self.steps = np.asarray(done)[:, None] + np.arange(1, rates.shape[1] + 1)
        self.decaying = any(one.weight_decay for one in params)
        decays = np.array([[one.weight_decay] for one in params])
        columns = [np.broadcast_to(column, rates.shape) for column in (*self.columns(decays), decays)]
        ordered = np.stack(columns).transpose(2, 0, 1)[..., None]
        # In double precision until here, as the numbers that torch.optim computes with.
        self.table = torch.from_numpy(ordered.astype(np.float32)).to(self.device)  # (steps, columns, K, 1)
        self.by_step = self.table.unbind(0)
        if self.wide:  # what fused kernels count up, where they read it
            self.counts = torch.from_numpy((self.steps - 1).astype(np.float32)).to(self.device)

    def columns(self, decays: Numbers) -> list[Numbers]:
        """What `update` computes with besides the decays, each (K, steps) or (K, 1)."""
        return []

    def step(self, weights: Tensor, gradients: Tensor, number: int) -> None:
        """The number-th step of the epoch, from 0.

        Args:
            weights, gradients: (K, N) of the rows that `prepare` was told of; both are written to.
        """
        state = [matrix[self.here] for matrix in self.state.values()]
        if not self.wide or (len(weights) > 1 and self.device.type != "cpu"):
            self.update(weights, gradients, state, self.by_step[number].unbind(0))
            return
        for row in range(len(weights)):
            self.update_fused(row, [matrix[row] for matrix in (weights, gradients, *state)], number)

    def step_where(self, fine: Tensor, weights: Tensor, gradients: Tensor, numbers: Tensor) -> None:
        """A step of some rows; the others stay as they are, without waiting for the device.

        Args:
            fine: (K,) bool, which.
            numbers: (K,) int64, of the step that each row is at.
        """
        held = [weights, *(matrix[self.here] for matrix in self.state.values())]
        before = [matrix.clone() for matrix in held]
        places = numbers[None, None, :, None].expand(1, *self.table.shape[1:])
        self.update(weights, gradients, held[1:], self.table.gather(0, places)[0].unbind(0))
        for matrix, old in zip(held, before, strict=True):
            torch.where(fine[:, None], matrix, old, out=matrix)

    def update(self, weights: Tensor, gradients: Tensor, state: list[Tensor], columns: Sequence[Tensor]) -> None:
        raise NotImplementedError

    def update_fused(self, row: int, one: list[Tensor], number: int) -> None:
        """By torch's fused kernel; where there is none, as `update`, while the row is in the cache."""
        weights, gradients, *state = (tensor[None] for tensor in one)
        self.update(weights, gradients, state, self.by_step[number][:, row : row + 1].unbind(0))

    def decay(self, weights: Tensor, gradients: Tensor, decays: Tensor) -> None:
        if self.decaying:
            gradients.addcmul_(weights, decays)


def powers(base: float, steps: Counts) -> Numbers:
    """base ** step as Python gives it, which is torch.optim's; NumPy's differs in the last bit."""
    unique, places = np.unique(steps, return_inverse=True)
    return np.array([base ** int(step) for step in unique])[places.reshape(steps.shape)]


class Adam(Optimizer):
    """Kingma and Ba 2015, as torch.optim.Adam."""

    slots = ("exp_avg", "exp_avg_sq")

    def columns(self, decays: Numbers) -> list[Numbers]:
        return [-(self.rates / (1 - powers(BETA1, self.steps))), (1 - powers(BETA2, self.steps)) ** 0.5]

    def update(self, weights: Tensor, gradients: Tensor, state: list[Tensor], columns: Sequence[Tensor]) -> None:
        self.decay(weights, gradients, columns[-1])
        self.move(weights, gradients, state, columns)

    def move(self, weights: Tensor, gradients: Tensor, state: list[Tensor], columns: Sequence[Tensor]) -> None:
        (mean, square), (rate, root) = state, columns[:2]
        mean.lerp_(gradients, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradients, gradients, value=1 - BETA2)
        weights.addcdiv_(mean * rate, square.sqrt().div_(root).add_(EPS))

    def update_fused(self, row: int, one: list[Tensor], number: int) -> None:
        _fused_adam(_adam, self, row, one, number)


class AdamW(Adam):
    """Loshchilov and Hutter 2019, as torch.optim.AdamW."""

    def columns(self, decays: Numbers) -> list[Numbers]:
        return [*super().columns(decays), 1 - self.rates * decays]

    def update(self, weights: Tensor, gradients: Tensor, state: list[Tensor], columns: Sequence[Tensor]) -> None:
        if self.decaying:
            weights.mul_(columns[2])
        self.move(weights, gradients, state, columns)

    def update_fused(self, row: int, one: list[Tensor], number: int) -> None:
        _fused_adam(_adamw, self, row, one, number)


class Momentum(Optimizer):
    """An optimizer whose rows all have a momentum, or none has."""

    def __init__(self, params: TrainingParams, size: int, device: torch.device) -> None:
        self.moving = params.momentum > 0
        self.slots = tuple(name for name in self.slots if self.moving or name != "momentum_buffer")
        super().__init__(params, size, device)

    def columns(self, decays: Numbers) -> list[Numbers]:
        return [-self.rates, np.array([[one.momentum] for one in self.rows])]


class SGD(Momentum):
    """As torch.optim.SGD, with momentum and Nesterov's (Sutskever et al. 2013)."""

    slots = ("momentum_buffer",)

    def update(self, weights: Tensor, gradients: Tensor, state: list[Tensor], columns: Sequence[Tensor]) -> None:
        rate, momentum, decays = columns
        self.decay(weights, gradients, decays)
        if self.moving:
            (buffer,) = state
            buffer.mul_(momentum).add_(gradients)
            gradients = gradients.addcmul_(buffer, momentum) if self.params.nesterov else buffer
        weights.addcmul_(gradients, rate)

    def update_fused(self, row: int, one: list[Tensor], number: int) -> None:
        weights, gradients, *state = one
        _sgd(
            [weights],
            [gradients],
            list(state) if state else [None],
            foreach=False,
            fused=True,
            weight_decay=self.rows[row].weight_decay,
            momentum=self.rows[row].momentum,
            lr=float(self.rates[row, number]),
            dampening=0.0,
            nesterov=self.params.nesterov and self.moving,
            maximize=False,
        )


class RMSprop(Momentum):
    """Hinton 2012, as torch.optim.RMSprop."""

    slots = ("square_avg", "momentum_buffer")

    def update(self, weights: Tensor, gradients: Tensor, state: list[Tensor], columns: Sequence[Tensor]) -> None:
        rate, momentum, decays = columns
        self.decay(weights, gradients, decays)
        square = state[0].mul_(ALPHA).addcmul_(gradients, gradients, value=1 - ALPHA)
        root = square.sqrt().add_(EPS)
        if self.moving:
            weights.addcmul_(state[1].mul_(momentum).addcdiv_(gradients, root), rate)
        else:
            weights.addcdiv_(gradients * rate, root)


class OfTorch(Optimizer):
    """Any other optimizer of torch.optim: one object for each row."""

    def __init__(self, params: TrainingParams, size: int, device: torch.device) -> None:
        super().__init__(params, size, device)
        self.optimizers: list[optim.Optimizer] = []

    def keep(self, rows: Tensor) -> None:
        self.optimizers = [self.optimizers[row] for row in rows.tolist()]

    def add(self, states: Sequence[dict[str, Tensor]]) -> None:
        for held in states:
            # Step counters on the CPU, as a fresh optimizer has them: elsewhere each step would wait for the device.
            state = {name: value.to(self.device if value.ndim else "cpu") for name, value in held.items()}
            weights = nn.Parameter(torch.zeros(self.size, device=self.device))
            one = OTHERS[self.params.optimizer]([weights])
            groups = one.state_dict()["param_groups"]
            one.load_state_dict({"state": {0: state} if state else {}, "param_groups": groups})
            self.optimizers.append(one)

    def of(self, row: int) -> dict[str, Tensor]:
        one = self.optimizers[row]
        return {name: value for name, value in one.state[weights_of(one)].items() if value is not None}

    def step(self, weights: Tensor, gradients: Tensor, number: int) -> None:
        for row in range(len(weights)):
            self._step(row, weights[row], gradients[row], number)

    def step_where(self, fine: Tensor, weights: Tensor, gradients: Tensor, numbers: Tensor) -> None:
        """As torch's own GradScaler does with these optimizers, it waits for the device."""
        for row, number in enumerate(torch.where(fine, numbers, -1).tolist()):
            if number >= 0:
                self._step(row, weights[row], gradients[row], number)

    def _step(self, row: int, weights: Tensor, gradients: Tensor, number: int) -> None:
        one = self.optimizers[self.here][row]
        held = weights_of(one)
        held.data, held.grad = weights, gradients
        one.param_groups[0] |= {"lr": float(self.rates[row, number]), "weight_decay": self.rows[row].weight_decay}
        one.step()


def weights_of(optimizer: optim.Optimizer) -> nn.Parameter:
    return cast(nn.Parameter, optimizer.param_groups[0]["params"][0])


def _fused_adam(update: Any, optimizer: Adam, row: int, one: list[Tensor], number: int) -> None:
    weights, gradients, mean, square = one
    update(
        [weights],
        [gradients],
        [mean],
        [square],
        [],
        [optimizer.counts[row, number]],
        foreach=False,
        fused=True,
        amsgrad=False,
        beta1=BETA1,
        beta2=BETA2,
        lr=float(optimizer.rates[row, number]),
        weight_decay=optimizer.rows[row].weight_decay,
        eps=EPS,
        maximize=False,
    )


def undecorated(optimizer: type[T]) -> type[T]:
    """The same optimizer without the decorators that keep torch.compile away from it.

    At their first call these import torch._dynamo, which takes each trainer 3.6 s of CPU time. Its `step` must be
    called under `torch.no_grad`, which one of them saw to.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "step")
    plain = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    return cast(type[T], type(optimizer.__name__, (optimizer,), plain))


_adam, _adamw, _sgd = (inspect.unwrap(function) for function in (adam.adam, adamw.adamw, sgd.sgd))
OWN: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD, "rmsprop": RMSprop}
OTHERS: dict[str, Callable[[list[nn.Parameter]], optim.Optimizer]] = {
    "adagrad": undecorated(optim.Adagrad),
    "adamax": undecorated(optim.Adamax),
    "nadam": undecorated(optim.NAdam),
    "radam": undecorated(optim.RAdam),
}


def make(params: TrainingParams, size: int, device: torch.device) -> Optimizer:
    """The optimizer of rows whose parameters share its name and flags."""
    return OWN.get(params.optimizer, OfTorch)(params, size, device)
