"""What the examples reach: for each, the best cell by mean validation score, and that cell's test metrics.

    .venv/bin/python benchmarks/results.py [NAME …] [--homes FOLDER]

NAME is that of a file in examples/. Each is trained by `gridyard run` in a yard of its own, FOLDER/NAME; a yard that is
there already is only read. Prints the table of docs/results.md.
"""

import argparse
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np

import gridyard
from db.leaderboard import RankedCell
from gridyard.sweep import Sweep
from jobs.catalogue.tables import SineParams
from jobs.splits import split
from jobs.tasks import sine

EXAMPLES = Path(__file__).parents[1] / "examples"
GRIDYARD = Path(__file__).parents[1] / ".venv" / "bin" / "gridyard"


@dataclass(frozen=True)
class Bound:
    """What the test part must reach, on the mean over the seeds."""

    metric: str
    bound: float | None  # None: no bound is set, the figure is only stated
    lower: bool = False  # lower values are better

    def met(self, value: float) -> str:
        if self.bound is None:
            return "(none set)"
        reached = value <= self.bound if self.lower else value >= self.bound
        return f"{'≤' if self.lower else '≥'} {self.bound:g}: {'met' if reached else 'MISSED'}"


BOUNDS = {
    "iris": Bound("accuracy", 0.95),
    "breast_cancer": Bound("accuracy", 0.95),
    "digits": Bound("accuracy", None),
    "mnist": Bound("accuracy", 0.97),
    "mnist_64x64": Bound("accuracy", 0.973),
    "mnist_cnn": Bound("accuracy", 0.99),
    "cats_dogs": Bound("accuracy", 0.80),
    "cats_dogs_64px": Bound("accuracy", None),
    "california_housing": Bound("r2", 0.79),
    "auto_mpg": Bound("r2", 0.85),
    "diamonds": Bound("r2", 0.97),
    "sine": Bound("mse", None),
    "sine_mlp": Bound("mse", None),
    "table": Bound("r2", None),
    "gpt2_shakespeare": Bound("perplexity", None, lower=True),
    "gpt2_korean": Bound("perplexity", None, lower=True),
    "finetune_stories": Bound("perplexity", None, lower=True),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--homes", type=Path, default=Path(tempfile.gettempdir()) / "gridyard-results")
    given = parser.parse_args()
    print("| `gridyard run examples/….yaml` | jobs | best cell of the grid | test | all metrics | bound | minutes |")
    print("|---|---|---|---|---|---|---|")
    for name in given.names or BOUNDS:
        print(line(name, given.homes / name), flush=True)


def line(name: str, home: Path) -> str:
    """The example's line of the table, trained first where its yard is not there."""
    os.environ["GRIDYARD_HOME"] = str(home)
    if not (home / "gridyard.db").exists():
        subprocess.run([GRIDYARD, "run", EXAMPLES / f"{name}.yaml"], check=True)
    yard = gridyard.connect()
    sweep = yard.sweep(yard.sweeps(limit=1)[0].sweep)
    status = sweep.status()
    assert status.jobs["succeeded"] == status.total, f"{name}: not every job succeeded"
    assert status.created_at is not None
    assert status.finished_at is not None
    (best,) = sweep.ranked(1, by="cell")
    assert isinstance(best, RankedCell)
    cell = ", ".join(f"{parameter} {best.params[parameter]}" for parameter in best.varied) or "(one cell)"
    bound = BOUNDS[name]
    reached = f"{bound.metric} {spread(best, bound.metric)}"
    figure = finite(best.metrics[f"test_{bound.metric}"])
    verdict = of_least_squares(sweep, best) if name == "sine" else bound.met(figure)
    others = ", ".join(f"{metric} {spread(best, metric)}" for metric in rest(best, bound.metric))
    minutes = (status.finished_at - status.created_at).total_seconds() / 60
    return f"| {name} | {status.total} | {cell} | {reached} | {others} | {verdict} | {minutes:.1f} |"


def rest(cell: RankedCell, metric: str) -> list[str]:
    names = [name.removeprefix("test_") for name in cell.metrics if name.startswith("test_")]
    return [name for name in names if name not in (metric, "loss")]


def spread(cell: RankedCell, metric: str) -> str:
    """Mean ± sample standard deviation over the seeds, in as many digits as the spread allows to tell."""
    value, std = cell.metrics[f"test_{metric}"], cell.metrics_std[f"test_{metric}"]
    if std is None:
        return f"{value:.4g} (one seed)"
    digits = max(0, 1 - int(np.floor(np.log10(std)))) if std > 0 else 4
    return f"{value:.{digits}f} ± {std:.{digits}f}"


def finite(value: float | None) -> float:
    """A metric of a model that is any good."""
    assert value is not None, "a metric of the best cell was not finite"
    return value


def of_least_squares(sweep: Sweep, best: RankedCell) -> str:
    """How much worse than least squares, seed by seed: at most 5 % is the bound."""
    jobs = [sweep.yard.job(job).details() for job in best.jobs]
    ratios = [finite(job.metrics["test_mse"]) / least_squares(job.seed) for job in jobs]
    verdict = "met" if mean(ratios) <= 1.05 else "MISSED"
    return f"≤ 1.05 of least squares: {mean(ratios):.3f} ± {stdev(ratios):.3f}, worst {max(ratios):.3f}: {verdict}"


def least_squares(seed: int) -> float:
    """Test MSE of numpy's cubic on the same training and test rows."""
    table = sine.table()
    train_rows, _, test_rows = split(len(table.labels), SineParams(), seed)
    x, y = table.rows[:, 0], table.labels
    cubic = np.polyfit(x[train_rows], y[train_rows], 3)
    return float(np.square(np.polyval(cubic, x[test_rows]) - y[test_rows]).mean())


if __name__ == "__main__":
    main()
