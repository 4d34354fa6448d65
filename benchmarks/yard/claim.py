"""Claims per second with 1, 4 and 16 claimers at once, a million jobs being ready: one job a claim, and packs of 32.

    .venv/bin/python -m benchmarks.yard.claim [--jobs 1000000] [--db sqlite|postgresql|both] [--docs]

Each claimer is a process of its own with one connection, as a worker's slot has. The figure beside is that of one.
"""

import argparse
from collections.abc import Iterator

from benchmarks import result
from benchmarks.result import Result
from benchmarks.yard import claimers, databases
from db.session import Database

CLAIMERS = (1, 4, 16)
PACKS = (1, 32)  # jobs of one claim, at most
SECONDS = 4.0  # of each measurement
BOUND = 1_000  # claims/s on PostgreSQL

CODE = """
import sys, time
from db import claiming
from db.session import Database
database, limit, seconds = Database(sys.argv[1]), int(sys.argv[3]), float(sys.argv[4])
def claim():
    with database.writing() as session:
        return len(claiming.claim(session, "cpu", sys.argv[2], 3600.0, limit=limit))
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
            claimers.submit(database, jobs, kind)
            for pack in PACKS:
                alone = None
                for count in CLAIMERS:
                    claims, taken, slowest = _claimed(database, count, pack)
                    alone = alone or claims
                    bounded = kind == "postgresql" and pack == 1
                    yield Result(
                        benchmark="yard.claim",
                        case=f"{count} at once, {pack} a claim, {kind}",
                        value=claims,
                        unit="claims/s",
                        baseline=alone,
                        ratio=claims / alone,
                        bound=f"≥ {BOUND:,}/s" if bounded else "",
                        met=claims >= BOUND if bounded else None,
                        note=f"{taken:,.0f} jobs/s, slowest claim {slowest * 1e3:.0f} ms",
                    )


def _claimed(database: Database, count: int, pack: int) -> tuple[float, float, float]:
    """Claims and jobs a second of all together, and the slowest claim in seconds."""
    began, printed = claimers.told(database, CODE, count, str(pack), str(SECONDS))
    told = [one.split() for one in printed]
    seconds = max(float(line[3]) for line in told) - began  # not until they have gone: that takes long, too
    claims, jobs = (sum(int(line[column]) for line in told) for column in (0, 1))
    return claims / seconds, jobs / seconds, max(float(line[2]) for line in told)


def main() -> None:
    given: argparse.Namespace = databases.parser(__doc__).parse_args()
    result.publish(run(given.jobs, given.db), given)


if __name__ == "__main__":
    main()
