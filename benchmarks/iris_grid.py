"""512 jobs of Iris through the whole system, against a plain loop and joblib with two processes.

    .venv/bin/python -m benchmarks.iris_grid

lr × weight decay × dropout × 8 seeds, 30 epochs, batches of 16, [16, 8] hidden, evaluation after each epoch, best
weights kept. The baselines do the same work and return weights and history. Start-up is loading torch: of joblib's two
processes, of Gridyard's two trainers.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from benchmarks import plain, whole
from benchmarks.plain import Cell
from benchmarks.result import Result, parser, publish
from gridyard import bars

NAME = "iris_grid"
PROCESSES = 2
SAMPLE = 64  # jobs of the plain loop; its time is the same for each


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seeds", type=int, default=plain.SEEDS, help="jobs = 64 times so many")
    given = made.parse_args()
    publish(run(given.seeds), given)


def run(seeds: int = plain.SEEDS, grid: plain.Grid = plain.GRID) -> Iterator[Result]:
    jobs = plain.cells(grid, seeds)
    yield of("plain loop, one process", *one_after_the_other(jobs))
    warm, cold = with_joblib(jobs)
    yield of("joblib, two processes, loaded", warm, len(jobs))
    yield of("joblib, two processes, with start-up", cold, len(jobs))
    first, second = with_gridyard(sweep_keys(grid, seeds))
    yield compared("Gridyard, two slots, loaded, first sweep", first, warm, len(jobs), bound=10)
    yield compared("Gridyard, two slots, second sweep of the same workers", second, warm, len(jobs))
    yield compared(
        "`gridyard run`, from the command to its end", whole_command(sweep_keys(grid, seeds)), cold, len(jobs)
    )


def of(case: str, seconds: float, jobs: int, note: str = "") -> Result:
    note = "; ".join(filter(None, [f"{jobs} jobs in {seconds:.3g} s", note]))
    return Result(benchmark=NAME, case=case, value=jobs / seconds, unit="jobs/s", note=note)


def compared(case: str, seconds: float, baseline: float, jobs: int, bound: float | None = None) -> Result:
    """Gridyard's seconds against those of joblib in the same state."""
    ratio = baseline / seconds
    return Result(
        benchmark=NAME,
        case=case,
        value=jobs / seconds,
        unit="jobs/s",
        baseline=jobs / baseline,
        ratio=ratio,
        bound="" if bound is None else f"≥ {bound:g} × joblib",
        met=None if bound is None else ratio >= bound,
        note=f"{jobs} jobs in {seconds:.3g} s",
    )


def one_after_the_other(jobs: Sequence[Cell]) -> tuple[float, int, str]:
    """Seconds for a sample of jobs spread over the grid, their number, and what to say of it."""
    plain.train(**jobs[0])  # torch's first optimizer imports what takes seconds
    sample = jobs[:: max(1, len(jobs) // SAMPLE)]
    started = time.perf_counter()
    with bars.steps("plain loop", len(sample)) as advance:
        for job in sample:
            plain.train(**job)
            advance("")
    return time.perf_counter() - started, len(sample), f"a sample of {len(jobs)}"


def with_joblib(jobs: Sequence[Cell]) -> tuple[float, float]:
    """Seconds for all jobs by two processes: once they are loaded, and from their start."""
    print("joblib, twice …", file=sys.stderr, flush=True)
    with Parallel(n_jobs=PROCESSES, backend="loky") as parallel:
        started = time.perf_counter()
        parallel(delayed(plain.train)(**job) for job in jobs)
        cold = time.perf_counter() - started
        started = time.perf_counter()
        trained = parallel(delayed(plain.train)(**job) for job in jobs)
        warm = time.perf_counter() - started
    assert len(trained) == len(jobs)
    return warm, cold


def sweep_keys(grid: plain.Grid, seeds: int) -> dict[str, Any]:
    """The same grid as a sweep."""
    return {
        "name": "iris-grid",
        "task": "iris",
        "grid": grid,
        "fixed": {"optimizer": "adam", "batch_size": plain.BATCH, "hidden": list(plain.HIDDEN)},
        "seeds": seeds,
        "epochs": plain.EPOCHS,
        "objective": {"metric": "val_accuracy", "mode": "max"},
    }


def with_gridyard(keys: dict[str, Any]) -> tuple[float, float]:
    """Seconds of two such sweeps, one after the other, from their submission to the last job recorded."""
    print("Gridyard, twice …", file=sys.stderr, flush=True)
    with whole.yard(PROCESSES) as yard:
        return whole.timed(yard, "first sweep", **keys), whole.timed(yard, "second sweep", **keys)


def whole_command(keys: dict[str, Any]) -> float:
    """Seconds of `gridyard run`, with Python's start, the workers' start and end, and the leaderboard."""
    with tempfile.TemporaryDirectory(prefix="gridyard-") as folder:
        path = Path(folder) / "grid.yaml"
        path.write_text(json.dumps(keys))  # JSON is YAML
        command = [sys.executable, "-m", "gridyard", "run", str(path), "--workers", str(PROCESSES)]
        with whole.environment({"home": folder}):
            started = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - started


if __name__ == "__main__":
    main()
