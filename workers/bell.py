"""Ring the bell: "queue: there is work". It carries no job and no data, so a lost one costs only time."""

import functools
import logging

from celery import Celery
from kombu.entity import Queue

from jobs.settings import Settings
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
    app = _sender(settings)
    try:
        for _ in range(count):
            app.send_task(celery_app.WAKE, args=[queue], queue=Queue(queue), expires=EXPIRES_SECONDS, retry=False)
    except Exception as error:  # whatever a broker's client may raise: the bell is a hint, its loss no failure
        logger.warning("the bell was not rung, workers will look by themselves: %s", error)
        return False
    return True


@functools.lru_cache(maxsize=4)
def _sender(settings: Settings) -> Celery:
    return celery_app.make(settings)
