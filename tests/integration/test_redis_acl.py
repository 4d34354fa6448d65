"""Redis with the users of deploy/redis: bells ring and work is done, and nothing else is allowed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from jobs.states import JobState
from tests.conftest import RedisServer
from tests.yards import Yard
from workers import bell

USERS = Path(__file__).parents[2] / "deploy/redis/users.acl.template"
PASSWORD = "p@ss/w:rd%"  # what a URL must quote
QUOTED = "p%40ss%2Fw%3Ard%25"
NEVER = 3600.0
SHORT: dict[str, Any] = {"task": "sine", "grid": {"lr": [0.01]}, "fixed": {}, "epochs": 1}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    users = USERS.read_text().replace("@HASH@", hashlib.sha256(PASSWORD.encode()).hexdigest())
    (tmp_path / "users.acl").write_text(users + "user admin on >admin ~* &* +@all\n")
    options = ("--aclfile", str(tmp_path / "users.acl"), "--proto-max-bulk-len", "1mb")
    server = RedisServer(*options, user="admin", password="admin")
    yield server
    server.kill()


@pytest.fixture
def yard(tmp_path: Path, server: RedisServer) -> Iterator[Yard]:
    yard = Yard(
        tmp_path, f"sqlite:///{tmp_path}/yard.db", broker=f"redis://gridyard:{QUOTED}@127.0.0.1:{server.port}/0"
    )
    yield yard
    yard.close()


def refused(server: RedisServer) -> list[str]:
    """What the server has refused since it was last asked."""
    with redis.Redis(port=server.port, username="admin", password="admin") as admin:
        log = admin.acl_log()
        admin.acl_log_reset()
    return [str(entry["object"]) for entry in log if entry["username"] == "gridyard"]


def test_bells_ring_and_a_poisoned_queue_is_emptied_under_the_acl(yard: Yard, server: RedisServer) -> None:
    worker = yard.start_worker(look_seconds=NEVER)
    sweep = yard.submit(**SHORT)
    assert bell.ring(yard.settings, "cpu")
    assert {job["state"] for job in yard.wait_for_end(sweep)} == {JobState.SUCCEEDED}
    with redis.Redis(port=server.port, username="gridyard", password=PASSWORD) as client:
        client.lpush("gridyard:cpu", *["no json"] * 20)
        yard.wait_until("the queue is emptied", lambda: "was emptied" in yard.log.read_text())
        yard.wait_until("nothing is left", lambda: client.llen("gridyard:cpu") == 0)
    second = yard.submit(**SHORT)
    with yard.scheduler():  # which rings
        assert {job["state"] for job in yard.wait_for_end(second)} == {JobState.SUCCEEDED}
    assert set(refused(server)) <= {"client", "client|setinfo"}, "redis-py tells its name where it may"
    assert worker.poll() is None
    trainer = yard.trainer_of(worker)
    for secret in (PASSWORD, QUOTED):
        assert secret not in yard.log.read_text()
        assert not [one for one in psutil.Process(worker.pid).cmdline() + trainer.cmdline() if secret in one]
        assert secret not in str(trainer.environ()), "a trainer needs no way to the broker"


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET *",
        "CONFIG SET dir /tmp",
        "KEYS *",
        "SCAN 0",
        "SUBSCRIBE x",
        "PSUBSCRIBE *",
        "PUBLISH x y",
        "EVAL return(1) 0",
        "EVALSHA abc 0",
        "SCRIPT LOAD return(1)",
        "FUNCTION LIST",
        "MODULE LIST",
        "DEBUG SLEEP 0",
        "SHUTDOWN",
        "SAVE",
        "MONITOR",
        "INFO",
        "CLIENT LIST",
        "CLIENT KILL ID 1",
        "CLIENT PAUSE 1",
        "ACL LIST",
        "SLAVEOF no one",
        "MIGRATE h 1 k 0 1",
        "RESTORE gridyard:x 0 x",
        "GET gridyard:x",
        "SET gridyard:x y",
        "LPUSH other:cpu x",
        "DEL other:cpu",
        "BRPOP other:cpu 1",
        "SMEMBERS other:_kombu.binding.cpu",
    ],
)
def test_nothing_else_is_allowed(command: str, server: RedisServer) -> None:
    with (
        redis.Redis(port=server.port, username="gridyard", password=PASSWORD) as client,
        pytest.raises(redis.ResponseError, match=r"(?i)permission|unknown command"),
    ):
        client.execute_command(*command.split())


def test_without_the_password_nobody_comes_in_and_the_bell_says_so_without_it(
    yard: Yard, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis(port=server.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    wrong = yard.settings.model_copy(update={"broker": yard.settings.broker.replace(QUOTED, "wr0ng-one")})
    assert bell.ring(wrong, "cpu") is False
    assert "wr0ng-one" not in caplog.text


def test_a_value_larger_than_any_bell_is_refused(server: RedisServer) -> None:
    with (
        redis.Redis(port=server.port, username="gridyard", password=PASSWORD) as client,
        pytest.raises(redis.RedisError),
    ):
        client.lpush("gridyard:cpu", b"x" * (2 << 20))
