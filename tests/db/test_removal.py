"""A sweep is deleted whole, alone, and in the end, whoever dies meanwhile."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import claiming, ending, leaderboard, removal, status, steering, submission, upkeep
from db.clock import now
from db.models import Attempt, Base, Count, History, Job, Model, Sweep
from db.session import Database
from jobs.errors import InputError, NotFound, StoreError
from jobs.settings import Settings
from jobs.spec import BestModel, Keep, TrainResult
from jobs.states import SweepState
from jobs.store import Store
from scheduler.service import Service

AddSweep = Callable[..., int]
AddFinished = Callable[..., int]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def add_finished(database: Database, add_sweep: AddSweep, store: Store, result: Callable[..., TrainResult]) -> AddSweep:
    """Add a sweep whose jobs have succeeded, each with an attempt, a history, a model and a checkpoint; its id."""

    def add(cells: int = 1, **changes: Any) -> int:
        sweep = add_sweep(cells, **changes)
        with database.writing() as session:
            for claim in claiming.claim(session, "cpu", "w", 60.0, limit=cells, first=sweep):
                ended = result(claim.job).__dict__ | {"best": BestModel(sha256="0", size=1, content=b"1")}
                assert ending.finish(session, [(claim, TrainResult(**ended))])
                store.write(f"{claim.job}/1/last.safetensors", b"x")
            upkeep.close_finished(session)
        return sweep

    return add


def delete(database: Database, sweep: int, store: Store) -> None:
    with database.writing() as session:
        removal.mark(session, sweep)
    removal.remove(database, sweep, store)


def rows(database: Database) -> dict[str, int]:
    """Rows of each table."""
    with database.reading() as session:
        tables = [table for name, table in Base.metadata.tables.items() if name != "schedulers"]  # of no sweep
        return {table.name: session.scalars(select(func.count()).select_from(table)).one() for table in tables}


def folders(store: Store) -> set[str]:
    return {path.name for path in Path(store.url).iterdir()}


def test_a_deleted_sweep_leaves_no_row_and_no_file_and_the_others_keep_all_theirs(
    database: Database, add_finished: AddFinished, store: Store
) -> None:
    kept = add_finished(2)
    before, files = rows(database), folders(store)
    delete(database, add_finished(3), store)
    assert rows(database) == before
    assert folders(store) == files
    with database.reading() as session:
        assert len(leaderboard.top(session, sweep=kept)) == 2


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("submitting", "is being submitted; what its submitter does not finish is removed by itself"),
        ("open", "is open; `gridyard cancel 1` first, or wait for its end"),
        ("paused", "is paused; `gridyard cancel 1` first"),
    ],
)
def test_a_sweep_that_has_not_ended_is_not_deleted(
    database: Database, add_sweep: AddSweep, state: str, message: str
) -> None:
    sweep = add_sweep(1)
    with database.writing() as session:
        session.execute(update(Sweep).values(state=state))
    with pytest.raises(InputError, match=message), database.writing() as session:
        removal.mark(session, sweep)
    removal.remove(database, sweep) if state != "submitting" else None
    assert rows(database)["jobs"] == 1


def test_a_cancelled_sweep_is_not_deleted_while_jobs_of_it_run(
    database: Database, add_sweep: AddSweep, store: Store
) -> None:
    sweep = add_sweep(2)
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "w", 60.0)
        steering.cancel_sweep(session, sweep)
    with pytest.raises(InputError, match="jobs of it still run; try again"), database.writing() as session:
        removal.mark(session, sweep)
    with database.writing() as session:
        ending.let_go(session, [(claim, None)])
    delete(database, sweep, store)
    assert rows(database)["sweeps"] == 0


def test_a_sweep_that_is_not_there_is_named(database: Database) -> None:
    with pytest.raises(NotFound, match="there is no sweep 7"), database.writing() as session:
        removal.mark(session, 7)


def test_while_it_is_deleted_it_is_in_no_list_and_nothing_else_touches_it(
    database: Database, add_finished: AddFinished
) -> None:
    sweep, kept = add_finished(2), add_finished(1)
    with database.writing() as session:
        session.execute(update(Job).where(Job.sweep_id == sweep, Job.cell == 0).values(rank_key=-2.0))
        removal.mark(session, sweep)
        assert steering.cancel_sweep(session, sweep) == steering.resume_sweep(session, sweep) == 0
        assert steering.retry_sweep(session, sweep) == 0
        assert not steering.pause_sweep(session, sweep)
        upkeep.close_finished(session)
        assert submission.find_same(session, "tests") == (kept, 1)
    with database.reading() as session:
        assert [found.sweep for found in status.sweeps(session)] == [kept]
        assert status.sweep_status(session, sweep).state == SweepState.DELETING
        scopes: list[dict[str, Any]] = [{}, {"task": "iris"}]
        for scope in scopes:
            assert {row.sweep for row in leaderboard.top(session, **scope)} == {kept}
            assert {cell.sweep for cell in leaderboard.by_cell(session, **scope)} == {kept}
        with pytest.raises(NotFound, match="is being deleted"):
            leaderboard.top(session, sweep=sweep)


def test_the_ids_of_what_was_deleted_are_not_given_out_again(
    database: Database, add_finished: AddFinished, store: Store
) -> None:
    sweep = add_finished(3)
    with database.reading() as session:
        last = session.scalars(select(func.max(Job.id))).one()
    delete(database, sweep, store)
    again = add_finished(1)
    with database.reading() as session:
        assert again > sweep
        assert session.scalars(select(Job.id)).one() > last


def test_a_killed_deleters_sweep_is_removed_by_the_scheduler(
    database: Database, database_url: str, add_finished: AddFinished, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = add_finished(20, keep=Keep(last=True))  # or the scheduler removes those first
    code = f"""if True:
        import sys
        from db import removal
        from db.session import Database
        from jobs.store import Store
        removal.FIRST = 8
        def stop(jobs):
            print(jobs, flush=True)
            sys.stdin.read()  # until we are killed
        database = Database({database_url!r})
        with database.writing() as session:
            removal.mark(session, {sweep})
        removal.remove(database, {sweep}, Store({store.url!r}), stop)
    """
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as deleter:
        assert deleter.stdout is not None
        assert deleter.stdout.readline() == "8\n"
        deleter.send_signal(signal.SIGKILL)
        deleter.wait()
    scheduler = Service(database, Settings(store=store.url))
    assert scheduler.tick().removed == 0  # it may live: it gave a sign a moment ago
    assert (rows(database)["jobs"], len(folders(store))) == (12, 12)
    with database.writing() as session:
        session.execute(update(Sweep).values(touched_at=now(-removal.ABANDONED_SECONDS - 1)))
    assert scheduler.tick().removed == 1
    assert set(rows(database).values()) == {0}
    assert folders(store) == set()


def test_the_scheduler_removes_for_a_while_only_and_goes_on_in_its_next_round(
    database: Database, add_finished: AddFinished, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.service.REMOVING_SECONDS", 0.0)
    monkeypatch.setattr(removal, "FIRST", 5)
    sweep = add_finished(12)
    with database.writing() as session:
        removal.mark(session, sweep)
        session.execute(update(Sweep).values(touched_at=now(-removal.ABANDONED_SECONDS - 1)))
    scheduler = Service(database, Settings(store=store.url))
    assert scheduler.tick().removed == 0
    assert rows(database)["jobs"] == 7
    for _ in range(10):
        if scheduler.tick().removed:
            break
    assert rows(database)["sweeps"] == 0


def test_a_store_of_objects_is_listed_once_for_a_removal_of_several_rounds(
    database: Database, add_finished: AddFinished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million objects a listing takes a minute."""
    monkeypatch.setattr("scheduler.service.REMOVING_SECONDS", 0.0)
    monkeypatch.setattr(removal, "FIRST", 2)
    memory, sweep = Store(f"memory://{database.engine.url.database}"), add_finished(12)
    for job in range(1, 13):
        memory.write(f"{job}/1/last.safetensors", b"x")
    with database.writing() as session:
        removal.mark(session, sweep)
        session.execute(update(Sweep).values(touched_at=now(-removal.ABANDONED_SECONDS - 1)))
    scheduler, listings, jobs = Service(database, Settings(store=memory.url)), list[set[int]](), Store.jobs
    monkeypatch.setattr(Store, "jobs", lambda self: listings.append(jobs(self)) or listings[-1])
    rounds = 1
    while not scheduler.tick().removed:
        rounds += 1
        assert rounds < 12
    assert rounds > 2
    assert len(listings) == 1
    assert list(memory.files()) == []


def test_a_store_that_refuses_stops_neither_the_scheduler_nor_loses_the_rows_that_name_the_files(
    database: Database, add_finished: AddFinished, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = add_finished(2)

    def refuse(*_: object) -> None:
        raise StoreError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove_jobs", refuse)
        with pytest.raises(StoreError, match="away"):
            delete(database, sweep, store)
        with database.writing() as session:
            session.execute(update(Sweep).values(touched_at=now(-removal.ABANDONED_SECONDS - 1)))
        assert Service(database, Settings(store=store.url)).tick().removed == 0
    assert rows(database)["jobs"] == 2
    delete(database, sweep, store)  # whoever asks again carries it on
    assert folders(store) == set()


def test_two_who_delete_the_same_sweep_do_no_harm(database: Database, add_finished: AddFinished, store: Store) -> None:
    sweep, kept = add_finished(6), add_finished(2)
    with database.writing() as session:
        removal.mark(session, sweep)
    first, second = (removal.Removal(database, sweep, store) for _ in range(2))
    while first.step() | second.step():
        pass
    with database.reading() as session:
        assert {row.sweep for row in leaderboard.top(session)} == {kept}
    for table in (Attempt, History, Model, Count):
        assert rows(database)[table.__tablename__] > 0
