"""Two schedulers at work on one database at once: nothing is doubled, and when one goes the other does it all."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import update

from db import claiming, workers
from db.clock import now
from db.models import Job
from jobs.states import JobState
from scheduler.round import Round
from scheduler.service import Service
from tests.conftest import RedisServer
from tests.yards import Yard

JOBS, SLOTS = 120, 5


@pytest.fixture
def yard(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> Iterator[Yard]:
    yard = Yard(tmp_path, postgres_url, broker=redis_server.url, lease_seconds=1.0, heartbeat_seconds=0.2)
    yield yard
    yard.close()


class Watched(Service):
    """A scheduler whose rounds are kept."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.rounds: list[Round] = []

    def tick(self) -> Round:
        self.rounds.append(super().tick())
        return self.rounds[-1]


class Running:
    """A scheduler in a thread."""

    def __init__(self, yard: Yard, together: threading.Barrier) -> None:
        self.service = Watched(yard.database, yard.settings.model_copy(update={"tick_seconds": 0.001}))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(together,), daemon=True)
        self._thread.start()

    def _run(self, together: threading.Barrier) -> None:
        together.wait()
        self.service.run(self._stop)

    def rung(self) -> int:
        return sum(one.rung for one in self.service.rounds)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def running() -> Iterator[Callable[[Running], Running]]:
    """Schedulers that are stopped at the end, whatever becomes of the test."""
    started: list[Running] = []

    def keep(one: Running) -> Running:
        started.append(one)
        return one

    yield keep
    for one in started:
        one.stop()


def test_two_schedulers_rescue_retry_and_ring_each_once(
    yard: Yard, redis_server: RedisServer, running: Callable[[Running], Running], caplog: pytest.LogCaptureFixture
) -> None:
    # Given: lost jobs, jobs that are due, and a worker with idle slots that never answers a bell.
    sweep = yard.submit(seeds=JOBS, retries=5)
    with yard.database.writing() as session:
        workers.register(session, "idle", "cpu", SLOTS, {})
        for _ in range(JOBS // 2):
            assert claiming.claim(session, "cpu", "dead", 60.0)
        ready = (Job.sweep_id == sweep, Job.state == JobState.READY)
        session.execute(update(Job).where(*ready).values(state=JobState.WAITING, due_at=now(-1.0)))
        expired = update(Job).where(Job.sweep_id == sweep, Job.state == JobState.RUNNING)
        session.execute(expired.values(lease_expires_at=now(-1.0)))

    # When: both go round as fast as they can.
    together = threading.Barrier(2)
    both = [running(Running(yard, together)) for _ in range(2)]
    yard.wait_until("both went round", lambda: all(len(one.service.rounds) >= 20 for one in both))
    states = {job["state"] for job in yard.jobs(sweep)}

    # Then: each job was rescued or made due once, and one of them has rung, once a round for each slot.
    rounds = [one for each in both for one in each.service.rounds]
    assert (sum(one.rescued for one in rounds), sum(one.due for one in rounds)) == (JOBS // 2, JOBS // 2)
    assert states == {JobState.READY}
    attempts = [(job["failures"], [one.outcome for one in yard.attempts(job["id"])]) for job in yard.jobs(sweep)]
    assert sorted(attempts) == [(0, [])] * (JOBS // 2) + [(1, ["lost"])] * (JOBS // 2)
    (ringing,) = [one for one in both if one.rung()]
    (silent,) = [one for one in both if not one.rung()]
    with redis.Redis(port=redis_server.port) as client:
        ringing.stop()
        assert client.llen("gridyard:cpu") >= ringing.rung()
    assert ringing.rung() <= SLOTS * len(ringing.service.rounds)

    # And: when that one has gone, the other rings.
    yard.wait_until("the other rings", silent.rung)
    assert "no round" not in caplog.text
