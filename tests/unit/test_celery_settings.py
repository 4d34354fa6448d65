"""Celery as it is meant to be used here: each setting that keeps the yard safe or whole is as it should be."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from db.session import Database
from jobs.settings import Settings
from workers import bell, celery_app

REDIS = "redis://gridyard:pw@queue.example:6379/0"


@pytest.mark.parametrize("broker", ["", REDIS, "amqp://gridyard:pw@queue.example"])
def test_settings_of_celery(broker: str) -> None:
    conf = celery_app.make(Settings(broker=broker), "cpu").conf
    assert (conf.accept_content, conf.task_serializer) == (["json"], "json"), "a message never runs code"
    assert (conf.result_accept_content, conf.result_serializer) == (["json"], "json")
    assert conf.result_backend is None
    assert conf.task_ignore_result
    assert not conf.worker_enable_remote_control
    assert not conf.worker_send_task_events
    assert not conf.task_acks_late
    assert not conf.task_publish_retry
    assert not conf.task_create_missing_queues
    assert not conf.worker_cancel_long_running_tasks_on_connection_loss
    assert conf.worker_prefetch_multiplier == 1
    assert conf.worker_disable_prefetch == broker.startswith("redis")
    assert conf.broker_connection_retry_on_startup
    assert conf.broker_connection_max_retries is None, "for ever"
    assert conf.broker_channel_error_retry
    assert conf.worker_consumer == "workers.ear:Ear"
    assert [queue.name for queue in conf.task_queues] == ["cpu"]


def test_options_of_redis() -> None:
    options = celery_app.make(Settings(broker=REDIS)).conf.broker_transport_options
    assert options["global_keyprefix"] == "gridyard:"
    assert options["ack_emulation"] is False, "no scripts in Lua"
    assert options["socket_keepalive"] is True
    assert 0 < options["health_check_interval"] <= 10, "a half-open connection is noticed"
    assert 0 < options["socket_timeout"] <= 3, "whoever rings has rescues to do"
    assert 0 < options["socket_connect_timeout"] <= options["socket_timeout"], "nobody waits for ever"


def test_a_worker_knows_one_message_besides_those_that_celery_brings() -> None:
    app = celery_app.make(Settings(broker=REDIS), "cpu")
    own = {name for name in app.tasks if not name.startswith("celery.")}  # and of Celery's none passes the ear
    assert own <= {celery_app.WAKE}


FILES = "ssl_ca_certs=/etc/ca.pem&ssl_certfile=/etc/me.pem&ssl_keyfile=/etc/me.key"
NAMED = {"ssl_ca_certs": "/etc/ca.pem", "ssl_certfile": "/etc/me.pem", "ssl_keyfile": "/etc/me.key"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),  # kombu's own default is to check nothing
        (f"?{FILES}", {"ssl_cert_reqs": ssl.CERT_REQUIRED, **NAMED}),
        (f"?ssl_cert_reqs=required&{FILES}", {"ssl_cert_reqs": ssl.CERT_REQUIRED, **NAMED}),
        ("?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
    ],
)
def test_options_of_tls_reach_the_client_of_redis(query: str, expected: dict[str, Any]) -> None:
    app = celery_app.make(Settings(broker=f"rediss://gridyard:pw@queue.example:6380/0{query}"))
    assert app.connection_for_read().ssl == expected
    assert app.connection_for_write().ssl == expected


def test_options_of_tls_reach_psycopg() -> None:
    database = Database("postgresql://ana:pw@db.example/yard?sslmode=verify-full&sslrootcert=/etc/ca.pem")
    _, options = database.engine.dialect.create_connect_args(database.engine.url)
    assert (options["sslmode"], options["sslrootcert"]) == ("verify-full", "/etc/ca.pem")
    database.close()


def test_a_server_without_tls_is_refused_where_tls_was_asked_for(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):  # the end of the test
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(1000)
                        connection.sendall(b"+PONG\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"rediss://gridyard:pw1234@127.0.0.1:{server.getsockname()[1]}/0"
        assert bell.ring(Settings(home=tmp_path, broker=url), "cpu") is False
    assert "was not rung" in caplog.text
    assert "pw1234" not in caplog.text
