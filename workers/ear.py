"""The ear of a worker: Celery's consumer, made fit for a broker to which anybody may have written.

Of a message only this is looked at: does it say that it is the bell? Everything else in it is replaced by our own
before Celery's machinery reads a word of it. What comes apart earlier, in kombu, costs the connection and not the
worker: trainings, looks at the table and the slots go on meanwhile.
"""

import logging
import time
import uuid
import warnings
from typing import Any

from billiard.common import restart_state
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import compression
from kombu.exceptions import DecodeError

from jobs import logs
from workers.celery_app import WAKE
from workers.tally import Tally

logger = logging.getLogger(__name__)

BREAKS = 3  # so many broken connections by messages …
BREAKS_SECONDS = 60.0  # … in this time, and the queue is emptied: what is put back breaks the next connection, too
REST_SECONDS = 1.0  # after that: whoever writes such messages again and again must not keep a core busy
SAID_SECONDS = 60.0  # between two lines about messages that are no bells: they could fill a disk


class Garbled(ConnectionError):
    """A message that kombu could not take apart. Celery answers a connection error by connecting again."""


class Ear(Consumer):  # type: ignore[misc]
    """Celery makes it itself: named by the setting `worker_consumer`."""

    loop: Any  # Celery's own, until we wrap it

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _refuse_compressed()
        # Of a setting that we have set: Celery warns at each lost connection all the same.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        self.connection_errors: tuple[type[Exception], ...] = (*self.conninfo.connection_errors, Garbled)
        self._inner_loop, self.loop = self.loop, self._loop
        self._restart_state = restart_state(maxR=1_000, maxT=1.0)  # it would pause with a traceback; `_empty` pauses
        self._breaks = Tally(BREAKS, BREAKS_SECONDS)
        self._dropped, self._said = 0, float("-inf")
        self._deaf = logs.Trouble(logger, "no bell is heard, jobs are found in the table", over="bells are heard again")

    def _loop(self, *args: Any) -> None:
        """Listen until the connection is lost or the worker stops.

        Raises:
            Garbled: a message broke it.
        """
        try:
            self._inner_loop(*args)
        except Exception as error:  # whatever a parser makes of what it is given; shutdowns are no Exception
            if self._is_lost(error):
                raise
            told = f"{type(error).__name__}: {error}"
            raise Garbled(f"a message could not be taken apart: {told[:200]!r}") from None

    def _is_lost(self, error: Exception) -> bool:
        """Whether it is the connection's own. kombu counts a KeyError among these: of a socket, which is a number; of a
        message it is the name of what is not there."""
        named = isinstance(error, KeyError) and isinstance(error.args[0], str)
        return isinstance(error, self.connection_errors) and not named

    def ensure_connected(self, conn: Any) -> Any:
        """As Celery's, whose three lines of ERROR at each try would drown all others."""

        def met(error: Exception, _: float) -> None:
            self._deaf.met(f"{conn.as_uri()}: {error}")

        conn.ensure_connection(met, self.app.conf.broker_connection_max_retries, callback=maybe_shutdown)
        self.first_connection_attempt = False
        self._deaf.gone()
        return conn

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._deaf.met(f"{self.conninfo.as_uri()}: {exc}")

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close the connection, on which kombu puts back what was not acknowledged; then empty a queue that harms."""
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, (Garbled, *self.channel_errors)) and self._breaks.full():
            self._empty()
            time.sleep(REST_SECONDS)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """kombu could not unpack it: compressed, for one."""
        self._drop(message)

    def _empty(self) -> None:
        """Remove all messages: they are bells or worse, and what there is to do stands in the jobs table."""
        queues = list(self.app.amqp.queues.consume_from)
        try:
            with self.app.connection_for_write() as connection:
                for name in queues:
                    connection.default_channel.queue_purge(name)
        except Exception as error:  # of whatever broker; the next break tries again
            logger.warning("the queue %s could not be emptied: %s", ", ".join(queues), error)
            return
        told = "%d messages in %g s could not be taken apart: the queue %s was emptied; jobs are found in the table"
        logger.error(told, BREAKS, BREAKS_SECONDS, ", ".join(queues))

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """What is called with each message: Celery's own handler for bells, nothing for all others."""
        hear = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:
            message.delivery_info = {}  # an acknowledgement reads it
            if _is_bell(message):
                _make_ours(message)
                hear(message)
            else:
                self._drop(message)

        return on_message

    def _drop(self, message: Any) -> None:
        message.ack_log_error(logger, self.connection_errors)
        self._dropped += 1
        now = time.monotonic()
        if now - self._said >= SAID_SECONDS:
            told = "dropped what was no bell, %d so far; the last said it was task %s"
            logger.warning(told, self._dropped, ascii(_named(message))[:80])
            self._said = now


def _named(message: Any) -> Any:
    return message.headers.get("task") if isinstance(message.headers, dict) else None


def _is_bell(message: Any) -> bool:
    return bool(_named(message) == WAKE)


def _make_ours(message: Any) -> None:
    """Leave nothing of what it brought: no arguments, times, limits, callbacks, and no other serializer."""
    message.headers = {"task": WAKE, "id": str(uuid.uuid4())}
    message.properties = {}
    message.body, message.content_type, message.content_encoding = b"[[], {}, {}]", "application/json", "utf-8"
    message.errors, message._decoded_cache = [], None


def _refuse_compressed() -> None:
    """No bell is compressed, and kombu unpacks without limit, before anything can be checked: 0.6 MB took 3.4 GB."""

    def refuse(_: bytes) -> bytes:
        raise DecodeError("compressed messages are refused")

    for content_type in compression.encoders():
        compression.register(refuse, refuse, content_type)
