"""Eight processes claim 20,000 jobs, one by one, until none is left: is one taken twice, does a claim fail, how fast?

    .venv/bin/python -m benchmarks.yard.claim_all [--jobs 20000] [--db sqlite|postgresql|both] [--docs]

The figure beside is that of one process.
"""

import json
from collections import Counter
from collections.abc import Iterator

from benchmarks import result
from benchmarks.result import Result
from benchmarks.yard import claimers, databases
from db.session import Database

CLAIMERS = 8

CODE = """
import json, sys, time
from db import claiming, turns
from db.session import Database
from jobs.errors import DatabaseError
database, taken, errors, slowest = Database(sys.argv[1]), [], [], 0.0
def claim():
    with database.writing() as session:
        return [claim.job for claim in claiming.claim(session, "cpu", sys.argv[2], 3600.0)]
with database.reading() as session:
    turns.has_ready(session, "cpu")
print("ready", flush=True)
sys.stdin.readline()
last = time.monotonic()
while time.monotonic() - last < 1.0:  # others may hold the last ones locked
    started = time.monotonic()
    try:
        claimed = claim()
    except DatabaseError as error:
        errors.append(str(error))
        continue
    if claimed:
        taken += claimed
        last = time.monotonic()
        slowest = max(slowest, last - started)
json.dump([taken, errors, slowest, last], sys.stdout)
"""


def run(jobs: int = 20_000, db: str = "both") -> Iterator[Result]:
    """The figures, as they come."""
    for kind in databases.KINDS[db]:
        alone = None
        for count in (1, CLAIMERS):
            with databases.fresh(kind) as database:
                claimers.submit(database, jobs, kind)
                claims, note = _emptied(database, count, jobs)
                alone = alone or claims
                yield Result(
                    benchmark="yard.claim_all",
                    case=f"{count} until all {jobs:,} are taken, {kind}",
                    value=claims,
                    unit="claims/s",
                    baseline=alone,
                    ratio=claims / alone,
                    bound="each job once, no claim fails",
                    met=note.startswith("0 twice, 0 missing, 0 errors"),
                    note=note,
                )


def _emptied(database: Database, count: int, jobs: int) -> tuple[float, str]:
    """Claims a second of all together, and what was wrong."""
    began, printed = claimers.told(database, CODE, count)
    told = [json.loads(one) for one in printed]
    taken = Counter(job for one in told for job in one[0])
    errors = [error for one in told for error in one[1]]
    twice, missing = sum(taken.values()) - len(taken), jobs - len(taken)
    least, slowest = min(len(one[0]) for one in told), max(one[2] for one in told)
    note = f"{twice} twice, {missing} missing, {len(errors)} errors{': ' + errors[0] if errors else ''}; "
    note += f"the slowest claim took {slowest * 1e3:.0f} ms, the unluckiest process got {least:,}"
    return len(taken) / (max(one[3] for one in told) - began), note


def main() -> None:
    parser = databases.parser(__doc__)
    parser.set_defaults(jobs=20_000)
    given = parser.parse_args()
    result.publish(run(given.jobs, given.db), given)


if __name__ == "__main__":
    main()
