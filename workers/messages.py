"""The one message that a worker understands."""

from celery import Celery

from workers import celery_app
from workers.slots import Slots


def register(app: Celery, slots: Slots) -> None:
    """Make the app answer the bell."""

    @app.task(name=celery_app.WAKE, ignore_result=True)  # type: ignore[untyped-decorator]
    def wake(*_: object, **__: object) -> None:
        # Whatever the message says is not looked at: what there is to do stands in the jobs table.
        slots.work()
