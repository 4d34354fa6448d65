"""Whatever lies in the broker's queue, a worker's ear makes a bell of it, or nothing, or Garbled. Nothing else runs."""

import json
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.worker import state
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.transport.virtual import Message

from jobs.settings import Settings
from tests import hostile
from workers import celery_app
from workers.ear import Ear

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["gridyard.wake", "celery.starmap", "os:system", "../../x", "application/json", "base64", "gzip"]),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
HEADERS = (
    *("task", "id", "lang", "eta", "expires", "retries", "timelimit", "group", "shadow", "root_id", "parent_id"),
    *("argsrepr", "kwargsrepr", "origin", "ignore_result", "compression", "stamps", "stamped_headers", "redelivered"),
)
PROPERTIES = (
    "body_encoding",
    "delivery_tag",
    "delivery_info",
    "correlation_id",
    "reply_to",
    "priority",
    "delivery_mode",
)
PARTS = ("body", "content-type", "content-encoding", "headers", "properties")


class Slots:
    """Counts how often it is put to work."""

    def __init__(self) -> None:
        self.worked = 0

    def work(self) -> None:
        self.worked += 1


class Listener:
    """An ear with Celery's own machinery behind it, but without a broker."""

    def __init__(self, home: Path) -> None:
        self.slots = Slots()
        app = celery_app.make(Settings(home=home), "cpu")

        @app.task(name=celery_app.WAKE, ignore_result=True)  # type: ignore[untyped-decorator]
        def wake(*_: object, **__: object) -> None:
            self.slots.work()

        with warnings.catch_warnings(action="ignore"):  # that it runs as root, in a container
            worker = app.Worker(pool="solo", concurrency=1, queues=["cpu"], without_gossip=True, without_mingle=True)
        ear = worker.consumer
        assert isinstance(ear, Ear)
        self.ear = ear
        ear.event_dispatcher = None
        ear.update_strategies()
        self._hear, self._queues = ear.create_task_handler(), [worker]
        self.channel = app.connection_for_read().channel()

    def hear(self, content: bytes) -> None:
        """As kombu does it: whatever it raises is Garbled, and costs a connection."""
        try:
            message = Message(json.loads(content), channel=self.channel)
            self.channel.qos.append(message, message.delivery_tag)
        except Exception:
            return
        self._hear(message)
        assert message.acknowledged
        assert not state.reserved_requests - state.active_requests, "no slot of the consumer stays taken"


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    listener = Listener(tmp_path_factory.mktemp("ear"))
    yield listener
    listener.channel.close()


def a_bell() -> hostile.Message:
    tag = str(uuid.uuid4())
    return {
        "body": hostile.encoded([["cpu"], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": celery_app.WAKE, "id": tag, "lang": "py", "timelimit": [None, None], "retries": 0},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": tag,
            "delivery_info": {"exchange": "", "routing_key": "cpu"},
        },
    }


def test_a_broker_that_is_away_is_told_once_and_once_that_it_is_back(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    class Connection:
        def as_uri(self) -> str:
            return "redis://queue.example"

        def ensure_connection(self, met: Any, *_: object, **__: object) -> None:
            for interval in (2.0, 4.0, 6.0):
                met(ConnectionError("Connection refused."), interval)

    with caplog.at_level("INFO"):
        connection = Connection()
        assert listener.ear.ensure_connected(connection) is connection
        listener.ear.on_connection_error_before_connected(ConnectionError("once more"))
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told[0][1].endswith("jobs are found in the table: redis://queue.example: Connection refused.")
    assert [level for level, _ in told] == ["WARNING", "INFO", "WARNING"]


def test_a_bell_is_heard(listener: Listener) -> None:
    before = listener.slots.worked
    listener.hear(json.dumps(a_bell()).encode())
    assert listener.slots.worked == before + 1


def test_hostile_messages_that_kombu_can_read_are_bells_or_nothing(listener: Listener, tmp_path: Path) -> None:
    marker = tmp_path / "code-ran"
    for _, content in hostile.messages(json.dumps(a_bell()).encode(), marker):
        listener.hear(content)
    assert not marker.exists()


@settings(deadline=None, max_examples=500)
@given(
    st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=5),
    st.dictionaries(st.sampled_from(PROPERTIES), VALUES, max_size=2),
    st.dictionaries(st.sampled_from(PARTS), VALUES, max_size=1),
    VALUES,
)
def test_whatever_a_message_says_it_is_a_bell_or_nothing(
    listener: Listener, headers: Any, properties: Any, parts: Any, body: Any
) -> None:
    message = a_bell() | {"body": hostile.encoded(body)}
    message["headers"] |= headers
    message["properties"] |= properties
    before = listener.slots.worked
    listener.hear(json.dumps(message | parts).encode("utf-8", "surrogatepass"))
    assert listener.slots.worked - before <= 1


@settings(deadline=None, max_examples=200)
@given(VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")) | st.binary(max_size=60))
def test_what_is_no_message_wakes_nobody(listener: Listener, content: bytes) -> None:
    before = listener.slots.worked
    listener.hear(content)
    assert listener.slots.worked == before
