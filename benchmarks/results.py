"""What the example grids reach: for each, the best cell by mean validation score, and that cell's test metrics.

    .venv/bin/python benchmarks/results.py [TASK …]

Submits the grids to a yard of its own with local workers, as a user would; prints the table of docs/results.md.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import numpy as np

import gridyard
from db.leaderboard import RankedCell
from jobs.catalogue import tasks
from jobs.splits import split
from jobs.tasks import sine

EXAMPLES = Path(__file__).parents[1] / "examples"
SEEDS = 5


def main(names: list[str]) -> None:
    print(f"| task | jobs | best cell of the grid | validation, {SEEDS} seeds | test, {SEEDS} seeds | seconds |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        os.environ["GRIDYARD_HOME"] = home
        yard = gridyard.connect()
        for name in names or tasks():
            print(row_of(yard, name), flush=True)


def row_of(yard: gridyard.Yard, name: str) -> str:
    """Trains a grid; its line of the table."""
    started = time.perf_counter()
    sweep = yard.submit(EXAMPLES / f"{name}.yaml", sets=[f"seeds={SEEDS}"])
    status = sweep.wait()
    seconds = time.perf_counter() - started
    assert status.jobs["succeeded"] == status.total, f"{name}: not every job succeeded"
    (best,) = sweep.ranked(1, by="cell")
    assert isinstance(best, RankedCell)
    cell = ", ".join(f"{parameter} {best.params[parameter]}" for parameter in best.varied)
    metric = best.metric.removeprefix("val_")
    parts = [spread(best, part, metric) for part in ("val", "test")]
    if name == "sine":
        parts[1] += ratio([yard.job(job).details().metrics["test_mse"] for job in best.jobs])
    return f"| {name} | {status.total} | {cell} | {parts[0]} | {parts[1]} | {seconds:.0f} |"


def spread(cell: RankedCell, part: str, metric: str) -> str:
    name = f"{part}_{metric}"
    return f"{metric} {cell.metrics[name]:.4f} ± {cell.metrics_std[name]:.4f}"


def ratio(errors: list[float]) -> str:
    """How much worse than least squares, seed by seed."""
    ratios = [error / least_squares(seed) for seed, error in enumerate(errors)]
    return f"; {mean(ratios):.3f} of the least-squares cubic's, worst seed {max(ratios):.3f}"


def least_squares(seed: int) -> float:
    """Test MSE of numpy's cubic on the same training and test rows."""
    table = sine.table()
    train_rows, _, test_rows = split(len(table.labels), tasks()["sine"].params(), seed)
    x, y = table.rows[:, 0], table.labels
    cubic = np.polyfit(x[train_rows], y[train_rows], 3)
    return float(np.square(np.polyval(cubic, x[test_rows]) - y[test_rows]).mean())


if __name__ == "__main__":
    main(sys.argv[1:])
