"""A sweep while a seeded random hand kills workers, trainers, the scheduler, Redis and PostgreSQL.

    .venv/bin/python -m tests.chaos [--seed N] [--faults 220] [--yard servers|embedded|both] [--docs]

Prints what was found, and the story of the jobs concerned where a promise was not kept; the exit code is then 1.
"""

import argparse
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import result
from tests.chaos import report
from tests.chaos.faults import Pace
from tests.chaos.run import Order, Told, disturbed, undisturbed
from tests.chaos.scene import Times
from tests.chaos.sweeps import Size

TIMES = Times()
PACE = Pace(pause=2.5, lease=TIMES.lease, broker_away=20.0, database_away=30.0, bells=10.0, patience=30.0)
WORKERS = 4
SIZE = Size(alone=10, packed=12, epochs=600)  # 100 jobs alone and 240 in packs
YARDS = {"servers": (True,), "embedded": (False,), "both": (True, False)}
SHOWN = 30  # complaints


def main() -> int:
    given = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order: nothing that was started is left behind
    where = result.machine()
    print(f"seed {given.seed}", flush=True)
    size = Size(alone=given.alone, packed=given.packed, epochs=given.epochs)
    code = 0
    with tempfile.TemporaryDirectory(prefix="chaos") as folder, _bar() as told:
        home = Path(folder)
        kept = Path(given.keep) if given.keep else home
        wanted = undisturbed(_made(home / "undisturbed"), size, TIMES, WORKERS, told)
        for servers in YARDS[given.yard]:
            order = Order(
                seed=given.seed,
                faults=given.faults,
                size=size,
                pace=PACE,
                times=TIMES,
                workers=WORKERS,
                servers=servers,
            )
            name = "servers" if servers else "embedded"
            verdict = disturbed(_made(kept / name), order, wanted, told)
            print("\n".join(report.lines(order, verdict)), flush=True)
            for complaint in verdict.complaints[:SHOWN]:
                print(f"job {complaint.job}: {complaint.text}" if complaint.job else complaint.text, file=sys.stderr)
            print("\n".join(verdict.stories), file=sys.stderr)
            if given.docs:
                command = f".venv/bin/python -m tests.chaos --yard {name} --seed {given.seed} --faults {given.faults}"
                report.keep(f"chaos.{name}", command, order, verdict, where)
            code |= bool(verdict.complaints)
    return code


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the hand")
    made.add_argument("--faults", type=int, default=220, help="in each yard")
    made.add_argument("--yard", choices=YARDS, default="both", help="PostgreSQL and Redis, SQLite without a broker")
    made.add_argument("--alone", type=int, default=SIZE.alone, help="tens of jobs that train alone")
    made.add_argument("--packed", type=int, default=SIZE.packed, help="twenties of jobs that train in packs")
    made.add_argument("--epochs", type=int, default=SIZE.epochs)
    made.add_argument("--keep", metavar="DIR", help="keep logs, store and the SQLite file in this new folder")
    made.add_argument("--docs", action="store_true", help="also put it into docs/reliability.md, and its .json")
    return made


@contextmanager
def _bar() -> Iterator[Told]:
    """A bar on stderr, where that is a terminal."""
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("")
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


if __name__ == "__main__":
    sys.exit(main())
