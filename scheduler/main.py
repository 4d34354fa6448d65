"""A scheduler as a process of its own."""

import signal
import threading

from db.session import Database
from jobs.settings import Settings
from scheduler import monitor
from scheduler.service import Service
from workers.arrival import arrive


def start(settings: Settings) -> None:
    """Go round until SIGTERM or Ctrl-C. A database that cannot be reached is waited for.

    Raises:
        SettingsError: nothing can be served at GRIDYARD_MONITOR.
        DatabaseError: the database cannot be used.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = Database(settings.db_url)
    service = Service(database, settings)
    with monitor.serving(settings, database, service.pulse) as count:
        if not arrive(database, lambda error: service.pulse.failed(error, away=True), stopped=stop.is_set):
            return
        count()
        service.run(stop)
