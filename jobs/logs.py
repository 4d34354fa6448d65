"""The lines that services log: text for people, or a JSON object each; never with a password.

A JSON line says what it is about, as far as that is known: worker, sweep, job, attempt. What holds for a process is
told to `always`, what holds for a while in a thread to `about`, what holds for one line to `of`.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from jobs.plain import Formatter, dumped
from jobs.spec import Claim
from jobs.urls import masked

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
JSON = "json"

REMIND_SECONDS = 60.0

as_json = False  # what this process was asked for

_always: dict[str, Any] = {}
_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


class _Json(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, what it is about, and error: a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": masked(record.getMessage()),
            **_always,
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            line["error"] = masked(self.formatException(record.exc_info))
        return dumped(line, default=str)


class _Stderr(logging.StreamHandler[Any]):
    """Notes what a line is about in the thread that writes it."""

    def emit(self, record: logging.LogRecord) -> None:
        record.about = {**_about.get(), **getattr(record, "about", {})}
        super().emit(record)


class Trouble:
    """What may go wrong at every try: said when it begins, once a minute while it lasts, and when it is over.

    Threads may share one: it is then one trouble.
    """

    def __init__(self, logger: logging.Logger, told: str, over: str) -> None:
        """
        Args:
            told: what does not happen while it lasts.
            over: what is so again.
        """
        self._logger, self._told, self._over = logger, told, over
        self._began: float | None = None
        self._remind_at = 0.0  # not before, by the monotonic clock
        self._lock = threading.Lock()

    def met(self, error: object, trace: Exception | None = None) -> None:
        """It has gone wrong.

        Args:
            trace: an error that nobody expected, to be said with its traceback.
        """
        now = time.monotonic()
        with self._lock:
            if self._began is None:
                self._began = now
            elif now < self._remind_at:
                return
            self._remind_at, lasted = now + REMIND_SECONDS, now - self._began
        since = f" for {lasted:.0f} s" if lasted > 0 else ""
        level = logging.ERROR if trace else logging.WARNING
        self._logger.log(level, "%s%s: %s", self._told, since, error, exc_info=trace)

    def gone(self) -> None:
        """It has not."""
        with self._lock:
            began, self._began = self._began, None
        if began is not None:
            self._logger.info("%s, after %.0f s", self._over, time.monotonic() - began)


def say(message: str, *_: object, level: str = "INFO", logger: str = "celery") -> None:
    """A JSON line past all logging: from within a signal handler, where that might wait for itself, or at the end."""
    line = {"time": _time(time.time()), "level": level, "logger": logger, "message": masked(message), **_always}
    os.write(2, dumped(line).encode() + b"\n")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def setup(format: str) -> None:
    """Log to stderr from now on.

    Args:
        format: "text" or "json".
    """
    global as_json
    as_json = format == JSON
    handler = _Stderr()
    handler.setFormatter(_Json() if format == JSON else Formatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # tells of each look at the schema's version


def always(**facts: Any) -> None:
    """Every further line of this process is about these."""
    _always.update(facts)


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Every line of this thread is about these, too, while the block lasts."""
    token = _about.set({**_about.get(), **facts})
    try:
        yield
    finally:
        _about.reset(token)


def of(claim: Claim) -> dict[str, Any]:
    """`extra` of a line that is about one attempt."""
    return extra(sweep=claim.spec.sweep, job=claim.job, attempt=claim.attempt)


def extra(**facts: Any) -> dict[str, Any]:
    """`extra` of a line that is about these."""
    return {"about": facts}
