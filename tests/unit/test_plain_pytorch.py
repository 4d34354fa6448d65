"""Packs against plain PyTorch: modules, torch.optim, torch's schedulers and clipping, one job at a time.

The rows of a pack begin with the same weights and see the same batches; so their losses are those of a plain loop,
within the rounding of other matrix products: 1e-5 relative over about 40 steps in float32. Measured were 3e-7 at most,
and 4e-6 for RMSprop, which divides even the smallest gradients by their own size, so that a last digit grows.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from jobs.forward import Mode
from jobs.pack import Pack
from jobs.randomness import Purpose, drawn_from, order
from jobs.row import Row
from jobs.spec import JobSpec
from tests.training import row_of

MakeSpec = Callable[..., JobSpec]
EPOCHS, STEPS = 7, 6  # of 90 rows in batches of 16

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": lambda weights, p: optim.SGD(
        weights, p["lr"], momentum=p["momentum"], nesterov=True, weight_decay=p["weight_decay"]
    ),
    "adam": lambda weights, p: optim.Adam(weights, p["lr"], weight_decay=p["weight_decay"]),
    "adamw": lambda weights, p: optim.AdamW(weights, p["lr"], weight_decay=p["weight_decay"]),
    "rmsprop": lambda weights, p: optim.RMSprop(
        weights, p["lr"], momentum=p["momentum"], weight_decay=p["weight_decay"]
    ),
    "adagrad": lambda weights, p: optim.Adagrad(weights, p["lr"], weight_decay=p["weight_decay"]),
    "adamax": lambda weights, p: optim.Adamax(weights, p["lr"], weight_decay=p["weight_decay"]),
    "nadam": lambda weights, p: optim.NAdam(weights, p["lr"], weight_decay=p["weight_decay"]),
    "radam": lambda weights, p: optim.RAdam(weights, p["lr"], weight_decay=p["weight_decay"]),
}

# As the sweep file has it, torch's own, and whether it is stepped after each batch.
SCHEDULES: dict[str, tuple[dict[str, Any], Callable[[optim.Optimizer], Any], bool]] = {
    "constant": ({}, lambda optimizer: LambdaLR(optimizer, lambda epoch: 1.0), False),
    "step": (
        {"scheduler": {"name": "step", "step_size": 2, "gamma": 0.5}},
        lambda optimizer: StepLR(optimizer, 2, 0.5),
        False,
    ),
    "cosine": (
        {"scheduler": {"name": "cosine", "min_lr": 1e-4}},
        lambda optimizer: CosineAnnealingLR(optimizer, EPOCHS, 1e-4),
        False,
    ),
    "plateau": (
        {"scheduler": {"name": "plateau", "factor": 0.3, "patience": 1}, "lr": 1e-6},  # too little to improve on
        lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.3, patience=1),
        False,
    ),
    "one cycle": (
        {"scheduler": {"name": "one_cycle", "pct_start": 0.4}},
        lambda optimizer: OneCycleLR(
            optimizer, optimizer.param_groups[0]["lr"], EPOCHS * STEPS, pct_start=0.4, cycle_momentum=False
        ),
        True,
    ),
    "warm-up": (
        {"warmup_epochs": 3},
        lambda optimizer: LambdaLR(optimizer, lambda step: min((step + 1) / (3 * STEPS), 1.0)),
        True,
    ),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spec_of(make_spec: MakeSpec, number: int, optimizer: str, schedule: str) -> JobSpec:
    """A row's job: in each its own numbers, seed, data split and schedule."""
    return make_spec(
        job=number,
        seed=number,
        epochs=EPOCHS,
        optimizer=optimizer,
        nesterov=True,
        batch_size=16,
        hidden=[16, 8],
        dropout=0.0,
        **{
            "lr": 0.002 * (1 + number),
            "momentum": 0.9 - 0.1 * number,
            "weight_decay": 0.01 * (number % 3),
            "clip_norm": (None, 0.5, 0.1)[number % 3],
            **SCHEDULES[schedule][0],
        },
    )


def plain(row: Row, schedule: str) -> dict[str, list[float]]:
    """Losses and learning rates of each epoch, as a loop of nobody's but PyTorch's parts gives them."""
    spec, problem = row.spec, row.problem
    with drawn_from(spec.seed, Purpose.INIT):
        net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = OPTIMIZERS[spec.params["optimizer"]](net.parameters(), spec.params)
    _, make, by_step = SCHEDULES[schedule]
    scheduler: LRScheduler = make(optimizer)
    found: dict[str, list[float]] = {"val_loss": [], "lr": []}
    for epoch in range(1, EPOCHS + 1):
        for chosen in order(len(problem.train), spec.seed, epoch).split(16):
            optimizer.zero_grad()
            functional.cross_entropy(net(problem.train.inputs[chosen]), problem.train.targets[chosen]).backward()
            if spec.params["clip_norm"] is not None:
                nn.utils.clip_grad_norm_(net.parameters(), spec.params["clip_norm"])
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            if by_step:
                scheduler.step()
        with torch.no_grad():
            loss = functional.cross_entropy(net(problem.val.inputs), problem.val.targets).item()
        found["val_loss"].append(loss)
        found["lr"].append(rate)
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(loss)
        elif not by_step:
            scheduler.step()
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_row_of_a_pack_trains_as_plain_pytorch_trains_it_alone(make_spec: MakeSpec, optimizer: str) -> None:
    specs = [spec_of(make_spec, number, optimizer, schedule) for number, schedule in enumerate(SCHEDULES)]
    pack = Pack([row_of(spec) for spec in specs], Mode.STACKED, len(specs))
    for _ in range(EPOCHS):
        pack.advance()
    for row, schedule in zip(pack.rows, SCHEDULES, strict=True):
        expected = plain(row, schedule)
        for name, values in expected.items():
            found = [report.metrics[name] for report in row.history]
            assert found == pytest.approx(values, rel=1e-5), (schedule, name)
        assert (len(set(expected["lr"])) > 1) == (schedule != "constant")
