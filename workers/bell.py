"""Ring the bell: "queue: there is work". It carries no job and no data, so a lost one costs only time."""

import functools
import logging

from celery import Celery
from kombu.entity import Queue

from jobs import logs
from jobs.settings import Settings
from jobs.urls import masked
from workers import celery_app

logger = logging.getLogger(__name__)
EXPIRES_SECONDS = 60  # an old bell is worth nothing: workers look at the table themselves


def ring(settings: Settings, queue: str, count: int = 1) -> bool:
    """Wake up to `count` slots of a queue. Call it after the commit.

    Returns:
        Whether the broker took all of them. Without a broker there is nobody to tell; workers look at the table.
    """
    if not settings.broker:
        return True
    return _bell(settings).ring(queue, count)


class _Bell:
    """A broker to ring at."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        told, over = "the bell was not rung, workers look by themselves", "the broker is back: the bell is rung again"
        self._away = logs.Trouble(logger, told, over)

    def ring(self, queue: str, count: int) -> bool:
        try:
            for _ in range(count):
                self._app.send_task(
                    celery_app.WAKE, args=[queue], queue=Queue(queue), expires=EXPIRES_SECONDS, retry=False
                )
        except Exception as error:  # whatever a broker's client may raise: the bell is a hint, its loss no failure
            self._away.met(masked(str(error)))
            return False
        self._away.gone()
        return True


@functools.lru_cache(maxsize=4)
def _bell(settings: Settings) -> _Bell:
    return _Bell(celery_app.make(settings))
