"""Messages that nobody should get: those of queue.md 6.1, and more of their kind."""

import base64
import copy
import gzip
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Message = dict[str, Any]
KEY = "gridyard:cpu"  # the queue, a list of Redis


class Marker:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "code of a message ran")


def encoded(value: Any) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


def changed(bell: bytes, change: Callable[[Message], Any]) -> bytes:
    message = copy.deepcopy(json.loads(bell))
    change(message)
    return json.dumps(message).encode()


def messages(bell: bytes, marker: Path) -> Iterator[tuple[str, bytes]]:
    """A name and the bytes of each.

    Args:
        bell: as kombu wrote it.
        marker: a file that is there if code of a message ran.
    """
    yield "no JSON", b"\x00\xffno json"
    yield "nested too deep", b"[" * 100_000 + b"]" * 100_000
    for name, text in (
        ("null", "null"),
        ("number", "7"),
        ("list", "[]"),
        ("text", '"bell"'),
        ("huge number", "9" * 5000),
    ):
        yield name, text.encode()
    yield "empty object", b"{}"
    for name, change in _changes(marker):
        yield name, changed(bell, change)


def _changes(marker: Path) -> Iterator[tuple[str, Callable[[Message], Any]]]:
    def header(**values: Any) -> Callable[[Message], Any]:
        return lambda message: message["headers"].update(values)

    def body(value: Any, **values: Any) -> Callable[[Message], Any]:
        return lambda message: message.update(body=encoded(value), **values)

    def prop(**values: Any) -> Callable[[Message], Any]:
        return lambda message: message["properties"].update(values)

    def packed(content: bytes) -> Callable[[Message], Any]:
        def change(message: Message) -> None:
            message["body"] = encoded(gzip.compress(content))
            message["headers"]["compression"] = "application/x-gzip"

        return change

    wake, signature = "gridyard.wake", {"task": "os:system", "args": [f"touch {marker}"], "kwargs": {}, "options": {}}
    yield "no properties", lambda message: message.pop("properties")
    yield "no delivery tag", lambda message: message["properties"].pop("delivery_tag")
    yield "no headers", lambda message: message.pop("headers")
    yield "bad base64", lambda message: message.update(body="A")
    yield "unknown encoding of the body", prop(body_encoding="rot13")
    yield "body is no list of three", body("x")
    yield "body of null", body(None)
    yield "arguments are no list", body(["x" * 9, 7, None])
    yield "arguments are objects", body([{"queue": "gpu"}, [], {}])
    yield "callbacks", body([["cpu"], {}, {"callbacks": [signature], "errbacks": [signature], "chain": [signature]}])
    yield "chord", body([["cpu"], {}, {"chord": signature}])
    yield "huge arguments", body([["cpu" * 700_000], {"../../etc/passwd": [[]] * 10_000}, {}])
    yield "deep arguments", lambda message: message.update(body=encoded(b"[" * 50_000))
    yield "time limit is a word", header(timelimit="abc")
    yield "time limits are objects", header(timelimit=[{}, {}])
    yield "eta is a word", header(eta="tomorrow")
    yield "eta in a thousand years", header(eta="3026-01-01T00:00:00+00:00")
    yield "expires in a list", header(expires=[1])
    yield "retries are text", header(retries="many", group={}, root_id=[], parent_id={})
    yield "id is a path", header(id="../../../etc/passwd", shadow="\x1b[2J\x1b]0;owned\x07")
    yield "id is an object", header(id={"a": []})
    yield "stamps", header(stamped_headers=["x"], stamps="x", replaced_task_nesting="y", ignore_result="no")
    yield "unknown task", header(task="gridyard.sleep")
    yield "task is code", header(task="os:system")
    yield "task is a path", header(task="../../jobs/engine.py")
    yield "task is a list", header(task=[wake])
    yield (
        "built-in starmap",
        lambda message: message.update(
            headers=message["headers"] | {"task": "celery.starmap"},
            body=encoded([[], {"task": signature, "it": [[1]]}, {}]),
        ),
    )
    yield "built-in backend_cleanup", header(task="celery.backend_cleanup")
    yield "headers are a list", lambda message: message.update(headers=[["task", wake]])
    yield "headers are text", lambda message: message.update(headers="task")
    yield "pickle", body(pickle.dumps(Marker(marker)), **{"content-type": "application/x-python-serialize"})
    yield "pickle named as JSON", body(pickle.dumps([Marker(marker), {}, {}]))
    yield (
        "yaml",
        body(f"!!python/object/apply:os.system ['touch {marker}']".encode(), **{"content-type": "application/x-yaml"}),
    )
    yield "unknown serializer", lambda message: message.update({"content-type": "application/x-of-mine"})
    yield "content type is a list", lambda message: message.update({"content-type": [], "content-encoding": {}})
    yield "bomb", packed(b" " * 100_000_000)
    yield "bomb of JSON", packed(b"[" + b"0," * 20_000_000 + b"0]")
    yield "unknown compression", header(compression="zip of mine")
    yield "compressed with what is none", header(compression="application/x-gzip")
    yield "delivery tag is an object", prop(delivery_tag={"a": 1})
    yield "delivery tag is a list", prop(delivery_tag=[[]])
    yield "delivery info is a list", prop(delivery_info=[1])
    yield "another exchange", prop(delivery_info={"exchange": "../x", "routing_key": "y"})
    yield "priority is text", prop(priority="highest", reply_to={"a": 1}, correlation_id=[])
