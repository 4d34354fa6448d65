"""What Prometheus is told of the yard: right, and without reading a job."""

from collections.abc import Callable

from db import claiming, gauges, steering
from db import workers as register
from db.session import Database
from jobs.states import JobState
from tests.db.test_queue_plans import plan_of, statements_of

AddSweep = Callable[..., int]


def look(database: Database) -> gauges.Gauges:
    with database.reading() as session:
        return gauges.look(session)


def test_an_empty_yard_has_nothing_to_tell(database: Database) -> None:
    assert look(database) == gauges.Gauges(jobs={}, sweeps={}, oldest={}, workers={}, slots={}, tallies={})


def test_jobs_are_counted_by_queue_and_state_and_the_oldest_ready_one_has_an_age(
    database: Database, add_sweep: AddSweep
) -> None:
    add_sweep(3)
    add_sweep(2, queue="gpu")
    with database.writing() as session:
        assert claiming.claim(session, "gpu", "w1", 60.0)
    found = look(database)
    jobs = {key: number for key, number in found.jobs.items() if number}
    assert jobs == {
        ("cpu", JobState.READY): 3,
        ("gpu", JobState.READY): 1,
        ("gpu", JobState.RUNNING): 1,
    }
    assert found.sweeps == {"open": 2}
    assert set(found.oldest) == {"cpu", "gpu"}
    assert all(0 <= seconds < 600 for seconds in found.oldest.values())
    with database.writing() as session:
        claiming.claim(session, "gpu", "w1", 60.0)
    assert set(look(database).oldest) == {"cpu"}


def test_a_paused_sweep_keeps_nobody_waiting(database: Database, add_sweep: AddSweep) -> None:
    sweep = add_sweep()
    with database.writing() as session:
        assert steering.pause_sweep(session, sweep)
    assert look(database).oldest == {}


def test_workers_and_their_slots_are_counted_while_they_live(database: Database) -> None:
    with database.writing() as session:
        for worker, slots in (("a", 3), ("b", 1), ("gone", 5)):
            register.register(session, worker, "gpu", slots, {})
        info = {"attempts": {"succeeded": 7}, "out_of_service": {"2": "it is full"}}
        register.heartbeat(session, "a", slots=2, busy=1, info=info)
        register.stop(session, "gone")
    found = look(database)
    assert found.workers == {"gpu": 2}
    assert found.slots == {("gpu", "idle"): 2, ("gpu", "busy"): 1, ("gpu", "out of service"): 1}
    assert found.tallies["a"] == {"succeeded": 7}


def test_no_job_is_read_however_many_there_are(database: Database, add_sweep: AddSweep) -> None:
    add_sweep(3)
    tables = ("jobs", "counts", "sweeps")
    statements = statements_of(database, lambda: look(database), tables=tables)
    assert len(statements) >= 3
    for statement, values in statements:
        plan = plan_of(database, statement, values)
        assert "jobs" not in plan.replace("Subquery", ""), plan
