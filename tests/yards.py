"""A yard of real processes, to kill them at bad moments."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select

from db import history, migrate
from db.models import Attempt, Job, Model
from db.session import Database
from jobs.settings import Settings
from jobs.spec import SweepSpec
from jobs.states import FINAL
from scheduler import sweep_file
from scheduler.service import Service
from scheduler.submit import submit

WAIT_SECONDS = 120.0  # for any event; a machine that is busy with other work may need it
LEASE_SECONDS = 4.0

# Many epochs of some milliseconds: long enough to be killed in the middle, whatever the machine.
LONG_JOB: dict[str, Any] = {
    "task": "iris",
    "grid": {"lr": [0.003]},
    "fixed": {"dropout": 0.3, "batch_norm": True, "scheduler": {"name": "cosine"}, "warmup_epochs": 5},
    "seeds": [7],
    "epochs": 800,
    "objective": {"metric": "val_loss", "mode": "min"},
}


class Yard:
    """A database, a store, and the processes that work on them."""

    def __init__(self, home: Path, db_url: str, broker: str = "", **settings: Any) -> None:
        quick = {"lease_seconds": LEASE_SECONDS, "heartbeat_seconds": 0.5, "tick_seconds": 0.2}
        # Checkpoints that come often, but not each epoch: a resumed job repeats some epochs.
        values = {"home": home, "db": db_url, "broker": broker, "checkpoint_seconds": 0.3, **quick, **settings}
        self.settings = Settings(**values)
        self.database = Database(db_url)
        migrate.prepare(self.database)
        self.environment = os.environ | {f"GRIDYARD_{name.upper()}": str(value) for name, value in values.items()}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.log = home / "workers.log"

    def submit(self, **changes: Any) -> int:
        """A sweep of one long job, or of what is changed; its id."""
        spec: SweepSpec = sweep_file.parse({**LONG_JOB, **changes}, source="a test")
        return submit(self.database, spec).sweep

    def start_worker(
        self, slots: int = 1, environment: Mapping[str, str] | None = None, **settings: Any
    ) -> subprocess.Popen[bytes]:
        """A `gridyard worker` process.

        Args:
            environment: variables besides those of the settings.
        """
        given = {f"GRIDYARD_{name.upper()}": str(value) for name, value in settings.items()}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gridyard", "worker", "--slots", str(slots)],
                env={**self.environment, **given, **(environment or {})},
                cwd=self.settings.home,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    @contextmanager
    def scheduler(self) -> Iterator[None]:
        """The scheduler's loop, while the block lasts."""
        stop = threading.Event()
        thread = threading.Thread(target=Service(self.database, self.settings).run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def wait_until(self, what: str, holds: Callable[[], Any]) -> Any:
        """The first true value of a condition."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (value := holds()):
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.log.read_text()[-4000:]}"
            time.sleep(0.02)
        return value

    def wait_for_epoch(self, sweep: int, epoch: int) -> dict[str, Any]:
        """The first job of the sweep once it has reported this epoch."""
        return self.wait_until(
            f"epoch {epoch}", lambda: next((job for job in self.jobs(sweep) if job["epoch"] >= epoch), None)
        )

    def wait_for_end(self, sweep: int) -> list[dict[str, Any]]:
        """All jobs of the sweep, final."""
        self.wait_until("all jobs are final", lambda: all(job["state"] in FINAL for job in self.jobs(sweep)))
        return self.jobs(sweep)

    def jobs(self, sweep: int) -> list[dict[str, Any]]:
        with self.database.reading() as session:
            rows = session.scalars(select(Job).where(Job.sweep_id == sweep).order_by(Job.id))
            return [{column.name: getattr(row, column.name) for column in Job.__table__.columns} for row in rows]

    def attempts(self, job: int) -> list[Attempt]:
        with self.database.reading() as session:
            return list(session.scalars(select(Attempt).where(Attempt.job_id == job).order_by(Attempt.attempt)))

    def outcome(self, sweep: int) -> list[Any]:
        """All that a sweep's jobs came to, to the last digit: nothing in it depends on time or place."""
        found = []
        with self.database.reading() as session:
            for job in self.jobs(sweep):
                epochs = history.epochs(session, job["id"])
                numbers = [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in epochs]
                content = session.scalars(select(Model.content).where(Model.job_id == job["id"])).one_or_none()
                kept = ("cell", "seed", "params", "state", "score", "metrics", "best_epoch", "epochs")
                found.append(({name: job[name] for name in kept}, numbers, content))
        return found

    def trainer_of(self, worker: subprocess.Popen[bytes]) -> psutil.Process:
        """The trainer process of a worker with one slot."""
        (trainer,) = self.wait_until("there is a trainer", psutil.Process(worker.pid).children)
        return trainer

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.database.close()
