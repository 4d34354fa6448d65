"""The learning rate against torch's schedulers on an ordinary optimizer, with warm-up, and over an interruption."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, lr_scheduler

from jobs.params import TrainingParams
from jobs.schedules import LearningRate

EPOCHS, STEPS, LR = 12, 5, 0.1
VAL_LOSSES = [1.0, 0.9, 0.95, 0.94, 0.93, 0.96, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9]
Make = Callable[[Any], Any]

SCHEDULERS: dict[str, tuple[dict[str, Any], Make]] = {
    "step": (
        {"name": "step", "step_size": 3, "gamma": 0.5},
        lambda optimizer: lr_scheduler.StepLR(optimizer, 3, 0.5),
    ),
    "cosine": (
        {"name": "cosine", "min_lr": 0.001},
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS, 0.001),
    ),
    "plateau": (
        {"name": "plateau", "factor": 0.1, "patience": 1},
        lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=1),
    ),
    "one_cycle": (
        {"name": "one_cycle", "pct_start": 0.25},
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer, LR, total_steps=EPOCHS * STEPS, pct_start=0.25, cycle_momentum=False
        ),
    ),
}


def rates(
    scheduler: dict[str, Any] | None, *, warmup: int = 0, restore_after: int = 0, epochs: int = EPOCHS
) -> list[float]:
    """The lr of every step; after epoch `restore_after` it goes on from a state that was written as JSON."""
    params = TrainingParams.model_validate({"lr": LR, "scheduler": scheduler, "warmup_epochs": warmup})
    lr = LearningRate(params, epochs=epochs, steps=STEPS)
    values = []
    for epoch in range(epochs):
        for _ in range(STEPS):
            values.append(lr.value)
            lr.after_step()
        lr.after_epoch(VAL_LOSSES[epoch])
        if epoch + 1 == restore_after:
            state = json.loads(json.dumps(lr.state()))
            lr = LearningRate(params, epochs=epochs, steps=STEPS)
            lr.restore(state)
    return values


def torch_rates(name: str) -> list[float]:
    """The same by torch alone."""
    optimizer = SGD([torch.nn.Parameter(torch.ones(1))], LR)
    scheduler = SCHEDULERS[name][1](optimizer)
    values = []
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if name == "one_cycle":
                scheduler.step()
        if name != "one_cycle":
            scheduler.step(*([VAL_LOSSES[epoch]] if name == "plateau" else []))
    return values


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_gives_the_rates_of_torch(name: str) -> None:
    assert rates(SCHEDULERS[name][0]) == torch_rates(name)
    assert len(set(torch_rates(name))) > 1


def test_without_a_scheduler_the_rate_is_constant() -> None:
    assert set(rates(None)) == {LR}


@pytest.mark.parametrize("name", [None, *SCHEDULERS])
def test_warm_up_rises_linearly_before_any_scheduler(name: str | None) -> None:
    """The scheduler then does in the epochs left what it does in a job of so many epochs."""
    wanted = SCHEDULERS[name][0] if name else None
    values = rates(wanted, warmup=2)
    assert values[: 2 * STEPS] == pytest.approx([LR * (step + 1) / (2 * STEPS) for step in range(2 * STEPS)])
    if name != "plateau":  # which follows the losses, not the epochs
        assert values[2 * STEPS :] == rates(wanted, epochs=EPOCHS - 2)


def test_plateau_ignores_losses_of_the_warm_up() -> None:
    values = rates(SCHEDULERS["plateau"][0], warmup=4)
    assert values[4 * STEPS :: STEPS] == pytest.approx([LR] * 5 + [LR / 10] * 2 + [LR / 100])


def test_a_warm_up_longer_than_the_job_only_rises() -> None:
    values = rates(SCHEDULERS["one_cycle"][0], warmup=20)
    assert values == pytest.approx([LR * (step + 1) / 100 for step in range(EPOCHS * STEPS)])


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("epoch", [1, 3, 6, 11])
def test_an_interruption_changes_no_rate(name: str, warmup: int, epoch: int) -> None:
    wanted = SCHEDULERS[name][0]
    assert rates(wanted, warmup=warmup, restore_after=epoch) == rates(wanted, warmup=warmup)


@pytest.mark.parametrize("pct_start", [0.2, 0.5, 0.3])
def test_one_cycle_works_for_the_shortest_jobs(pct_start: float) -> None:
    """torch divides by zero where the rise is exactly one step, as with 0.2 of 5."""
    values = rates({"name": "one_cycle", "pct_start": pct_start}, epochs=1)
    assert len(values) == STEPS
    assert 0 < max(values) <= LR
