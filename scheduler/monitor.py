"""What Prometheus and a container's health check ask the scheduler: /metrics and /healthz."""

import json
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from db import gauges
from db.session import Database
from jobs import logs
from jobs.errors import DatabaseError, SettingsError
from jobs.settings import Settings
from jobs.states import FailureReason, JobState
from jobs.urls import masked
from scheduler.pulse import Pulse

logger = logging.getLogger(__name__)
ASKING_SECONDS = 10.0  # a client that says nothing for so long is hung up on
REASONS = tuple(reason for reason in FailureReason if reason is not FailureReason.LOST)  # which shows as rescues
OUTCOMES = (JobState.SUCCEEDED, JobState.CANCELLED, "given back", "preempted", "claim lost", *REASONS)


class Yard(Collector):
    """The state of the yard, read from the database each time it is asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blind = logs.Trouble(logger, "metrics without the database", over="metrics have the database again")
        self._lock = threading.Lock()  # one look at a time, however many ask
        self._tallies: Mapping[str, Mapping[str, int]] | None = None  # what each worker had counted at the last look
        self._attempts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))

    def begin(self) -> None:
        """What was counted before is not counted again."""
        with self._lock:  # who asks is answered already
            self._look()

    def describe(self) -> Iterable[Metric]:
        """Nothing: it must not need a database to be registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            found = self._look()
            up = GaugeMetricFamily("gridyard_database_up", "Whether the database answers.")
            up.add_metric([], float(found is not None))
            yield up
            if found is not None:
                yield from _of(found)
            attempts = CounterMetricFamily(
                "gridyard_attempts", "Attempts that ended since the scheduler started.", labels=["outcome"]
            )
            for outcome, number in self._attempts.items():
                attempts.add_metric([outcome], number)
            yield attempts

    def _look(self) -> gauges.Gauges | None:
        try:
            with self._database.reading() as session:
                found = gauges.look(session)
        except DatabaseError as error:
            self._blind.met(error)
            return None
        self._blind.gone()
        self._count(found.tallies)
        return found

    def _count(self, tallies: Mapping[str, Mapping[str, int]]) -> None:
        """Workers count what their attempts came to; here it is summed up, as what has come since the last look.

        So the sum falls neither when a worker is forgotten nor, but to nothing, when this process starts again.
        """
        if self._tallies is not None:
            for worker, tally in tallies.items():
                before = self._tallies.get(worker, {})
                ended = {outcome: tally.get(outcome, 0) - before.get(outcome, 0) for outcome in OUTCOMES}
                self._attempts.update({outcome: number for outcome, number in ended.items() if number > 0})
        self._tallies = tallies


def _of(found: gauges.Gauges) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("gridyard_jobs", "Jobs by state.", labels=["queue", "state"])
    for queue in sorted({queue for queue, _ in found.jobs} | set(found.workers)):
        for state in JobState:
            jobs.add_metric([queue, state], found.jobs.get((queue, state), 0))
    yield jobs
    for name, told, label, values in (
        ("gridyard_sweeps", "Sweeps by state.", "state", found.sweeps),
        ("gridyard_workers", "Workers alive.", "queue", found.workers),
        (
            "gridyard_queue_oldest_seconds",
            "Seconds since the oldest sweep with a ready job was submitted.",
            "queue",
            dict.fromkeys({queue for queue, _ in found.jobs}, 0.0) | dict(found.oldest),
        ),
    ):
        family = GaugeMetricFamily(name, told, labels=[label])
        for key, value in values.items():
            family.add_metric([key], value)
        yield family
    slots = GaugeMetricFamily("gridyard_slots", "Slots of workers alive.", labels=["queue", "use"])
    for (queue, use), number in found.slots.items():
        slots.add_metric([queue, use], number)
    yield slots


@contextmanager
def serving(settings: Settings, database: Database, pulse: Pulse) -> Iterator[Callable[[], None]]:
    """Answer at `settings.monitor`, if that is set, while the block lasts.

    Yields a function to be called when the database is there: attempts that end from then on are counted.

    Raises:
        SettingsError: nothing can be served there.
    """
    if settings.monitor_address is None:
        yield lambda: None
        return
    yard = Yard(database)
    pulse.registry.register(yard)
    server = _listen(settings.monitor_address, settings.monitor, pulse)
    thread = threading.Thread(target=server.serve_forever, name="monitor", daemon=True)
    thread.start()
    logger.info("serving /metrics and /healthz on %s:%d", *server.server_address[:2])
    try:
        yield yard.begin
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listen(address: tuple[str, int], given: str, pulse: Pulse) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

        def handle_error(self, request: object, client_address: object) -> None:
            logger.debug("a client of the monitor went away", exc_info=True)

    try:
        return Server(address, _handler(pulse))
    except OSError as error:
        raise SettingsError(
            f"GRIDYARD_MONITOR = {given!r}: {error.strerror or error}; name an address of this machine and a free port"
        ) from None


def _handler(pulse: Pulse) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = ASKING_SECONDS
        server_version, sys_version = "gridyard", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(pulse.registry))
            elif path == "/healthz":
                trouble = pulse.trouble()
                failing = {step: masked(why) for step, why in pulse.failing().items()}
                told = {"ok": trouble is None, "trouble": trouble and masked(trouble), "failing": failing}
                self._answer(200 if trouble is None else 503, "application/json", json.dumps(told).encode() + b"\n")
            else:
                self._answer(404, "text/plain", b"there are /metrics and /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            logger.debug(format, *args)

    return Handler
