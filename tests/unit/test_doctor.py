"""`gridyard doctor`: each thing that may be wrong is found, and what to do about it said."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update
from typer.testing import CliRunner

import gridyard
from db import claiming, schedulers, workers
from db.clock import now
from db.models import Base, Worker
from db.session import Database
from gridyard import cli, doctor
from gridyard.checks import database, machine, people
from gridyard.checks.finding import OK, WARNING, WRONG, Finding, ok
from gridyard.client import Yard
from jobs.settings import Settings
from workers import main

Make = Callable[..., Settings]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Settings of a yard of its own, and what is changed."""

    def made(**changes: Any) -> Settings:
        return Settings(**{"home": tmp_path, "cache": tmp_path / "cache", "data": tmp_path / "data", **changes})

    return made


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setenv("GRIDYARD_HOME", str(tmp_path))
    yard = gridyard.connect()
    yield yard
    yard.database.close()


def execute(yard: Yard, statement: str) -> None:
    with yard.database.writing() as session:
        session.execute(text(statement))


def only(findings: Iterator[Finding], level: str) -> Finding:
    (finding,) = findings
    assert finding.level == level, finding
    assert bool(finding.do) == (level != OK)
    return finding


def test_a_new_yard_is_fine_before_it_has_a_database(make: Make, tmp_path: Path) -> None:
    assert "none yet" in only(database.reachable(make()), OK).found
    assert not database.is_there(make())
    assert not (tmp_path / "gridyard.db").exists()


def test_a_database_that_is_away_outdated_or_none_is_told(yard: Yard, make: Make) -> None:
    assert "schema" in only(database.reachable(make()), OK).found
    execute(yard, "UPDATE alembic_version SET version_num = '9999'")
    assert "db upgrade" in only(database.reachable(make()), WRONG).do
    found = only(database.reachable(make(db="postgresql://me:geheim@127.0.0.1:9/x")), WRONG)
    assert "start it" in found.do
    assert "geheim" not in found.found
    assert "correct GRIDYARD_DB" in only(database.reachable(make(db="mysql://x/y")), WRONG).do


def test_a_database_that_answers_and_cannot_be_written_is_told(
    make: Make, yard: Yard, postgres_server: Any, postgres_url: str
) -> None:
    def tables(url: str) -> list[Any]:
        with closing(Database(url)) as database, database.reading() as session:
            return [session.execute(select(table)).all() for table in Base.metadata.sorted_tables]

    yard.submit(task="iris")
    before = tables(yard.settings.db_url)
    only(database.reachable(make()), OK)
    assert tables(yard.settings.db_url) == before
    execute(yard, "DROP TABLE histories")
    assert "no such table" in only(database.reachable(make()), WRONG).found

    only(database.reachable(make(db=postgres_url)), OK)
    reader = f"reader_{uuid.uuid4().hex[:8]}"
    with closing(Database(postgres_url)) as owner, owner.writing() as session:
        session.execute(text(f"CREATE ROLE {reader} LOGIN PASSWORD 'geheim'"))
        session.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}"))
        url = owner.engine.url.set(drivername="postgresql", username=reader, password="geheim")
    found = only(database.reachable(make(db=url.render_as_string(hide_password=False))), WRONG)
    assert "it answers, and cannot be written" in found.found
    assert "permission denied for table" in found.found
    with closing(Database(postgres_url)) as owner, owner.writing() as session:
        session.execute(text(f"DROP OWNED BY {reader}"))
        session.execute(text(f"DROP ROLE {reader}"))


def test_an_sqlite_that_may_spoil_its_file_is_warned_of(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 51, 2))
    assert "3.51.3" in only(database.sqlite(make()), WARNING).found
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 51, 3))
    only(database.sqlite(make()), OK)
    assert only(database.sqlite(make(db="postgresql://db/x")), OK).found == "not used"


def test_an_sqlite_file_on_a_network_file_system_is_warned_of(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", database.SAFE_SQLITE)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(database, "MOUNTS", mounts)
    _, found = database.sqlite(make())
    assert (found.level, "nfs4" in found.found) == (WARNING, True)
    monkeypatch.setattr(database, "MOUNTS", tmp_path / "none")
    assert database.network_file_system(tmp_path) is None


def test_clocks_that_differ_are_warned_of(yard: Yard, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with yard.database.writing() as session:
        workers.register(session, "there:1:x", "cpu", 1, {"clock": time.time() - 60.0})
    here, there = database.clock(make())
    assert (here.level, there.level) == (OK, WARNING)
    assert "worker there:1:x is 60 s behind" in there.found
    late = time.time() + 3_600
    monkeypatch.setattr(time, "time", lambda: late)
    assert "ahead of" in next(database.clock(make())).found


def test_a_broker_that_does_not_answer_is_wrong_and_its_password_is_hidden(make: Make) -> None:
    assert "look at the table" in only(machine.broker(make()), OK).found
    found = only(machine.broker(make(broker="redis://:geheim@127.0.0.1:9/0")), WRONG)
    assert "does not answer" in found.found
    assert "geheim" not in found.found


def test_a_broker_that_answers_is_fine(make: Make, redis_server: Any) -> None:
    only(machine.broker(make(broker=redis_server.url)), OK)


def test_a_broker_that_refuses_a_password_is_told_from_one_that_is_away(make: Make, redis_server: Any) -> None:
    refused = only(machine.broker(make(broker=redis_server.url.replace("redis://", "redis://nobody:geheim@"))), WRONG)
    assert "answers and lets us not in" in refused.found
    assert "geheim" not in refused.found
    assert refused.do.startswith("correct user and password in GRIDYARD_BROKER")


def test_a_store_is_written_read_and_left_as_it_was(make: Make, tmp_path: Path) -> None:
    assert "are left" in only(machine.store(make()), OK).found
    assert list((tmp_path / "store").iterdir()) == []
    assert "removed a file" in only(machine.store(make(store="memory://doctor")), OK).found


def test_a_store_that_cannot_be_written_is_wrong(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "GRIDYARD_STORE" in only(machine.store(make(store=str(tmp_path / "file" / "store"))), WRONG).do
    only(machine.store(make(store="nosuch://x")), WRONG)


@pytest.mark.parametrize(("left", "level"), [(50 << 20, WRONG), (1 << 30, WARNING), (9 << 30, OK)])
def test_a_disk_that_fills_up_is_told(make: Make, monkeypatch: pytest.MonkeyPatch, left: int, level: str) -> None:
    monkeypatch.setattr("jobs.store.Store.free_bytes", lambda _: left)
    only(machine.store(make()), level)


def test_folders_of_data_and_cache_are_looked_at(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(machine.data(make()), OK)
    only(machine.cache(make()), OK)
    (tmp_path / "file").write_text("")
    only(machine.data(make(data=tmp_path / "file")), WRONG)
    only(machine.cache(make(cache=tmp_path / "file")), WRONG)
    monkeypatch.setattr(machine, "_writable", lambda folder: False)  # who runs the tests may be root
    assert "nothing can be written" in only(machine.data(make()), WARNING).found


def test_a_spool_is_looked_at_and_what_waits_or_is_broken_in_it_told(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    assert str(folder) in only(machine.spool(make()), OK).found
    assert not folder.exists()
    folder.mkdir()
    (folder / "letter.txt").write_text("")
    only(machine.spool(make()), OK)
    for name in ("a.1.1.json", "a.2.1.json", "a.3.1.json.broken"):
        (folder / name).write_text("")
    waiting, broken = machine.spool(make())
    assert (waiting.level, "wait here for the database: 2" in waiting.found) == (WARNING, True)
    assert (broken.level, "could not be read: 1" in broken.found) == (WARNING, True)
    (tmp_path / "file").write_text("")
    assert "GRIDYARD_SPOOL" in only(machine.spool(make(spool=str(tmp_path / "file"))), WRONG).do


@pytest.mark.parametrize(
    ("seen", "torch", "device", "level"),
    [
        ([], {"version": "2", "cuda": None, "gpus": []}, "auto", OK),
        ([], {"version": "2", "cuda": None, "gpus": []}, "cuda", WRONG),
        (["GPU 0"], {"version": "2", "cuda": None, "gpus": []}, "auto", WRONG),
        (["GPU 0"], {"version": "2", "cuda": "13", "gpus": [{"name": "H", "free": 9, "total": 10}]}, "auto", OK),
        (["GPU 0"], {"version": "2", "cuda": "13", "gpus": [{"name": "H", "free": 0, "total": 10}]}, "auto", WARNING),
        ([], "ImportError: no torch", "auto", WRONG),
    ],
)
def test_gpus_are_as_the_driver_and_torch_say(
    make: Make, monkeypatch: pytest.MonkeyPatch, seen: list[str], torch: Any, device: str, level: str
) -> None:
    monkeypatch.setattr(machine, "_smi", lambda: seen)
    monkeypatch.setattr(machine, "_torch", lambda: torch)
    only(machine.gpu(make(device=device)), level)


def test_a_torch_that_hangs_or_crashes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "TORCH", "import os; os.abort()")
    assert machine._torch() == "exit code -6"
    monkeypatch.setattr(machine, "TORCH", "import sys; sys.stdin.read(); import time; time.sleep(60)")
    monkeypatch.setattr(machine, "TORCH_SECONDS", 0.2)
    assert "does not answer within" in str(machine._torch())


def test_intervals_that_do_not_fit_are_warned_of(make: Make) -> None:
    only(people.intervals(make()), OK)
    assert "LEASE_SECONDS" in only(people.intervals(make(lease_seconds=3.0)), WARNING).do
    assert "TICK_SECONDS" in only(people.intervals(make(tick_seconds=60.0)), WARNING).do
    assert "OFFLINE_SECONDS" in only(people.intervals(make(offline_seconds=1.0)), WARNING).do


def test_workers_are_listed_and_silent_ones_warned_of(yard: Yard, make: Make) -> None:
    assert "none is running" in only(people.workers(make()), OK).found
    with yard.database.writing() as session:
        for name in ("a:1:x", "b:2:y", "c:3:z"):
            workers.register(session, name, "cpu", 2, {})
        workers.stop(session, "c:3:z")

    def silence(worker: str, seconds: float) -> None:
        with yard.database.writing() as session:
            session.execute(update(Worker).where(Worker.id == worker).values(heartbeat_at=now(-seconds)))

    silence("b:2:y", 25.0)
    assert [one.level for one in people.workers(make(lease_seconds=60.0))] == [OK, OK]
    alive, silent = people.workers(make(lease_seconds=20.0))
    assert (alive.level, silent.level) == (OK, WARNING)
    assert "a:1:x: queue cpu, 0 of 2 slots busy" in alive.found
    assert "b:2:y: silent for" in silent.found
    silence("b:2:y", people.TOLD_SECONDS + 1.0)
    assert "a:1:x" in only(people.workers(make()), OK).found


def test_a_store_that_is_not_that_of_the_workers_is_told(yard: Yard, make: Make, tmp_path: Path) -> None:
    ours = make(store="s3://key:geheim@bucket/yard")
    for name, info in (("a", main._info([None], ours)), ("b", {}), ("c", {"store": ["no text"]})):
        with yard.database.writing() as session:
            workers.register(session, name, "cpu", 1, info)
    assert {one.level for one in people.workers(ours)} == {OK}
    (found,) = (one for one in people.workers(make()) if one.level == WARNING)
    theirs = "1 of 3 workers keep models and checkpoints in s3://key:***@bucket/yard"
    assert found.found == f"{theirs}, and the store here is {tmp_path}/store"
    assert "GRIDYARD_STORE" in found.do


def test_what_the_database_does_not_take_is_wrong_with_its_reason(yard: Yard, make: Make) -> None:
    with yard.database.writing() as session:
        workers.register(session, "a:1:x", "cpu", 2, {"troubles": {"ends": "12 ends wait: no such table: histories"}})
    _, trouble = people.workers(make())
    assert (trouble.level, trouble.found) == (WRONG, "a:1:x: 12 ends wait: no such table: histories")


def test_without_a_scheduler_jobs_that_need_one_are_told(yard: Yard, make: Make) -> None:
    assert "none was ever here" in only(people.scheduler(make()), OK).found
    with yard.database.writing() as session:
        workers.register(session, "a:1:x", "cpu", 2, {})
    assert "Nothing is tried again" in only(people.scheduler(make()), WARNING).found
    yard.submit(task="iris")
    with yard.database.writing() as session:
        claiming.claim(session, "cpu", "w", 60.0)
    execute(yard, "UPDATE jobs SET lease_expires_at = '2026-01-01 00:00:00.000'")
    assert "1 job waits for a retry or a rescue, and no scheduler" in only(people.scheduler(make()), WRONG).found
    with yard.database.writing() as session:
        schedulers.heartbeat(session, "s:1:x")
    assert "although one runs" in only(people.scheduler(make()), WRONG).found
    execute(yard, "UPDATE jobs SET lease_expires_at = '2999-01-01 00:00:00.000'")
    assert "s:1:x: heard" in only(people.scheduler(make()), OK).found
    with yard.database.writing() as session:
        schedulers.heartbeat(session, "s:2:y")
    assert sorted(one.found.partition(": heard")[0] for one in people.scheduler(make())) == ["s:1:x", "s:2:y"]


def test_a_queue_with_jobs_and_no_worker_is_wrong(yard: Yard, make: Make) -> None:
    only(people.queues(make()), OK)
    yard.submit(task="iris", seeds=3, queue="big-gpus")
    found = only(people.queues(make()), WRONG)
    assert "queue big-gpus: 3 jobs are ready" in found.found
    assert "gridyard worker --queue big-gpus" in found.do
    with yard.database.writing() as session:
        workers.register(session, "a:1:x", "big-gpus", 2, {})
    only(people.queues(make()), OK)
    with yard.database.writing() as session:
        session.execute(update(Worker).values(heartbeat_at=now(-25.0)))
    assert "queue big-gpus: 3 jobs are ready" in only(people.queues(make(lease_seconds=20.0)), WRONG).found


def test_sweeps_that_nobody_goes_on_with_are_told(yard: Yard, make: Make) -> None:
    only(people.sweeps(make()), OK)
    yard.submit(task="iris")
    only(people.sweeps(make()), OK)
    execute(yard, "UPDATE jobs SET state = 'cancelled', finished_at = '2026-01-01 00:00:00.000'")
    assert "sweep 1 is open" in only(people.sweeps(make()), WARNING).found
    execute(yard, "UPDATE sweeps SET state = 'submitting', touched_at = '2026-01-01 00:00:00.000'")
    assert "sweep 1 is submitting" in only(people.sweeps(make()), WARNING).found
    execute(yard, "UPDATE sweeps SET state = 'cancelled', extending = '{}'")
    assert "sweep 1 is not whole" in only(people.sweeps(make()), WARNING).found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch, which takes seconds to load."""
    monkeypatch.setattr(machine, "_torch", lambda: {"version": "2", "cuda": None, "gpus": []})


def test_a_check_that_hangs_or_breaks_stops_no_other(yard: Yard, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def hangs(settings: Settings) -> Iterator[Finding]:
        never.wait()
        yield ok("never")

    def breaks(settings: Settings) -> Iterator[Finding]:
        raise ValueError("redis://:geheim@host is odd")
        yield

    monkeypatch.setattr(doctor, "SECONDS", 5.0)
    monkeypatch.setitem(doctor.ALONE, "store", hangs)
    monkeypatch.setitem(doctor.AFTER, "queues", breaks)
    found = {one.check: one for one in doctor.examine({}).findings}
    never.set()
    assert list(found) == doctor.NAMES
    assert "no answer within 5 s" in found["store"].found
    assert found["queues"].found == "ValueError: redis://:***@host is odd"
    assert found["workers"].level == OK


def test_the_command_ends_with_1_only_when_something_is_wrong(yard: Yard, quick: None) -> None:
    fine = CliRunner().invoke(cli.app, ["doctor"])
    assert fine.exit_code == 0, fine.output
    yard.submit(task="iris")
    bad = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert bad.exit_code == 1
    told = json.loads(bad.stdout)
    assert told["fine"] is False
    assert {one["check"] for one in told["findings"] if one["level"] == WRONG} == {"queues"}
    people_see = CliRunner().invoke(cli.app, ["doctor"])
    assert "→ start one: `gridyard worker --queue cpu`" in people_see.stdout


def test_without_its_database_the_others_are_looked_at_all_the_same(quick: None, tmp_path: Path) -> None:
    url = "postgresql://me:geheim@127.0.0.1:9/x"
    result = CliRunner().invoke(cli.app, ["doctor", "--db", url], env={"GRIDYARD_HOME": str(tmp_path)})
    assert result.exit_code == 1
    assert "geheim" not in result.output
    assert "not looked at: the database cannot be used" in result.stdout
    assert "store" in result.stdout


def test_settings_that_cannot_be_read_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDYARD_THREADS", "many")
    found = doctor.examine({})
    assert not found.fine
    assert [one.check for one in found.findings] == ["settings"]


def test_a_doctor_with_a_hanging_check_ends(tmp_path: Path) -> None:
    """As a command: what hangs in a thread must not keep the process."""
    code = """if True:
        import threading
        from gridyard import cli, doctor
        def hangs(settings):
            threading.Event().wait()
            yield
        doctor.SECONDS = doctor.GPU_SECONDS = 0.5
        doctor.ALONE["gpu"] = hangs
        cli.main()
    """
    environment = os.environ | {"GRIDYARD_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert any("no answer within" in one["found"] for one in json.loads(done.stdout)["findings"])
