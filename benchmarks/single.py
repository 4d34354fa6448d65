"""Jobs outside the system, for benchmarks of the engine: rows and packs of them."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.plain import Part
from jobs import built, tasks
from jobs.built import Built
from jobs.catalogue import find
from jobs.forward import Mode
from jobs.pack import Pack
from jobs.params import TrainingParams
from jobs.problem import Problem, Split
from jobs.row import Row
from jobs.spec import Assignment, JobSpec, Json

EPOCHS = 1_000_000  # more than any benchmark trains
SEEDS = 8  # of a pack's rows, as in the Iris grid: rows of one seed share data and batch order
FASTEST, SLOWEST = 1e-3, 3e-2  # learning rates of a pack's rows, evenly in the logarithm


def rows_of(task: str, params: Json, count: int, device: torch.device, cut: int | None = None) -> list[Row]:
    """Fresh jobs that differ in learning rate and seed.

    Args:
        cut: train on so many rows only, and validate on a fifth of that.
    """
    rates = np.geomspace(FASTEST, SLOWEST, count) if count > 1 else [FASTEST]
    builts = [build(task, params, seed, device, cut) for seed in range(min(SEEDS, count))]
    return [row(task, {**params, "lr": float(rate)}, builts[place % SEEDS], place) for place, rate in enumerate(rates)]


def build(task: str, params: Json, seed: int, device: torch.device, cut: int | None) -> Built:
    module, checked = tasks.load(task, params)
    assert isinstance(checked, TrainingParams)
    torch.manual_seed(seed)
    problem = module.build(checked, seed)
    assert isinstance(problem, Problem)
    if cut is not None:
        problem = replace(problem, train=first(problem.train, cut), val=first(problem.val, cut // 5))
    return built.build(find(task), problem, checked, device)


def first(split: Split, count: int) -> Split:
    parts = {name: getattr(split, name)[:count] for name in ("inputs", "targets", "truth", "rows")}
    return Split(**parts)


def row(task: str, params: Json, made: Built, place: int) -> Row:
    entry = find(task)
    spec = JobSpec(
        job=place + 1,
        sweep=1,
        sweep_uid="benchmarks",
        task=task,
        params=params,
        seed=place % SEEDS,
        epochs=EPOCHS,
        objective=entry.objective,
    )
    checked = entry.params.model_validate(params)
    assert isinstance(checked, TrainingParams)
    return Row(Assignment(spec=spec, attempt=1), checked, made)


def rates_of(pack: Pack, steps: int) -> NDArray[np.float64]:
    """(K, steps) learning rates for `Pack.train`."""
    return np.tile([[row.params.lr] for row in pack.rows], (1, steps))


def single(task: str, params: Json, cut: int | None = None) -> Pack:
    """One job on the CPU, as the engine trains it when no other could train along."""
    (only,) = rows_of(task, params, 1, torch.device("cpu"), cut)
    return Pack([only], Mode.ALONE if only.built.stacked is None else Mode.STACKED, 1)


def ready(problem: Problem, split: Split) -> Part:
    """A part of the data as a plain loop would have it: floats, as the network takes them."""
    return Part(problem.feed(split.inputs).contiguous(), split.targets)
