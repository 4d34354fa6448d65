"""Claims per second with 1, 4 and 16 claimers at once, a million jobs being ready: one job a claim, and packs of 32.

    .venv/bin/python -m benchmarks.yard.claim [--jobs 1000000] [--db sqlite|postgresql|both] [--docs]

Each claimer is a process of its own with one connection, as a worker's slot has. The figure beside is that of one.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator

import gridyard
from benchmarks import result
from benchmarks.result import Result
from benchmarks.yard import databases, filling
from db.session import Database

CLAIMERS = (1, 4, 16)
PACKS = (1, 32)  # jobs of one claim, at most
SECONDS = 4.0  # of each measurement
BOUND = 1_000  # claims/s on PostgreSQL

CODE = """
import sys, time
from db import queue
from db.session import Database
database, limit, seconds = Database(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
def claim():
    with database.writing() as session:
        return len(queue.claim(session, "cpu", sys.argv[4], 3600.0, limit=limit))
for _ in range(10):
    claim()
print("ready", flush=True)
sys.stdin.readline()
claims, jobs, slowest, end = 0, 0, 0.0, time.monotonic() + seconds
while (started := time.monotonic()) < end:
    jobs += claim()
    claims += 1
    slowest = max(slowest, time.monotonic() - started)
print(claims, jobs, slowest, time.monotonic(), flush=True)
"""


def run(jobs: int = 1_000_000, db: str = "both") -> Iterator[Result]:
    """The figures, as they come."""
    for kind in databases.KINDS[db]:
        with databases.fresh(kind) as database:
            _submit(database, jobs, kind)
            for pack in PACKS:
                alone = None
                for claimers in CLAIMERS:
                    claims, taken, slowest = _claimed(database, claimers, pack)
                    alone = alone or claims
                    bounded = kind == "postgresql" and pack == 1
                    yield Result(
                        benchmark="yard.claim",
                        case=f"{claimers} at once, {pack} a claim, {kind}",
                        value=claims,
                        unit="claims/s",
                        baseline=alone,
                        ratio=claims / alone,
                        bound=f"≥ {BOUND:,}/s" if bounded else "",
                        met=claims >= BOUND if bounded else None,
                        note=f"{taken:,.0f} jobs/s, slowest claim {slowest * 1e3:.0f} ms",
                    )


def _submit(database: Database, jobs: int, kind: str) -> None:
    yard = gridyard.connect(db=_url(database))
    values = filling.VALUES
    with databases.bar(f"{kind}: {jobs:,} ready jobs") as progress:
        yard.submit(task="iris", grid={"lr": values[: jobs // 1_000], "weight_decay": values}, progress=progress)
    yard.database.close()
    filling.tidy(database)


def _claimed(database: Database, claimers: int, pack: int) -> tuple[float, float, float]:
    """Claims and jobs a second of all together, and the slowest claim in seconds."""
    command = [sys.executable, "-c", CODE, _url(database), str(pack), str(SECONDS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([*command, f"w{number}"], **pipes) for number in range(claimers)]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[0].split() for process in started]
    seconds = max(float(line[3]) for line in told) - begin  # not until they have gone: that takes long, too
    claims, jobs = (sum(int(line[column]) for line in told) for column in (0, 1))
    return claims / seconds, jobs / seconds, max(float(line[2]) for line in told)


def _url(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def main() -> None:
    given: argparse.Namespace = databases.parser(__doc__).parse_args()
    result.publish(run(given.jobs, given.db), given)


if __name__ == "__main__":
    main()
