"""The Iris grid of `benchmarks.iris_grid` in Optuna and Ray Tune, against Gridyard in the same run.

    make bench-peers

Optuna: study in SQLite, GridSampler, two processes, `trial.report` after each epoch. Ray Tune: `reuse_actors`, two
CPUs, `tune.report` after each epoch. Both train by `plain.train` and keep each job's best weights in a file. Timed from
the moment both processes have loaded what they need and trained one job to the end of the last job.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import optuna
import ray
import torch
from ray import tune

from benchmarks import iris_grid, plain
from benchmarks.plain import Grid
from benchmarks.result import CHECKOUT, Result, parser, publish

NAME = "peers"
BOUND = 20  # times as many jobs per second as each; the aim is 30
PROCESSES = 2


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seeds", type=int, default=plain.SEEDS, help="jobs = 64 times so many")
    given = made.parse_args()
    publish(run(given.seeds), given)


def run(seeds: int = plain.SEEDS, grid: Grid = plain.GRID) -> Iterator[Result]:
    jobs = len(plain.cells(grid, seeds))
    seconds, _ = iris_grid.with_gridyard(iris_grid.sweep_keys(grid, seeds))
    for peer, measure in (("Optuna", with_optuna), ("Ray Tune", with_ray)):
        print(f"{peer} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            taken, done = measure({**grid, "seed": list(range(seeds))}, Path(folder))
        ratio = jobs / seconds / (done / taken)
        yield Result(
            benchmark=NAME,
            case=f"Gridyard against {peer}",
            value=jobs / seconds,
            unit="jobs/s",
            baseline=done / taken,
            ratio=ratio,
            bound=f"≥ {BOUND} ×",
            met=ratio >= BOUND,
            note=f"{jobs} jobs in {seconds:.3g} s; {peer} {done} in {taken:.3g} s",
        )


def with_optuna(space: dict[str, list[Any]], folder: Path) -> tuple[float, int]:
    """Seconds for the grid, and the number of its cells that were trained, each counted once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = f"sqlite:///{folder}/optuna.db"
    optuna.create_study(storage=url, study_name=NAME, direction="maximize")
    spawn = multiprocessing.get_context("spawn")
    loaded = spawn.Barrier(PROCESSES + 1)
    processes = [spawn.Process(target=optimise, args=(url, space, folder, loaded)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    loaded.wait()
    started = time.time()
    for process in processes:
        process.join()
    trials = optuna.load_study(storage=url, study_name=NAME).trials
    ends = [trial.datetime_complete.timestamp() for trial in trials if trial.datetime_complete]
    return max(ends) - started, len({tuple(sorted(trial.params.items())) for trial in trials})


def optimise(url: str, space: dict[str, list[Any]], folder: Path, loaded: Barrier) -> None:
    """One of the processes: trains until every cell of the grid has been tried."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(storage=url, study_name=NAME, sampler=optuna.samplers.GridSampler(space))

    def objective(trial: optuna.Trial) -> float:
        cell = {name: trial.suggest_categorical(name, values) for name, values in space.items()}
        trained = plain.train(**cell, report=lambda epoch, metrics: trial.report(metrics["val_accuracy"], epoch))
        torch.save(trained.weights, folder / f"{trial.number}.pt")
        trial.set_user_attr("test", trained.test)
        return max(metrics["val_accuracy"] for metrics in trained.history)

    plain.train(lr=0.01, weight_decay=0.0, dropout=0.0, seed=0)
    loaded.wait()
    study.optimize(objective)


def with_ray(space: dict[str, list[Any]], folder: Path) -> tuple[float, int]:
    """Seconds for the grid since its second actor was loaded, and the number of its trials."""
    os.environ["PYTHONPATH"] = str(CHECKOUT)  # its workers import this module
    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    def trainable(config: dict[str, Any]) -> None:
        loaded = folder / f"{os.getpid()}.loaded"
        if not loaded.exists():
            plain.train(**config)
            loaded.write_text(str(time.time()))
        trained = plain.train(**config, report=lambda epoch, metrics: tune.report(metrics))
        torch.save(trained.weights, Path(tune.get_context().get_trial_dir()) / "best.pt")

    tuner = tune.Tuner(
        trainable,
        param_space={name: tune.grid_search(values) for name, values in space.items()},
        tune_config=tune.TuneConfig(metric="val_accuracy", mode="max", reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
    )
    try:
        with redirect_stdout(sys.stderr):  # Ray's banner is no part of our table
            found = tuner.fit()
        ended = time.time()
    finally:
        ray.shutdown()
    started = sorted(float(path.read_text()) for path in folder.glob("*.loaded"))
    return ended - started[min(PROCESSES, len(started)) - 1], len(found) - found.num_errors


if __name__ == "__main__":
    main()
