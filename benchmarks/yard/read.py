"""Leaderboards, status and a claim while the database has a million jobs: p50 and p99 of each.

    .venv/bin/python -m benchmarks.yard.read [--jobs 1000000] [--db sqlite|postgresql|both] [--docs]

Through the Yard's own functions, in this process, after a few calls that warm it up. The figure beside is that of
20,000 jobs: what does not grow with the table is about as fast there.
"""

import statistics
import time
from collections.abc import Callable, Iterator

import gridyard
from benchmarks import result
from benchmarks.result import Result
from benchmarks.yard import databases, filling
from db import claiming
from gridyard.client import Yard

WARM_UP, CALLS = 10, 300  # of each
FEW = 20_000  # jobs of the baseline; a fiftieth of them are ready to be claimed
BOUND_MS = 20.0


def run(jobs: int = 1_000_000, db: str = "both") -> Iterator[Result]:
    """The figures, as they come."""
    for kind in databases.KINDS[db]:
        few = dict(_measured(kind, FEW))
        for case, times in _measured(kind, jobs):
            p50, p99 = _percentiles(times)
            yield Result(
                benchmark="yard.read",
                case=f"{case}, {kind}, {jobs:,} jobs, p99",
                value=p99,
                unit="ms",
                baseline=_percentiles(few[case])[1],
                bound=f"≤ {BOUND_MS:g} ms",
                met=p99 <= BOUND_MS,
                note=f"p50 {p50:.3g} ms; baseline: with {FEW:,} jobs",
            )


def _measured(kind: str, jobs: int) -> Iterator[tuple[str, list[float]]]:
    with databases.fresh(kind) as database, databases.bar(f"{kind}: {jobs:,} jobs") as progress:
        sweeps = filling.fill(database, jobs, progress)
        yard = gridyard.connect(db=database.engine.url.render_as_string(hide_password=False))
        for number, (case, call) in enumerate(_cases(yard, sweeps).items()):
            times = [_seconds(call) for _ in range(WARM_UP + CALLS)][WARM_UP:]
            progress(number + 1, len(_cases(yard, sweeps)))
            yield case, times
        yard.database.close()


def _cases(yard: Yard, sweeps: list[int]) -> dict[str, Callable[[], object]]:
    large, small = sweeps[0], sweeps[-1]
    return {
        "leaderboard --top 100 of the large sweep": lambda: yard.ranked(100, sweep=large),
        "leaderboard --top 100 of a small sweep": lambda: yard.ranked(100, sweep=small),
        "leaderboard --top 100 of a task": lambda: yard.ranked(100, task="digits"),
        "leaderboard --top 100 of everything": lambda: yard.ranked(100),
        "status of the large sweep": lambda: yard.sweep(large).status(),
        "status, the newest 20 sweeps": yard.sweeps,
        "claim of one job": lambda: _claim(yard),
    }


def _claim(yard: Yard) -> None:
    with yard.database.writing() as session:
        assert claiming.claim(session, "cpu", "benchmark", 3600.0)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    """p50 and p99, in milliseconds."""
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    return hundredths[49] * 1e3, hundredths[98] * 1e3


def main() -> None:
    given = databases.parser(__doc__).parse_args()
    result.publish(run(given.jobs, given.db), given)


if __name__ == "__main__":
    main()
