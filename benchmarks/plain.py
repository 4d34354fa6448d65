"""The baselines: training as one would write it by hand, over tensors that lie ready.

`train` is one job of the Iris grid, for the plain loop, joblib and the peers; `loop` a training loop for any network.
"""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from jobs.catalogue.tables import IrisParams
from jobs.layers import Dropout
from jobs.losses import Loss
from jobs.splits import split
from jobs.tasks import iris

EPOCHS, BATCH, HIDDEN = 30, 16, (16, 8)
GRID: dict[str, list[float]] = {  # 64 cells; with eight seeds 512 jobs
    "lr": [0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05],
    "weight_decay": [0.0, 1e-5, 1e-4, 1e-3],
    "dropout": [0.0, 0.2],
}
SEEDS = 8

Grid = dict[str, list[float]]
Cell = dict[str, Any]  # the arguments of `train`
Report = Callable[[int, dict[str, float]], object]  # (epoch, its metrics)


class Part(NamedTuple):
    """Rows that lie ready for a network."""

    inputs: Tensor  # (N, …)
    targets: Tensor  # (N, …)


class Trained(NamedTuple):
    """What a job leaves: as much as Gridyard keeps of it."""

    history: list[dict[str, float]]  # one of each epoch
    weights: dict[str, Tensor]  # of the epoch with the best validation accuracy, then loss
    test: dict[str, float]  # of these weights


def cells(grid: Grid = GRID, seeds: int = SEEDS) -> list[Cell]:
    """Every job of a grid, as arguments of `train`."""
    values = itertools.product(*grid.values(), range(seeds))
    return [dict(zip([*grid, "seed"], chosen, strict=True)) for chosen in values]


@cache
def parts(seed: int) -> tuple[Part, Part, Part]:
    """Training, validation and test rows of Iris as Gridyard splits and standardises them; once for each seed."""
    table = iris.table()
    rows, truth = torch.from_numpy(table.rows).float(), torch.from_numpy(table.labels).long()
    chosen = split(len(truth), IrisParams(), seed, classes=table.labels)
    known = rows[chosen[0]]
    rows = (rows - known.mean(0)) / known.std(0, correction=0)
    train, val, test = (Part(rows[part], truth[part]) for part in chosen)
    return train, val, test


def train(
    lr: float, weight_decay: float, dropout: float, seed: int, report: Report = lambda epoch, metrics: None
) -> Trained:
    """One job of the Iris grid: evaluated after each epoch, the best weights kept."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    known, val, test = parts(seed)
    net = perceptron(known.inputs.shape[1], 3, dropout)
    optimizer = optim.Adam(net.parameters(), lr, weight_decay=weight_decay)
    history: list[dict[str, float]] = []
    best, weights = (-1.0, 0.0), {}
    for epoch in range(1, EPOCHS + 1):
        metrics = {"train_loss": pass_over(net, optimizer, known), **evaluate(net, val, "val")}
        history.append(metrics)
        standing = (metrics["val_accuracy"], -metrics["val_loss"])
        if standing > best:
            best, weights = standing, {name: tensor.clone() for name, tensor in net.state_dict().items()}
        report(epoch, metrics)
    net.load_state_dict(weights)
    return Trained(history, weights, evaluate(net, test, "test"))


def perceptron(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((inputs, *HIDDEN)):
        layers += [nn.Linear(before, after), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], outputs))


def pass_over(net: nn.Module, optimizer: optim.Optimizer, known: Part) -> float:
    """One epoch over the training rows; its mean loss."""
    net.train()
    total = torch.zeros(())
    for rows in torch.randperm(len(known.inputs)).split(BATCH):
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(known.inputs[rows]), known.targets[rows])
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(rows)
    return total.item() / len(known.inputs)


@torch.inference_mode()
def evaluate(net: nn.Module, part: Part, name: str) -> dict[str, float]:
    net.eval()
    outputs = net(part.inputs)
    accuracy = (outputs.argmax(1) == part.targets).float().mean()
    return {
        f"{name}_loss": functional.cross_entropy(outputs, part.targets).item(),
        f"{name}_accuracy": accuracy.item(),
    }


def network(ours: nn.Module) -> nn.Module:
    """The same network as one would write it: torch's own dropout, and none where nothing is dropped."""
    net = copy.deepcopy(ours)
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Dropout):
                setattr(parent, name, nn.Dropout(float(child.p)) if child.p > 0 else nn.Identity())
    return net


def loop(net: nn.Module, known: Part, loss: Loss, *, lr: float, batch: int) -> Callable[[], None]:
    """One epoch of training with Adam over batches drawn anew, without any evaluation."""
    optimizer = optim.Adam(net.parameters(), lr)

    return lambda: learn(net, optimizer, loss, batches(known, batch))


def batches(known: Part, batch: int) -> Iterator[Part]:
    """All rows in a new order."""
    for rows in torch.randperm(len(known.inputs)).split(batch):
        yield Part(known.inputs[rows], known.targets[rows])


def learn(net: nn.Module, optimizer: optim.Optimizer, loss: Loss, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """The loop itself: a step for each batch."""
    net.train()
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss(net(inputs), targets).mean().backward()
        optimizer.step()


@torch.inference_mode()
def look(net: nn.Module, part: Part, loss: Loss, rows: int) -> tuple[float, float]:
    """Mean loss and accuracy of class logits, `rows` at a time."""
    net.eval()
    total = right = 0.0
    for inputs, targets in zip(part.inputs.split(rows), part.targets.split(rows), strict=True):
        outputs = net(inputs)
        total += loss(outputs, targets).sum().item()
        right += (outputs.argmax(1) == targets).sum().item()
    return total / len(part.inputs), right / len(part.inputs)
