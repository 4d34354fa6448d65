"""What the hand disturbs with works: bells doubled and dropped on their way, servers that come back in their place."""

from collections.abc import Iterator

import psycopg
import pytest
import redis

from tests.chaos.bells import Bells
from tests.chaos.servers import Broker, Postgres


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.close()


def test_bells_are_doubled_or_dropped_and_all_else_is_let_through(broker: Broker) -> None:
    with redis.Redis.from_url(broker.url) as client:
        for bells, there in ((Bells.HEARD, 1), (Bells.DOUBLED, 3), (Bells.DROPPED, 3), (Bells.HEARD, 4)):
            broker.bells.bells = bells
            client.lpush("queue", "bell \r\n *1 $3")
            assert client.llen("queue") == there
        assert client.brpop("queue", timeout=1) == (b"queue", b"bell \r\n *1 $3")
    assert list(broker.bells.counts.values()) == [2, 1, 1]


def test_a_broker_that_is_away_refuses_and_comes_back_empty_in_its_place(broker: Broker) -> None:
    with redis.Redis.from_url(broker.url, retry=None) as client:
        client.lpush("queue", "bell")
        broker.stop()
        with pytest.raises(redis.ConnectionError):
            client.llen("queue")
        broker.start()
        assert client.llen("queue") == 0


def test_a_database_that_was_killed_comes_back_in_its_place_with_what_was_committed() -> None:
    server = Postgres()
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        for end in (server.kill, server.stop):
            end()
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(server.url)
            server.start()
            with psycopg.connect(server.url) as connection:
                assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]
    finally:
        server.close()
