"""A sweep is submitted whole or not at all, each job once, and nobody else waits long for it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from db import claiming, removal, steering, upkeep
from db.models import Job, Sweep
from db.session import Database
from jobs.errors import DatabaseError
from jobs.spec import SweepSpec
from jobs.states import SweepState
from scheduler import grid
from scheduler.submit import CHUNK, Submitted, spec_hash, submit
from scheduler.sweep_file import parse

LARGE: dict[str, Any] = {  # three chunks, the last one not full
    "task": "iris",
    "grid": {"batch_size": list(range(1, 2 * CHUNK // 4 + 2)), "lr": [0.1, 0.2]},
    "seeds": 2,
}


def small(**changes: Any) -> SweepSpec:
    return parse({"task": "iris", "grid": {"lr": [0.2, 0.1], "hidden": [[8], [4]]}, "seeds": [7, 3], **changes})


def counts(database: Database) -> tuple[int, int]:
    """Numbers of sweeps and of jobs."""
    with database.reading() as session:
        return session.scalars(select(func.count(Sweep.id))).one(), session.scalars(select(func.count(Job.id))).one()


def test_a_submitted_sweep_is_open_and_has_each_cell_with_each_seed_in_order(database: Database) -> None:
    spec = small()
    submitted = submit(database, spec)
    assert submitted == Submitted(sweep=submitted.sweep, jobs=8, new=True)
    with database.reading() as session:
        sweep = session.scalars(select(Sweep)).one()
        assert (sweep.id, sweep.state, sweep.total) == (submitted.sweep, SweepState.OPEN, 8)
        rows = [(job.cell, job.seed, job.params) for job in session.scalars(select(Job).order_by(Job.id))]
    assert rows == list(grid.jobs(spec))


def test_jobs_are_claimed_pack_by_pack_in_the_order_of_the_grid_with_all_their_parameters(database: Database) -> None:
    spec = small(fixed={"optimizer": "sgd"})
    submit(database, spec)
    with database.writing() as session:
        packs = [claiming.claim(session, "cpu", "me", lease_seconds=60, limit=8) for _ in range(2)]
    jobs = [(seed, spec.fixed | params) for _, seed, params in grid.jobs(spec)]
    for number, (claims, hidden) in enumerate(zip(packs, ([8], [4]), strict=True)):
        assert [(claim.spec.seed, claim.spec.params) for claim in claims] == [
            (seed, params) for seed, params in jobs if params["hidden"] == hidden
        ]
        assert {claim.pack for claim in claims} == {number}
    assert packs[0][0].spec.params["optimizer"] == "sgd"


def test_progress_tells_each_chunk(database: Database) -> None:
    told: list[tuple[int, int]] = []
    submitted = submit(database, parse(LARGE), progress=lambda done, total: told.append((done, total)))
    total = submitted.jobs
    assert 2 * CHUNK < total < 3 * CHUNK
    assert told == [(CHUNK, total), (2 * CHUNK, total), (total, total)]
    assert counts(database) == (1, total)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), DatabaseError("away")])
def test_whatever_interrupts_a_submission_nothing_of_it_stays(database: Database, error: BaseException) -> None:
    def interrupt(done: int, total: int) -> None:
        assert counts(database)[1] == done
        raise error

    with pytest.raises(type(error)) as caught:
        submit(database, parse(LARGE), progress=interrupt)
    assert caught.value is error
    assert counts(database) == (0, 0)


def test_cells_that_fail_to_come_leave_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = grid.jobs

    def broken(spec: SweepSpec) -> Any:
        for number, row in enumerate(whole(spec)):
            if number == CHUNK + 1:
                raise MemoryError
            yield row

    monkeypatch.setattr(grid, "jobs", broken)
    with pytest.raises(MemoryError):
        submit(database, parse(LARGE))
    assert counts(database) == (0, 0)


def test_a_cell_that_comes_twice_is_refused_and_nothing_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "jobs", lambda spec: iter([(0, 0, {}), (0, 0, {})]))
    with pytest.raises(DatabaseError):
        submit(database, small())
    assert counts(database) == (0, 0)


def test_a_sweep_that_is_removed_meanwhile_is_an_error_and_not_half_a_sweep(database: Database) -> None:
    def remove(done: int, total: int) -> None:
        with database.reading() as session:
            [sweep] = removal.abandoned(session, silent_seconds=-60)
        removal.remove(database, sweep)

    with pytest.raises(DatabaseError, match="no longer being submitted"):
        submit(database, parse(LARGE), progress=remove)
    with pytest.raises(DatabaseError, match="was removed while it was being submitted; submit it again"):
        submit(database, small(), progress=remove)
    assert counts(database) == (0, 0)


def test_a_killed_submitter_leaves_nothing_to_claim_and_the_scheduler_removes_it(
    database: Database, database_url: str
) -> None:
    code = f"""if True:
        import sys, time
        from db.session import Database
        from scheduler.submit import submit
        from scheduler.sweep_file import parse
        def stop(done, total):
            print(done, flush=True)
            sys.stdin.read()  # until we are killed
        submit(Database({database_url!r}), parse({LARGE!r}), progress=stop)
    """
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as submitter:
        assert submitter.stdout is not None
        assert submitter.stdout.readline() == f"{CHUNK}\n"
        submitter.send_signal(signal.SIGKILL)
        submitter.wait()
    assert counts(database) == (1, CHUNK)
    with database.writing() as session:
        assert claiming.claim(session, "cpu", "me", lease_seconds=60) == []
        assert removal.abandoned(session) == []  # it may live: it stored something a moment ago
        [sweep] = removal.abandoned(session, silent_seconds=-60)
    removal.remove(database, sweep)
    assert counts(database) == (0, 0)


def test_the_same_sweep_twice_makes_two_sweeps_but_once_gives_the_first(database: Database) -> None:
    first, second = submit(database, small()), submit(database, small())
    assert first.sweep != second.sweep
    assert submit(database, small(), once=True) == Submitted(sweep=first.sweep, jobs=8, new=False)
    assert counts(database) == (2, 16)


def test_once_makes_a_new_sweep_when_nothing_equal_is_there_or_it_was_cancelled(database: Database) -> None:
    first = submit(database, small(), once=True)
    assert first.new
    other = submit(database, small(epochs=99), once=True)
    assert other.new
    with database.writing() as session:
        steering.cancel_sweep(session, first.sweep)
    again = submit(database, small(), once=True)
    assert again.new
    assert len({first.sweep, other.sweep, again.sweep}) == 3


def test_equal_specs_have_equal_hashes_whatever_the_order_of_their_keys() -> None:
    one = parse({"task": "iris", "grid": {"lr": [1, 0.5], "dropout": [0]}, "fixed": {"scheduler": {"name": "step"}}})
    same = parse(
        {
            "grid": {"dropout": [0.0], "lr": [1.0, 0.5]},
            "fixed": {"scheduler": {"gamma": 0.5, "name": "step"}},
            "task": "iris",
            "seeds": 1,
        }
    )
    assert spec_hash(one) == spec_hash(same)
    assert spec_hash(one) != spec_hash(parse({"task": "iris", "grid": {"lr": [1, 0.5]}}))


def test_others_claim_and_write_while_a_sweep_is_submitted(
    database: Database, database_url: str, add_sweep: Callable[..., int]
) -> None:
    """A worker in the middle of a submission claims at once, and sees nothing of what is not yet whole."""
    ready = add_sweep(3)
    other = Database(database_url)
    claimed: list[int] = []

    def claim(done: int, total: int) -> None:
        with other.writing() as session:  # from another connection, while the submission has begun and not ended
            claimed.extend(claim.spec.sweep for claim in claiming.claim(session, "cpu", "me", lease_seconds=60))

    submit(database, parse(LARGE), progress=claim)
    other.close()
    assert claimed == [ready, ready, ready]


def test_a_writer_does_not_wait_for_the_end_of_a_submission(database: Database, database_url: str) -> None:
    """SQLite hands its lock out unfairly: without pauses between chunks a heartbeat waited for the whole submission."""
    other, ended, written = Database(database_url), threading.Event(), []

    def write() -> None:
        while not ended.is_set():
            with other.writing() as session:
                written.append(upkeep.make_due_ready(session))

    writer = threading.Thread(target=write)
    spec = parse({"task": "iris", "grid": {"batch_size": list(range(1, 25 * CHUNK + 1))}})
    between: list[int] = []
    writer.start()
    submit(database, spec, progress=lambda done, total: between.append(len(written)))
    ended.set()
    writer.join()
    other.close()
    assert len(set(between)) >= 5  # of twenty-five chunks: it got its turn in between, again and again
