"""A machine of workers without workers: what they share, and what its disk brings to the database."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from db import claiming, upkeep
from db.clock import now
from db.models import Attempt, Job
from db.session import Database
from jobs.settings import Settings
from jobs.spec import BestModel, Claim, TrainResult
from jobs.store import Store
from workers.delivery import Delivery
from workers.holdings import Holdings
from workers.spool import Spool
from workers.watch import Watch


class Machine:
    """What the workers of one machine share: a spool and a store."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database, self.settings = database, Settings(home=home)
        self.spool, self.store = Spool(self.settings.spool_folder), Store(self.settings.store_url)
        self.holdings = Holdings()
        self.delivery = Delivery(database, self.settings, self.holdings)

    def claim(self, worker: str = "w1") -> Claim:
        with self.database.writing() as session:
            (claimed,) = claiming.claim(session, "cpu", worker, 60.0)
        return claimed

    def ended(self, result: Callable[..., TrainResult], *score: float) -> Claim:
        """Claim a job, and leave its result on disk."""
        claimed = self.claim()
        self.spool.put(Watch(claimed, outcome=result(claimed.job, *score)))
        return claimed

    def rescue(self, job: int, **how: Any) -> None:
        """The worker of this job is taken for dead."""
        with self.database.writing() as session:
            session.execute(update(Job).where(Job.id == job).values(lease_expires_at=now(-1.0)))
            assert upkeep.rescue(session, **how) == 1

    def large(self, result: TrainResult, attempt: int) -> TrainResult:
        """The same with a best model in the store."""
        path = f"{result.job}/{attempt}/best.safetensors"
        self.store.write(path, b"large")
        self.store.write(f"{result.job}/{attempt}/last.safetensors", b"last")
        return replace(result, best=BestModel(sha256="ab", size=5, path=path))

    def attempts(self, job: int) -> list[tuple[str | None, str | None]]:
        with self.database.reading() as session:
            query = select(Attempt.outcome, Attempt.error).where(Attempt.job_id == job).order_by(Attempt.attempt)
            return [(row.outcome, row.error) for row in session.execute(query)]
