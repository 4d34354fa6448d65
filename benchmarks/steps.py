"""CPU time of a training step, against a plain PyTorch loop with the same layers.

    .venv/bin/python benchmarks/steps.py

Prints the second table of docs/results.md: minimum of seven repeats of 20 epochs, on one thread.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn, optim

from jobs.catalogue import tasks
from jobs.engine import fresh
from jobs.row import Row
from jobs.spec import Assignment, JobSpec

EPOCHS, REPEATS = 20, 7


def main() -> None:
    torch.set_num_threads(1)
    print("| task | steps an epoch | plain, per step | engine, per step | plain, epoch | engine, whole epoch |")
    print("|---|---|---|---|---|---|")
    for name in ("iris", "breast_cancer", "digits"):
        row = row_of(name)
        contenders: list[Callable[[], object]] = [plain(row), lambda row=row: row.train_epoch(1), row.advance]
        for _ in range(3):  # warm up all before any is measured
            for contender in contenders:
                contender()
        plain_epoch, trained, whole = fastest(contenders)
        steps = len(row.batches)
        per_step = f"{plain_epoch / steps:.2f} | {trained / steps:.2f}"
        print(f"| {name} | {steps} | {per_step} | {plain_epoch:.1f} | {whole:.1f} |")


def row_of(task: str) -> Row:
    entry = tasks()[task]
    spec = JobSpec(
        job=1, sweep=1, sweep_uid="steps", task=task, params={}, seed=0, epochs=10_000, objective=entry.objective
    )
    return fresh(Assignment(spec=spec, attempt=1), torch.device("cpu"))


def plain(row: Row) -> Callable[[], None]:
    """One epoch as one would write it by hand, without any evaluation."""
    params, train, loss = row.params, row.problem.train, row.problem.loss
    layers: list[nn.Module] = []
    for before, after in pairwise([train.inputs.shape[1], *params.hidden]):
        layers += [nn.Linear(before, after), nn.ReLU(), *([nn.Dropout(params.dropout)] if params.dropout else [])]
    outputs = row.net[-1].out_features
    net = nn.Sequential(*layers, nn.Linear(params.hidden[-1], outputs))
    optimizer = optim.Adam(net.parameters(), params.lr)

    def epoch() -> None:
        for rows in torch.randperm(len(train)).split(params.batch_size):
            optimizer.zero_grad()
            loss(net(train.inputs[rows]), train.targets[rows]).mean().backward()
            optimizer.step()

    return epoch


def fastest(contenders: list[Callable[[], object]]) -> list[float]:
    """CPU milliseconds of one epoch of each, measured in turn, so that all meet the same disturbances."""
    best = [float("inf")] * len(contenders)
    for _ in range(REPEATS):
        for place, contender in enumerate(contenders):
            started = time.process_time()
            for _ in range(EPOCHS):
                contender()
            best[place] = min(best[place], (time.process_time() - started) / EPOCHS * 1e3)
    return best


if __name__ == "__main__":
    main()
