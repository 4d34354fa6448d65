"""What the doctor asks a database, on both of them."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import update

from db import claiming, diagnosis, schedulers, status, workers
from db.clock import now
from db.models import Job, Scheduler, Sweep, Worker
from db.session import Database
from jobs.settings import Settings
from scheduler.service import Service

AddSweep = Callable[..., int]


def test_workers_tell_how_long_they_are_silent_and_what_their_clocks_said(database: Database) -> None:
    with database.writing() as session:
        for name, info in (("here", {"clock": 5e9}), ("gone", {}), ("stopped", {})):
            workers.register(session, name, "cpu", 2, info)
        workers.stop(session, "stopped")
        session.execute(update(Worker).where(Worker.id == "gone").values(heartbeat_at=now(-100.0)))
        here, gone = diagnosis.workers(session)
    assert (here.worker, here.alive, gone.worker, gone.alive) == ("here", True, "gone", False)
    assert here.silent < 60 < gone.silent
    assert here.ahead is not None
    assert here.ahead > 1e9
    assert gone.ahead is None


def test_ready_jobs_of_a_queue_without_a_worker_are_counted(database: Database, add_sweep: AddSweep) -> None:
    add_sweep(3)
    add_sweep(2, queue="gpu")
    with database.writing() as session:
        assert diagnosis.unattended(session) == {"cpu": 3, "gpu": 2}
        workers.register(session, "w", "cpu", 1, {})
        assert diagnosis.unattended(session) == {"gpu": 2}


def test_what_a_scheduler_should_have_done_is_told(database: Database, add_sweep: AddSweep) -> None:
    sweep, half = add_sweep(2), add_sweep(1, opened=False)
    with database.writing() as session:
        assert (diagnosis.overdue(session, 60.0), diagnosis.stuck(session, 60.0)) == (0, [])
        claiming.claim(session, "cpu", "w", 60.0, limit=2)
        session.execute(update(Job).where(Job.sweep_id == sweep).values(lease_expires_at=now(-100.0)))
        session.execute(update(Sweep).where(Sweep.id == half).values(touched_at=now(-100.0)))
        assert diagnosis.overdue(session, 60.0) == 2
        assert [(one.sweep, one.state) for one in diagnosis.stuck(session, 60.0)] == [(half, "submitting")]
        ended = {"state": "cancelled", "worker": None, "lease_expires_at": None, "finished_at": now(-100.0)}
        session.execute(update(Job).where(Job.sweep_id == sweep).values(ended))
        assert {one.sweep for one in diagnosis.stuck(session, 60.0)} == {sweep, half}
        assert diagnosis.overdue(session, 60.0) == 0


def test_a_scheduler_enters_itself_and_forgets_those_of_old(database: Database, tmp_path: Path) -> None:
    with database.writing() as session:
        assert schedulers.seen(session) == []
        schedulers.heartbeat(session, "old")
        session.execute(update(Scheduler).values(heartbeat_at=now(-schedulers.KEPT_SECONDS - 1)))
    service = Service(database, Settings(home=tmp_path))
    service.tick()
    with database.reading() as session:
        (first,) = schedulers.seen(session)
    service.tick()
    with database.reading() as session:
        (second,) = schedulers.seen(session)
        assert session.query(Scheduler).count() == 1
    assert (first.scheduler, first.started_at) == (second.scheduler, second.started_at)
    assert first.heartbeat_at <= second.heartbeat_at


def test_a_database_tells_its_version_and_size(database: Database) -> None:
    with database.reading() as session:
        assert diagnosis.version(session)[0].isdigit()
        assert status.database_bytes(session) > 10_000
