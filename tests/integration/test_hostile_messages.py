"""A worker at a Redis to which anybody writes: nothing runs, the worker goes on, and its jobs are done."""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from jobs.states import JobState
from tests import hostile
from tests.conftest import RedisServer
from tests.yards import Yard
from workers import bell

NEVER = 3600.0  # seconds between two looks at the table: only the bell wakes such a worker
SHORT: dict[str, Any] = {"task": "sine", "grid": {"lr": [0.01]}, "fixed": {}, "epochs": 1}


@pytest.fixture
def yard(tmp_path: Path, redis_server: RedisServer) -> Iterator[Yard]:
    yard = Yard(tmp_path, f"sqlite:///{tmp_path}/gridyard.db", broker=redis_server.url)
    yield yard
    yard.close()


@pytest.fixture
def broker(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=redis_server.port) as client:
        yield client


def a_bell(yard: Yard, broker: redis.Redis) -> bytes:
    """As it lies in the queue of a yard without workers."""
    assert bell.ring(yard.settings, "cpu")
    content = broker.rpop(hostile.KEY)
    assert isinstance(content, bytes)
    return content


def is_done_by_bells(yard: Yard) -> bool:
    """Whether a job is done by a worker that never looks, so that it must have heard."""
    sweep, rung = yard.submit(**SHORT), 0.0

    def ring() -> bool:
        nonlocal rung
        if time.monotonic() - rung > 0.5:  # the one before may lie in a queue that was emptied
            rung = time.monotonic()
            bell.ring(yard.settings, "cpu")
        return all(job["state"] == JobState.SUCCEEDED for job in yard.jobs(sweep))

    return bool(yard.wait_until("a bell is heard", ring))


def trainers_of(worker: subprocess.Popen[bytes]) -> set[int]:
    return {child.pid for child in psutil.Process(worker.pid).children()}


def test_after_every_hostile_message_the_same_worker_hears_the_next_bell(
    yard: Yard, broker: redis.Redis, tmp_path: Path
) -> None:
    marker = tmp_path / "code-ran"
    worker_messages = list(hostile.messages(a_bell(yard, broker), marker))
    worker = yard.start_worker(slots=2, look_seconds=NEVER)
    assert is_done_by_bells(yard)
    trainers = trainers_of(worker)
    for name, content in worker_messages:
        broker.lpush(hostile.KEY, content)
        assert is_done_by_bells(yard), name
        assert worker.poll() is None, name
    assert trainers_of(worker) == trainers, "no training was disturbed"
    assert not marker.exists()
    assert psutil.Process(worker.pid).memory_info().rss < 500 << 20, "no bomb went off"
    log = yard.log.read_text()
    assert "Traceback" not in log
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", log), "no code reaches a terminal"


def test_a_queue_that_breaks_connection_after_connection_is_emptied_and_jobs_are_found_in_the_table(
    yard: Yard, broker: redis.Redis
) -> None:
    broken = dict(hostile.messages(a_bell(yard, broker), Path("never")))["no JSON"]
    broker.lpush(hostile.KEY, *[broken] * 50)
    worker = yard.start_worker(look_seconds=1.0)
    yard.wait_until("the queue is emptied", lambda: "was emptied" in yard.log.read_text())
    yard.wait_until("nothing is left", lambda: broker.llen(hostile.KEY) == 0)
    sweep = yard.submit(**SHORT)
    assert {job["state"] for job in yard.wait_for_end(sweep)} == {JobState.SUCCEEDED}
    assert is_done_by_bells(yard)
    broker.delete(hostile.KEY)
    broker.sadd(hostile.KEY, "no list")  # the ACL cannot forbid it
    assert is_done_by_bells(yard)
    assert worker.poll() is None


def test_what_trains_goes_on_while_messages_break_the_connection(yard: Yard, broker: redis.Redis) -> None:
    undisturbed, sweep = yard.submit(epochs=300), yard.submit(epochs=300)
    yard.start_worker()
    yard.wait_for_end(undisturbed)
    job = yard.wait_for_epoch(sweep, 20)
    broker.lpush(hostile.KEY, *[b"no json"] * 10)
    yard.wait_until("it is noticed", lambda: "was emptied" in yard.log.read_text())
    yard.wait_for_end(sweep)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["succeeded"]
    assert yard.outcome(sweep) == yard.outcome(undisturbed)
