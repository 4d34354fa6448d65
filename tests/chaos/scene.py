"""A yard to be disturbed: its database, broker and store, and a crew of workers and a scheduler."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError

from tests.chaos.audit import Records
from tests.chaos.crew import Crew, environment
from tests.chaos.hand import SCHEDULER, WORKER
from tests.chaos.servers import Broker, Postgres
from tests.chaos.sweeps import gridyard_command, submit

STUCK_SECONDS = 420.0  # longer than the longest wait between two tries of a job


@dataclass(frozen=True, kw_only=True)
class Times:
    """Settings of the yard, in seconds."""

    lease: float = 4.0
    heartbeat: float = 0.5
    tick: float = 0.5
    checkpoint: float = 0.3
    grace: float = 10.0


class Stuck(AssertionError):
    """Nothing happens any more, and not all is done."""


class Scene:
    """SQLite without a broker, or PostgreSQL and Redis."""

    def __init__(self, home: Path, times: Times, *, workers: int, servers: bool) -> None:
        self.home, self.times = home, times
        self.broker = Broker() if servers else None
        self.postgres = Postgres() if servers else None
        self.url = self.postgres.url if self.postgres else f"sqlite:///{home}/gridyard.db"
        self.store = home / "store"
        self.settings: dict[str, Any] = {
            "home": home,
            "db": self.url,
            "broker": self.broker.url if self.broker else "",
            "store": self.store,
            "cache": home / "cache",
            "lease_seconds": times.lease,
            "most_lost": 1000,  # no job is set aside for being hit often
            "heartbeat_seconds": times.heartbeat,
            "tick_seconds": times.tick,
            "checkpoint_seconds": times.checkpoint,
            "grace_seconds": times.grace,
        }
        self.environment = environment(**self.settings)
        self.logs = home / "logs"
        self.sweeps: list[int] = []
        told = gridyard_command("db", "upgrade", environment=self.environment)
        assert told.returncode == 0, told.stderr
        self.records = Records(self.url)
        self.records.watch()
        self.crew = Crew(self.logs, self.environment)
        for number in range(1, workers + 1):
            # Half of them keep every model in the store, the others the small ones in the database.
            small = {"small_model_bytes": 0} if number % 2 else {}
            self.crew.add(f"{WORKER}{number}", "worker", "--slots", "1", **small)
        self.crew.add(SCHEDULER, "scheduler")

    def submit(self, spec: dict[str, Any]) -> bool:
        """A sweep more; whether the database took it."""
        return submit(spec, self.home, self.environment) is not None

    def left(self) -> int | None:
        """Jobs that are not final; None while the database is away."""
        query = "SELECT count(*) AS left_over FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled')"
        try:
            return int(self.records.rows(query)[0]["left_over"])
        except OperationalError:
            return None

    def at_work(self) -> set[int] | None:
        """Processes of workers whose jobs have told an epoch; None while the database is away."""
        query = "SELECT DISTINCT worker FROM jobs WHERE state = 'running' AND epoch > 0"
        try:
            return {int(row["worker"].split(":")[-2]) for row in self.records.rows(query)}
        except OperationalError:
            return None

    def wait_for_end(self, told: Callable[[int, int], None]) -> None:
        """Return when every job is final and every sweep finished.

        Args:
            told: is told how many jobs are left, and of how many.

        Raises:
            Stuck: nothing has happened for STUCK_SECONDS.
        """
        seen, since = None, time.monotonic()
        total = self.records.rows("SELECT count(*) AS number FROM jobs")[0]["number"]
        while True:
            left = self.left()
            if left is not None:
                told(left, total)
            if left == 0 and not self.records.rows("SELECT id FROM sweeps WHERE state <> 'finished'"):
                return
            newest = self.records.rows("SELECT max(id) AS id FROM chaos_jobs")[0]["id"]
            if newest != seen:
                seen, since = newest, time.monotonic()
            if time.monotonic() - since > STUCK_SECONDS:
                raise Stuck(f"{left} jobs are left, and nothing has happened for {STUCK_SECONDS:g} s")
            time.sleep(0.3)

    def log_files(self) -> list[Path]:
        return sorted(self.logs.glob("*.log"))

    def close(self) -> None:
        self.records.close()
        if self.postgres is not None:
            self.postgres.close()
        if self.broker is not None:
            self.broker.close()
