"""What is waited for at the start, and what is not."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db import migrate
from db.session import Database
from jobs.errors import DatabaseAway, DatabaseOutdated, InputError
from jobs.settings import Settings
from scheduler import main
from tests.refusals import Server
from workers import arrival


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.close()


STARTING = "57P03"
REFUSALS = ["28P01", "28000", "3D000", "53300"]  # password, no such role or no entry, no such database, too many


@pytest.mark.parametrize("server", [STARTING, None], indirect=True)
def test_a_server_that_starts_or_hangs_up_takes_no_connections(server: Server) -> None:
    assert not server.database.takes_connections()


@pytest.mark.parametrize("server", REFUSALS, indirect=True)
def test_one_that_refuses_us_takes_those_of_others_and_is_not_waited_for(server: Server) -> None:
    assert server.database.takes_connections()
    tries: list[DatabaseAway] = []
    with pytest.raises(DatabaseAway, match="so geht es nicht"):
        arrival.arrive(server.database, away=tries.append)
    assert not tries


def test_where_nobody_listens_there_is_no_server(tmp_path: Path) -> None:
    assert not Database(f"postgresql:///yard?host={tmp_path}").takes_connections()


@pytest.mark.parametrize("option", ["sslmode=bogus", "service=nobodys", "channel_binding=perhaps"])
def test_what_libpq_itself_refuses_is_not_waited_for(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.arrival.time.sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(DatabaseAway, match=option.partition("=")[2]):
        arrival.arrive(Database(f"postgresql:///yard?host={tmp_path}&{option}"), away=lambda _: None)


@pytest.mark.parametrize(
    ("url", "port"),
    [("u@h:0/y", "0"), ("u@h:99999/y", "99999"), ("/y?host=a:5432&host=b:99999", "99999"), ("h/y?port=-1", "-1")],
)
def test_nor_is_a_port_that_cannot_be(url: str, port: str) -> None:
    with pytest.raises(InputError, match=f"was given the port '{port}'; allowed is a whole number from 1 to 65535"):
        Database(f"postgresql://{url}")
    with pytest.raises(InputError, match=r"GRIDYARD_DB: .*port"):
        Database(f"postgresql:///yard?host=h&port={port},x")
    Database("postgresql:///yard?host=a:5432&host=b").close()


def test_an_sqlite_file_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Database] = []

    def locked(database: Database) -> None:
        tries.append(database)
        raise DatabaseAway("database is locked")

    monkeypatch.setattr(migrate, "prepare", locked)
    with pytest.raises(DatabaseAway):
        arrival.arrive(Database(f"sqlite:///{tmp_path}/gridyard.db"), away=lambda _: None)
    assert len(tries) == 1


class Plan:
    """A database that is prepared as planned, one try after the other; and how long one rests between them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *tries: tuple[Exception | None, bool]) -> None:
        """
        Args:
            tries: what each raises, and whether the server takes connections when one asks after it.
        """
        self.rests: list[float] = []
        self.away: list[DatabaseAway] = []
        self._tries, self._takes = iter(tries), False
        self.database = Database("postgresql://yard:s3cret@127.0.0.1/yard")
        monkeypatch.setattr(migrate, "prepare", self._prepare)
        monkeypatch.setattr(Database, "takes_connections", lambda _: self._takes)
        monkeypatch.setattr("workers.arrival.time.sleep", self.rests.append)

    def _prepare(self, database: Database) -> None:
        raised, self._takes = next(self._tries)
        if raised is not None:
            raise raised

    def arrive(self) -> bool:
        return arrival.arrive(self.database, self.away.append)


AWAY = DatabaseAway("database postgresql://yard:***@127.0.0.1/yard: connection refused is it running?")


def test_one_line_tells_that_it_waits_however_many_tries_and_another_that_it_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan(monkeypatch, *[(AWAY, False)] * 30, (None, True))
    with caplog.at_level(logging.INFO):
        assert plan.arrive()
    waiting, reached = caplog.messages
    assert waiting.startswith("waiting until it can be reached: database postgresql://yard:***@127.0.0.1/yard: ")
    assert waiting.endswith("connection refused is it running?")
    assert reached.startswith("database postgresql+psycopg://yard:***@127.0.0.1/yard is reached, after ")
    assert len(plan.away) == len(plan.rests) == 30
    assert all(before < after for before, after in zip(plan.rests[:4], plan.rests[1:5], strict=True))
    assert max(plan.rests) <= arrival.MOST_SECONDS


def test_one_that_came_between_a_try_and_the_question_is_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(monkeypatch, (AWAY, False), (AWAY, True), (None, True))
    assert plan.arrive()
    assert len(plan.rests) == 1


def test_one_that_is_there_at_last_and_refuses_us_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = DatabaseAway("password authentication failed")
    plan = Plan(monkeypatch, (AWAY, False), (AWAY, False), (refused, True), (refused, True))
    with pytest.raises(DatabaseAway, match="password"):
        plan.arrive()
    outdated = Plan(monkeypatch, (AWAY, False), (DatabaseOutdated("has schema 0001"), True))
    with pytest.raises(DatabaseOutdated):
        outdated.arrive()


def test_a_scheduler_that_was_told_to_stop_before_it_waits_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As while it opens the port of its monitor."""
    heard = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    @contextmanager
    def told(*_: object) -> Iterator[Callable[[], None]]:
        signal.raise_signal(signal.SIGTERM)
        yield lambda: pytest.fail("the database is there")

    monkeypatch.setattr("scheduler.main.monitor.serving", told)
    monkeypatch.setattr(migrate, "prepare", lambda _: pytest.fail("it tries to reach the database"))
    try:
        with caplog.at_level(logging.INFO):
            main.start(Settings(db="postgresql://yard@127.0.0.1/yard"))
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
    assert caplog.messages == ["stopped before the database was ready"]
