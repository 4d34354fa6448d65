"""Whatever a user and the workers do to sweeps, in whatever order: each move is an allowed one, and nothing is lost."""

import contextlib
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from db import claiming, ending, leases, steering, upkeep
from db.clock import now
from db.models import Job, Sweep
from db.session import Database
from jobs.errors import InputError
from jobs.spec import Claim, Failure, TrainResult
from jobs.states import FINAL, MOVES, FailureReason, JobState, SweepState
from scheduler import sweep_file
from scheduler.extend import extend
from scheduler.submit import submit
from tests.db.conftest import assert_counts_are_right

Result = Callable[..., TrainResult]
States = dict[int, tuple[str, float | None]]  # job -> its state and score


class Play:
    """Two equal sweeps, and what is held of them."""

    def __init__(self, database: Database, result: Result, seed: int) -> None:
        self.database, self.result, self.random = database, result, random.Random(seed)
        spec = {"task": "iris", "grid": {"lr": [0.1, 0.2]}, "seeds": 2, "epochs": 2, "retries": 1, "max_running": 3}
        self.sweeps = [submit(database, sweep_file.parse(spec)).sweep for _ in range(2)]
        self.held: list[Claim] = []

    def sweep(self) -> int:
        return self.random.choice(self.sweeps)

    def write(self, act: Callable[..., Any], *given: Any, **options: Any) -> Any:
        with self.database.writing() as session:
            return act(session, *given, **options)

    def claim(self) -> None:
        before = self.running()
        open_ones = {sweep for sweep, found in self.read_sweeps().items() if found.state == SweepState.OPEN}
        limit, slot = self.random.randint(1, 4), self.random.randrange(3)
        claims = self.write(claiming.claim, "cpu", "w", 60.0, limit=limit, slot=slot)
        assert {one.spec.sweep for one in claims} <= open_ones
        for sweep, found in self.read_sweeps().items():
            if found.max_running is not None:
                assert self.running()[sweep] <= max(found.max_running, before[sweep])
        self.held += claims

    def running(self) -> dict[int, int]:
        states = self.states()
        return {sweep: sum(states[job][0] == JobState.RUNNING for job in jobs) for sweep, jobs in self.jobs().items()}

    def end(self, act: Callable[[Claim], Any]) -> None:
        if self.held:
            act(self.held.pop(self.random.randrange(len(self.held))))

    def finish(self) -> None:
        self.end(lambda one: self.write(ending.finish, [(one, self.result(one.job))]))

    def let_go(self, one: Claim, failure: Failure | None) -> None:
        self.write(ending.let_go, [(one, failure)])

    def fail(self) -> None:
        reason = self.random.choice(list(FailureReason))
        self.end(lambda one: self.let_go(one, Failure(job=one.job, reason=reason, error="it broke")))

    def give_back(self) -> None:
        self.end(lambda one: self.let_go(one, None))

    def rescue(self) -> None:
        self.write(upkeep.rescue, "w")

    def wait(self) -> None:
        """Until what backs off is due."""
        due = update(Job).where(Job.state == JobState.WAITING).values(due_at=now(-1.0))
        self.write(lambda session: session.execute(due))
        self.write(upkeep.make_due_ready)

    def heartbeat(self) -> None:
        answers = self.write(leases.renew, "w", {(one.job, one.attempt) for one in self.held}, 60.0)
        assert set(answers) == {(one.job, one.attempt) for one in self.held}

    def pause(self) -> None:
        self.write(steering.pause_sweep, self.sweep(), halt=self.random.random() < 0.5)

    def resume(self) -> None:
        self.write(steering.resume_sweep, self.sweep())

    def cancel(self) -> None:
        self.write(steering.cancel_sweep, self.sweep())

    def retry(self) -> None:
        reasons = self.random.sample(list(FailureReason), self.random.randrange(3))
        self.write(steering.retry_sweep, self.sweep(), reasons=reasons)

    def extend(self) -> None:
        keys: dict[str, Any] = self.random.choice(
            [{"seeds": 3}, {"grid": {"lr": [0.3]}}, {"epochs": 3}, {"epochs": 4, "seeds": [9]}]
        )
        with contextlib.suppress(InputError):  # it is cancelled, or has more epochs
            extend(self.database, self.sweep(), keys)

    def steer(self) -> None:
        self.write(steering.prioritise_sweep, self.sweep(), self.random.randrange(2))
        self.write(steering.limit_sweep, self.sweep(), self.random.choice([None, 1, 2, 5]))

    def close(self) -> None:
        self.write(upkeep.close_finished)

    def jobs(self) -> dict[int, list[int]]:
        with self.database.reading() as session:
            query = select(Job.id, Job.sweep_id).where(Job.sweep_id.in_(self.sweeps))
            found: dict[int, list[int]] = {sweep: [] for sweep in self.sweeps}
            for row in session.execute(query):
                found[row.sweep_id].append(row.id)
        return found

    def states(self) -> States:
        with self.database.reading() as session:
            query = select(Job.id, Job.state, Job.score).where(Job.sweep_id.in_(self.sweeps))
            return {row.id: (row.state, row.score) for row in session.execute(query)}

    def read_sweeps(self) -> dict[int, Sweep]:
        with self.database.reading() as session:
            return {row.id: row for row in session.scalars(select(Sweep).where(Sweep.id.in_(self.sweeps)))}

    def check(self, before: States) -> None:
        after, sweeps = self.states(), self.read_sweeps()
        assert set(before) <= set(after)  # no job is lost
        for job, (state, score) in before.items():
            assert after[job][0] == state or JobState(after[job][0]) in MOVES[JobState(state)]
            assert score is None or after[job][1] is not None  # nor a result
        for sweep, jobs in self.jobs().items():
            found = sweeps[sweep]
            assert (found.total, found.extending) == (len(jobs), None)
            assert found.state == SweepState.PAUSED or not found.halting
            if found.state == SweepState.FINISHED:
                assert all(after[job][0] in FINAL for job in jobs)
        assert_counts_are_right(self.database)


MOVES_OF_ALL = (
    *[Play.claim] * 4,
    *[Play.finish] * 3,
    *(
        Play.fail,
        Play.wait,
        Play.give_back,
        Play.rescue,
        Play.heartbeat,
        Play.pause,
        Play.resume,
        Play.resume,
        Play.cancel,
    ),
    *(Play.retry, Play.extend, Play.extend, Play.steer, Play.close),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.sampled_from(MOVES_OF_ALL), min_size=5, max_size=30), seed=st.integers(0, 2**32))
def test_any_sequence_of_moves_keeps_what_must_hold(
    database: Database, result: Result, moves: list[Callable[[Play], None]], seed: int
) -> None:
    play = Play(database, result, seed)
    for move in moves:
        before = play.states()
        move(play)
        play.check(before)
    with database.writing() as session:  # the next sequence finds nothing to claim
        for sweep in play.sweeps:
            steering.cancel_sweep(session, sweep)
