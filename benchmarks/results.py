"""What the example grids reach: for each, the best cell by mean validation score, and that cell's test metrics.

    .venv/bin/python benchmarks/results.py [TASK …]

Trains in this process, by the engine that the workers call; prints the table of docs/results.md.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from jobs.catalogue import TASKS
from jobs.engine import Options, train
from jobs.spec import Answer, Assignment, JobSpec, Json, SweepSpec, TrainResult
from jobs.store import Store
from jobs.tabular import split
from jobs.tasks import sine
from scheduler.grid import count, jobs
from scheduler.sweep_file import read

EXAMPLES = Path(__file__).parents[1] / "examples"
SEEDS = [0, 1, 2, 3, 4]


def main(names: list[str]) -> None:
    print("| task | jobs | best cell of the grid | validation, 5 seeds | test, 5 seeds | seconds |")
    print("|---|---|---|---|---|---|")
    for name in names or TASKS:
        started = time.perf_counter()
        spec = replace(read(EXAMPLES / f"{name}.yaml"), seeds=SEEDS)
        cells = results(spec)
        sign = 1 if spec.objective.mode == "max" else -1
        cell, best = max(cells.items(), key=lambda item: sign * mean(result.score for result in item[1]))
        metric = spec.objective.metric.removeprefix("val_")
        print(
            f"| {name} | {count(spec) * len(SEEDS)} | {cell} | {spread(best, 'val', metric)} "
            f"| {spread(best, 'test', metric)} | {time.perf_counter() - started:.0f} |",
            flush=True,
        )
        if name == "sine":
            ratios = [
                result.metrics["test_mse"] / least_squares(seed) for seed, result in zip(SEEDS, best, strict=True)
            ]
            print(f"\nsine: test MSE / least-squares cubic's: {mean(ratios):.4f}, worst seed {max(ratios):.4f}")


def results(spec: SweepSpec) -> dict[str, list[TrainResult]]:
    """Every cell's results, seed by seed."""
    cells: dict[str, list[TrainResult]] = defaultdict(list)
    for cell, result in outcomes(spec):
        cells[", ".join(f"{name} {value}" for name, value in cell.items())].append(result)
    return cells


def outcomes(spec: SweepSpec) -> Iterator[tuple[Json, TrainResult]]:
    options = Options(device="cpu", checkpoint_seconds=float("inf"))
    for _, seed, cell in jobs(spec):
        job = JobSpec(
            job=1,
            sweep=1,
            sweep_uid="results",
            task=spec.task,
            params={**spec.fixed, **cell},
            seed=seed,
            epochs=spec.epochs,
            objective=spec.objective,
            early_stopping=spec.early_stopping,
        )
        assignment = Assignment(spec=job, attempt=1)
        store = Store("memory://results")
        (outcome,) = train([assignment], store=store, options=options, report=lambda report: Answer.GO_ON)
        assert isinstance(outcome, TrainResult), outcome
        yield cell, outcome


def spread(results: list[TrainResult], part: str, metric: str) -> str:
    values = [result.metrics[f"{part}_{metric}"] for result in results]
    return f"{metric} {mean(values):.4f} ± {stdev(values):.4f}"


def least_squares(seed: int) -> float:
    """Test MSE of numpy's cubic on the same training and test rows."""
    table = sine.table()
    train_rows, _, test_rows = split(len(table.labels), TASKS["sine"].params(), seed)
    x, y = table.rows[:, 0], table.labels
    cubic = np.polyfit(x[train_rows], y[train_rows], 3)
    return float(np.square(np.polyval(cubic, x[test_rows]) - y[test_rows]).mean())


if __name__ == "__main__":
    main(sys.argv[1:])
