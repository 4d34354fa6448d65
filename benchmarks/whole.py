"""The whole system at work, for benchmarks of it: a worker and a scheduler as processes of their own."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import func, select

import gridyard
from benchmarks.result import CHECKOUT
from db.models import Job
from gridyard import bars
from gridyard.client import Yard
from gridyard.sweep import Sweep
from jobs.settings import PREFIX
from jobs.states import FINAL
from tests.conftest import RedisServer, running_postgres

IDLE_SECONDS = 1.0  # a trainer that has used no CPU for so long has loaded what it trains with
LOOK_SECONDS = 0.1  # between two looks at where a sweep stands
KEPT = ("GRIDYARD_DATA", "GRIDYARD_CACHE")  # settings of the environment that a benchmark's yard takes over


@contextmanager
def yard(slots: int = 2, **settings: str) -> Iterator[Yard]:
    """A new yard in a folder of its own, its trainers loaded; `settings` as in GRIDYARD_…, such as tasks="module".

    SQLite without a broker, unless `db` or `broker` are given.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridyard-", ignore_cleanup_errors=True)))
        chosen = {"home": str(home), "db": f"sqlite:///{home}/gridyard.db", "store": str(home / "store"), **settings}
        stack.enter_context(environment(chosen))
        made = gridyard.connect()
        stack.callback(made.database.close)
        for command in (["scheduler"], ["worker", "--slots", str(slots)]):
            process = stack.enter_context(running(command, home / "log"))
        wait_for_trainers(process, slots)
        yield made


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Within, these are Gridyard's only settings, but for the places of data sets; here and in processes begun here."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(PREFIX) and name not in KEPT:
            del os.environ[name]
    os.environ.update({f"{PREFIX}{name.upper()}": value for name, value in settings.items()})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`gridyard COMMAND` in the background; stopped in order at the end."""
    words = [sys.executable, "-m", "gridyard", *command]
    with log.open("ab") as file:
        process = subprocess.Popen(words, cwd=CHECKOUT, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for_trainers(worker: "subprocess.Popen[bytes]", slots: int) -> None:
    """Until each slot has a trainer, and none of them loads anything any more."""
    quiet_since, before = time.monotonic(), -1.0
    while time.monotonic() - quiet_since < IDLE_SECONDS:
        if worker.poll() is not None:
            raise RuntimeError(f"the worker ended with exit code {worker.returncode} before its trainers were ready")
        trainers = psutil.Process(worker.pid).children()
        used = sum(sum(trainer.cpu_times()[:2]) for trainer in trainers)
        if len(trainers) < slots or used != before:
            quiet_since, before = time.monotonic(), used
        time.sleep(0.05)


def follow(sweep: Sweep, what: str) -> datetime:
    """Wait until every job is final; when the last one was recorded, by the database's clock.

    Raises:
        RuntimeError: not every job succeeded.
    """
    total = sweep.status().total
    with bars.steps(what, total) as advance:
        ended = 0
        while ended < total:
            time.sleep(LOOK_SECONDS)
            counts = sweep.status().jobs
            now = sum(counts.get(state, 0) for state in FINAL)
            for _ in range(now - ended):
                advance("")
            ended = now
    if sweep.status().jobs["succeeded"] != total:
        raise RuntimeError(f"{what}: not every job succeeded: {sweep.failed(1)}")
    with sweep.yard.database.reading() as session:
        last = session.scalar(select(func.max(Job.finished_at)).where(Job.sweep_id == sweep.id))
    assert last is not None  # every job has ended
    return last


def timed(yard: Yard, what: str, **keys: Any) -> float:
    """Seconds from the call of `submit` to the last job recorded."""
    started = datetime.now(UTC)
    return (follow(yard.submit(**keys), what) - started).total_seconds()


@contextmanager
def team() -> Iterator[dict[str, str]]:
    """Settings of a yard on real PostgreSQL and Redis servers of this machine."""
    redis = RedisServer()
    try:
        with running_postgres() as postgres:
            yield {"db": postgres.get_uri(), "broker": redis.url}
    finally:
        redis.kill()
