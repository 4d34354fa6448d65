"""The memory of a worker and of its trainer over many tiny jobs: it must stay flat.

    .venv/bin/python benchmarks/memory.py [--jobs 2000] [--pack 1]

Prints their resident memory (RSS, MiB) each time a hundred more jobs are done, and its growth over the second half.
--pack 1 trains each job alone: what a job leaves behind shows then; 0 leaves the size of packs to the trainer.
"""

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from sqlalchemy import func, select

from db import migrate
from db.models import Job
from db.session import Database
from jobs.settings import Settings
from jobs.states import FINAL
from scheduler import sweep_file
from scheduler.submit import submit

EVERY = 100  # jobs
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--pack", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        settings = Settings(home=Path(home))
        database = Database(settings.db_url)
        migrate.prepare(database)
        submit_tiny(database, given.jobs, given.pack)
        seen = watch(database, settings, given.jobs)
        database.close()
    half = [memory for done, *memory in seen if done >= given.jobs // 2]
    for name, before, after in zip(("worker", "trainer"), half[0], half[-1], strict=True):
        print(f"{name}: {after - before:+.1f} MiB over the second half of {given.jobs} jobs")


def submit_tiny(database: Database, jobs: int, pack: int) -> None:
    """So many jobs of two epochs each."""
    grid = {"lr": [0.01], "weight_decay": [0.0]}
    spec = sweep_file.parse({"task": "iris", "grid": grid, "seeds": jobs, "epochs": 2}, source="memory.py")
    submit(database, dataclasses.replace(spec, pack=pack))


def watch(database: Database, settings: Settings, jobs: int) -> list[tuple[int, float, float]]:
    """(jobs done, worker's MiB, trainer's MiB), while a worker with one slot trains them."""
    environment = os.environ | {"GRIDYARD_HOME": str(settings.home)}
    command = [sys.executable, "-P", "-m", "gridyard", "worker", "--slots", "1"]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: list[tuple[int, float, float]] = []
    print("jobs   worker MiB   trainer MiB")
    while not seen or seen[-1][0] < jobs:
        time.sleep(0.05)
        done = count_done(database)
        if done >= (seen[-1][0] + EVERY if seen else 1) or done == jobs:
            process = psutil.Process(worker.pid)
            (trainer,) = process.children()
            seen.append((done, process.memory_info().rss / MIB, trainer.memory_info().rss / MIB))
            print(f"{done:5d}   {seen[-1][1]:10.1f}   {seen[-1][2]:11.1f}", flush=True)
    worker.terminate()
    worker.wait()
    return seen


def count_done(database: Database) -> int:
    with database.reading() as session:
        return session.scalars(select(func.count()).where(Job.state.in_(FINAL))).one()


if __name__ == "__main__":
    main()
