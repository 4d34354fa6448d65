"""Workers on Redis: the bell wakes them, and nothing depends on it."""

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.entity import Queue

from jobs.states import JobState
from tests.conftest import RedisServer
from tests.yards import Yard
from workers import bell, celery_app

NEVER = 3600.0  # seconds between two looks at the table: only the bell wakes such a worker
SHORT: dict[str, Any] = {"epochs": 2, "fixed": {}}


@pytest.fixture
def yard(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> Iterator[Yard]:
    """The team's setting: PostgreSQL and Redis."""
    yard = Yard(tmp_path, postgres_url, broker=redis_server.url)
    yield yard
    yard.close()


def all_succeed(yard: Yard, sweep: int) -> bool:
    return {job["state"] for job in yard.wait_for_end(sweep)} == {JobState.SUCCEEDED}


def test_the_bell_wakes_a_worker_that_never_looks(yard: Yard) -> None:
    yard.start_worker(look_seconds=NEVER)
    sweep = yard.submit(**SHORT)
    assert bell.ring(yard.settings, "cpu")
    assert all_succeed(yard, sweep)


def test_the_scheduler_rings_for_idle_slots_so_a_lost_bell_costs_only_time(yard: Yard) -> None:
    yard.start_worker(look_seconds=NEVER)
    sweep = yard.submit(**SHORT)  # nobody rings
    with yard.scheduler():
        assert all_succeed(yard, sweep)


def test_a_worker_goes_on_after_its_broker_was_killed_and_came_back_empty(
    yard: Yard, redis_server: RedisServer
) -> None:
    yard.start_worker(look_seconds=NEVER)
    first = yard.submit(**SHORT)
    with yard.scheduler():
        assert all_succeed(yard, first)
        redis_server.kill()
        second = yard.submit(**SHORT)
        redis_server.start()
        assert all_succeed(yard, second)


def test_without_a_broker_that_answers_workers_look_by_themselves_and_stop_in_order(
    yard: Yard, redis_server: RedisServer
) -> None:
    redis_server.kill()
    sweep = yard.submit(**SHORT, seeds=3)
    assert bell.ring(yard.settings, "cpu") is False  # refused, and no error
    worker = yard.start_worker(look_seconds=0.2)
    with yard.scheduler():
        assert all_succeed(yard, sweep)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    said = yard.log.read_text()
    assert said.count("no bell is heard") == 1
    assert not [word for word in ("Cannot connect", "Trying again", "SecurityWarning") if word in said]


def test_bells_that_are_doubled_do_no_harm_and_none_is_left_over(yard: Yard, redis_server: RedisServer) -> None:
    yard.start_worker(slots=2, look_seconds=NEVER)
    sweep = yard.submit(**SHORT, seeds=6)
    assert bell.ring(yard.settings, "cpu", count=20)
    assert all_succeed(yard, sweep)
    with redis.Redis(port=redis_server.port) as client:
        yard.wait_until("the queue is empty", lambda: client.llen("gridyard:cpu") == 0)
    for job in yard.jobs(sweep):
        assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["succeeded"]


def test_bells_that_are_forged_or_come_late_start_nothing_that_is_not_in_the_table(
    yard: Yard, redis_server: RedisServer
) -> None:
    worker = yard.start_worker(slots=2, look_seconds=NEVER)
    sender = celery_app.make(yard.settings)
    forged: list[dict[str, Any]] = [
        {"args": ["gpu"]},
        {"args": [{"job": 1, "attempt": 7, "state": "succeeded"}, None], "kwargs": {"queue": "../../etc"}},
        {"args": ["cpu"], "kwargs": {"worker": "somebody", "database": "sqlite:////etc/passwd"}},
    ]
    for message in forged:  # nothing is ready yet: they come too early as well
        sender.send_task(celery_app.WAKE, queue=Queue("cpu"), retry=False, **message)
    with redis.Redis(port=redis_server.port) as client:
        yard.wait_until("they were heard", lambda: client.llen("gridyard:cpu") == 0)
    sweep = yard.submit(**SHORT, seeds=4)
    for message in forged:
        sender.send_task(celery_app.WAKE, queue=Queue("cpu"), retry=False, **message)
    assert all_succeed(yard, sweep)
    assert [[attempt.outcome for attempt in yard.attempts(job["id"])] for job in yard.jobs(sweep)] == [
        ["succeeded"]
    ] * 4
    assert bell.ring(yard.settings, "cpu", count=5)  # late: all is done
    again = yard.submit(**SHORT)
    assert bell.ring(yard.settings, "cpu")
    assert all_succeed(yard, again)
    assert worker.poll() is None


def test_a_bell_too_old_to_mean_anything_is_not_rung(yard: Yard, redis_server: RedisServer) -> None:
    """Else a broker that was stopped for a day would ring for a day's work."""
    assert bell.ring(yard.settings, "cpu")
    with redis.Redis(port=redis_server.port) as client:
        (message,) = client.lrange("gridyard:cpu", 0, -1)
    expires = datetime.fromisoformat(json.loads(message)["headers"]["expires"])
    assert 0 < (expires - datetime.now(UTC)).total_seconds() <= bell.EXPIRES_SECONDS


def test_that_the_broker_is_away_is_said_once_and_once_that_it_is_back(
    yard: Yard, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert bell.ring(yard.settings, "cpu")
    redis_server.kill()
    assert not any(bell.ring(yard.settings, "cpu") for _ in range(3))
    redis_server.start()
    with caplog.at_level("INFO"):
        yard.wait_until("it rings", lambda: bell.ring(yard.settings, "cpu"))
    assert caplog.text.count("the bell was not rung") == 1
    assert caplog.text.count("the broker is back") == 1


def test_without_a_scheduler_ready_work_goes_on_and_a_new_one_picks_up_the_rest(yard: Yard) -> None:
    sweep = yard.submit(epochs=1500)
    dying = yard.start_worker(look_seconds=0.2)
    lost = yard.wait_for_epoch(sweep, 1)
    dying.kill()
    ready = yard.submit(**SHORT, seeds=3)
    yard.start_worker(look_seconds=0.2)
    assert all_succeed(yard, ready)
    assert yard.jobs(sweep)[0]["state"] == JobState.RUNNING  # as far as anybody knows
    with yard.scheduler():
        assert all_succeed(yard, sweep)
    assert [attempt.outcome for attempt in yard.attempts(lost["id"])] == ["lost", "succeeded"]
