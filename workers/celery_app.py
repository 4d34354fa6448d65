"""Celery as it is used here: to wake workers. Each setting stands with its reason."""

from celery import Celery
from kombu.entity import Queue

from jobs.settings import Settings

WAKE = "gridyard.wake"  # the only message


def make(settings: Settings, queue: str | None = None) -> Celery:
    """A Celery app.

    Args:
        queue: the queue to consume; None for a sender.
    """
    app = Celery("gridyard", broker=_with_checked_certificate(settings.broker_url), set_as_current=False)
    app.conf.update(
        # The message lives milliseconds: it is acknowledged before work begins. Held for the length of a job, Redis
        # would deliver it again after its visibility timeout, and again (celery#5935).
        task_acks_late=False,
        worker_prefetch_multiplier=1,  # 0 would mean: without limit
        worker_disable_prefetch=settings.broker.startswith("redis"),  # others warn and ignore it
        task_ignore_result=True,  # results are rows of the database
        result_backend=None,
        task_serializer="json",  # a message never runs code
        accept_content=["json"],
        result_accept_content=["json"],
        worker_consumer="workers.ear:Ear",  # a hostile message costs a connection, and not the worker
        worker_enable_remote_control=False,  # closes the fleet-wide `shutdown`, and needs no pub/sub
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,  # a worker may start before its broker
        broker_connection_max_retries=None,  # for ever; the default gives up after 100
        broker_channel_error_retry=True,  # what the broker refuses, such as a queue that is no list, ends no worker
        broker_connection_timeout=5,  # seconds
        worker_cancel_long_running_tasks_on_connection_loss=False,  # Celery 6 flips it: a blink would kill trainings
        task_publish_retry=False,  # a bell may be lost; a submission must not hang on the broker
        worker_hijack_root_logger=False,  # logging is configured once, by us
        worker_redirect_stdouts=False,
        task_create_missing_queues=False,  # a message never makes a worker listen somewhere else
        task_queues=[Queue(queue)] if queue else None,
    )
    if settings.broker.startswith("redis"):
        app.conf.broker_transport_options = {
            "global_keyprefix": "gridyard:",  # lets an ACL name our keys
            # No lists of what is not yet acknowledged, kept by scripts in Lua: a bell is acknowledged within
            # milliseconds, and a lost one costs a look. So the ACL allows no scripts.
            "ack_emulation": False,
            # Seconds; longer than one wait for a message. Who rings must not wait: the scheduler has rescues to do.
            "socket_timeout": 30 if queue else 3,
            "socket_connect_timeout": 5 if queue else 3,  # seconds
            "socket_keepalive": True,  # a firewall must not forget an idle worker
            # Two of them after the last word, a half-open connection is replaced; workers look meanwhile.
            "health_check_interval": 10,  # seconds
        }
        if not queue:  # kombu would try for 6 s to reach a broker that refuses: so long a submission would hang
            app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1}
    return app


def _with_checked_certificate(url: str) -> str:
    """kombu believes every server of `rediss://` whose URL does not say otherwise."""
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"
