"""Submits a grid of 1,000,000 cells: seconds, and the most memory of the process that does it.

    .venv/bin/python -m benchmarks.yard.submit [--jobs 1000000] [--db sqlite|postgresql|both] [--docs]

In a process of its own, from `import gridyard` to the open sweep. The figure beside is that of a tenth of the cells.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import result
from benchmarks.result import Result
from benchmarks.yard import databases

BOUND_SECONDS, BOUND_MB = 60.0, 300.0  # for a million cells; the seconds on SQLite

CODE = """
import json, resource, sys, time
started = time.perf_counter()
import gridyard
yard = gridyard.connect(db=sys.argv[1])
values = [round(1e-5 * 1.01**step, 12) for step in range(1_000)]
count = int(sys.argv[2])
tell = lambda done, total: print(done, flush=True)
sweep = yard.submit(task="iris", grid={"lr": values[: count // 1_000], "weight_decay": values}, progress=tell)
assert sweep.status().jobs["ready"] == count
unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps({"seconds": time.perf_counter() - started, "mb": peak / 1e6}))
"""


def run(jobs: int = 1_000_000, db: str = "both") -> Iterator[Result]:
    """The figures, as they come."""
    for kind in databases.KINDS[db]:
        few, found = _measured(kind, jobs // 10), _measured(kind, jobs)
        in_time = found["seconds"] <= BOUND_SECONDS if kind == "sqlite" else None
        common: dict[str, Any] = {"benchmark": "yard.submit", "note": f"baseline: {jobs // 10:,} cells"}
        case = f"grid of {jobs:,} cells, {kind}"
        bound = f"≤ {BOUND_SECONDS:g} s" if kind == "sqlite" else ""
        yield Result(
            case=case, value=found["seconds"], unit="s", baseline=few["seconds"], bound=bound, met=in_time, **common
        )
        small = found["mb"] <= BOUND_MB
        bound = f"≤ {BOUND_MB:g} MB"
        yield Result(
            case=f"{case}, memory", value=found["mb"], unit="MB", baseline=few["mb"], bound=bound, met=small, **common
        )


def _measured(kind: str, jobs: int) -> dict[str, float]:
    with databases.fresh(kind) as database, databases.bar(f"{kind}: submit {jobs:,}") as progress:
        url = database.engine.url.render_as_string(hide_password=False)
        command = [sys.executable, "-W", "ignore", "-c", CODE, url, str(jobs)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = ""
            for line in process.stdout:
                if line.strip().isdigit():
                    progress(int(line), jobs)
        found: dict[str, float] = json.loads(line)
        return found


def main() -> None:
    given = databases.parser(__doc__).parse_args()
    result.publish(run(given.jobs, given.db), given)


if __name__ == "__main__":
    main()
