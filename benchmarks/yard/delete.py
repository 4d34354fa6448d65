"""How long claimers wait while a sweep of 200,000 jobs is deleted, with their attempts and models.

    .venv/bin/python -m benchmarks.yard.delete [--jobs 200000] [--db sqlite|postgresql|both] [--docs]

One claimer, a process of its own, claims a job of another sweep and gives it back, every 10 ms. The figure beside is
its wait before the deletion.
"""

import subprocess
import sys
import time
from collections.abc import Iterator

from sqlalchemy import insert, literal, select

from benchmarks import result
from benchmarks.result import Result
from benchmarks.yard import databases, filling
from db import removal, steering
from db.clock import now
from db.models import Attempt, Job, Model
from db.session import Database

MODEL_BYTES = 1_000
QUIET_SECONDS = 5.0  # before the deletion begins

CODE = """
import sys, threading, time
from db import claiming, ending, steering
from db.session import Database
database, slowest = Database(sys.argv[1]), [0.0, 0.0]
def claim(phase):
    started = time.monotonic()
    with database.writing() as session:
        (claimed,) = claiming.claim(session, "cpu", "benchmark", 3600.0)
    slowest[phase] = max(slowest[phase], time.monotonic() - started)
    with database.writing() as session:
        ending.let_go(session, [(claimed, None)])
    time.sleep(0.01)
claim(0)
slowest[0], end = 0.0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    claim(0)
print("quiet", flush=True)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
while not stop.is_set():
    claim(1)
print(*slowest, flush=True)
"""


def run(jobs: int = 200_000, db: str = "both") -> Iterator[Result]:
    """The figures, as they come."""
    for kind in databases.KINDS[db]:
        with databases.fresh(kind) as database:
            large = _fill(database, jobs, kind)
            url = database.engine.url.render_as_string(hide_password=False)
            command = [sys.executable, "-W", "ignore", "-c", CODE, url, str(QUIET_SECONDS)]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as claimer:
                assert claimer.stdout is not None
                assert claimer.stdout.readline() == "quiet\n"
                seconds = _delete(database, large, jobs, kind)
                quiet, busy = map(float, claimer.communicate("stop\n")[0].split())
        case = f"{jobs:,} jobs, {kind}"
        yield Result(
            benchmark="yard.delete", case=f"slowest claim, {case}", value=busy * 1e3, unit="ms", baseline=quiet * 1e3
        )
        yield Result(benchmark="yard.delete", case=f"deleted in, {case}", value=seconds, unit="s")


def _fill(database: Database, jobs: int, kind: str) -> int:
    with databases.bar(f"{kind}: {jobs:,} jobs") as progress:
        large = filling.fill(database, int(jobs / filling.LARGE_SHARE), progress)[0]
    content = literal(b"\x01" * MODEL_BYTES)
    of_large = (Job.sweep_id == large, Job.state == "succeeded")
    attempts = select(Job.id, literal(1), literal("w"), now()).where(*of_large)
    models = select(Job.id, literal(1), literal("0"), literal(MODEL_BYTES), content).where(*of_large)
    with database.writing() as session:
        session.execute(insert(Attempt).from_select(["job_id", "attempt", "worker", "started_at"], attempts))
        session.execute(insert(Model).from_select(["job_id", "attempt", "sha256", "size", "content"], models))
        steering.cancel_sweep(session, large)
    return large


def _delete(database: Database, sweep: int, jobs: int, kind: str) -> float:
    started, gone = time.monotonic(), 0
    with database.writing() as session:
        removal.mark(session, sweep)
    with databases.bar(f"{kind}: deleting") as progress:

        def tell(number: int) -> None:
            nonlocal gone
            gone += number
            progress(gone, jobs)

        removal.remove(database, sweep, None, tell)
    return time.monotonic() - started


def main() -> None:
    made = databases.parser(__doc__)
    made.set_defaults(jobs=200_000)
    given = made.parse_args()
    result.publish(run(given.jobs, given.db), given)


if __name__ == "__main__":
    main()
