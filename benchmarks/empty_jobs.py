"""Jobs that train next to nothing, through the whole system on Redis and PostgreSQL: what the system itself costs.

    .venv/bin/python -m benchmarks.empty_jobs

One worker of two slots. Jobs per second of 5,000 jobs, from the call of `submit` to the last job recorded; and of
single jobs, when the worker is idle, the time from the call of `submit` to `attempts.started_at`.
"""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from sqlalchemy import select

from benchmarks import whole
from benchmarks.result import Result, parser, publish
from db.models import Attempt, Job
from gridyard import bars
from gridyard.client import Yard

NAME = "empty_jobs"
JOBS, SINGLES = 5_000, 200
JOBS_PER_SECOND, WAIT_SECONDS = 500, 1.0  # to reach
PAUSE_SECONDS = 0.3  # at most, between single jobs: they come at any moment between two looks of the worker


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--jobs", type=int, default=JOBS)
    made.add_argument("--singles", type=int, default=SINGLES)
    given = made.parse_args()
    publish(run(given.jobs, given.singles), given)


def run(jobs: int = JOBS, singles: int = SINGLES) -> Iterator[Result]:
    with whole.team() as servers, whole.yard(2, tasks="benchmarks.nothing", **servers) as yard:
        whole.timed(yard, "warm-up", task="nothing", seeds=20)
        seconds = whole.timed(yard, "empty jobs", task="nothing", seeds=jobs)
        yield throughput("packed as it pays", seconds, jobs)
        yield from latencies([wait(yard, random.Random(number)) for number in progress(singles)])


def throughput(case: str, seconds: float, jobs: int) -> Result:
    return Result(
        benchmark=NAME,
        case=f"empty jobs, {case}",
        value=jobs / seconds,
        unit="jobs/s",
        bound=f"≥ {JOBS_PER_SECOND} jobs/s",
        met=jobs / seconds >= JOBS_PER_SECOND,
        note=f"{jobs:,} jobs in {seconds:.3g} s",
    )


def progress(singles: int) -> Iterator[int]:
    with bars.steps("single jobs", singles) as advance:
        for number in range(singles):
            yield number
            advance("")


def wait(yard: Yard, draw: random.Random) -> float:
    """Seconds from the submission of a job to its start, after an idle moment."""
    time.sleep(draw.uniform(0, PAUSE_SECONDS))
    submitted = datetime.now(UTC)
    sweep = yard.submit(task="nothing", seeds=1)
    whole.follow(sweep, "a single job")
    with yard.database.reading() as session:
        started = session.scalar(select(Attempt.started_at).join(Job).where(Job.sweep_id == sweep.id))
    assert started is not None  # it has ended
    return (started - submitted).total_seconds()


def latencies(waits: list[float]) -> Iterator[Result]:
    for percentile, bound in ((50, None), (99, WAIT_SECONDS)):
        value = float(np.percentile(waits, percentile))
        yield Result(
            benchmark=NAME,
            case=f"submit to start of a single job, p{percentile}",
            value=value * 1e3,
            unit="ms",
            bound="" if bound is None else f"< {bound:g} s",
            met=None if bound is None else value < bound,
            note=f"{len(waits)} jobs, worst {max(waits) * 1e3:.3g} ms",
        )


if __name__ == "__main__":
    main()
