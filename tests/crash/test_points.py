"""A kill at each named point of a job's life: the job ends once, with the numbers of one that nothing disturbed.

On SQLite at all points. On PostgreSQL at those where the database has a part: a claim that only it knows of, and a
transaction that is open when its session ends. At the others nothing of it is open, and what is read and written is the
same; `tests/db` has each statement on both.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RedisServer
from tests.crash.hook.sitecustomize import Point
from tests.yards import LONG_JOB, Yard

HOOK = Path(__file__).parent / "hook"
IN_TRAINER = [point for point in Point if point.in_trainer]
IN_WORKER = [point for point in Point if not point.in_trainer and point is not Point.BEFORE_BELL]
OF_A_TEAM = [Point.AFTER_CLAIM, Point.BEFORE_COMMIT]  # where the kind of database matters
LOST = {Point.AFTER_CLAIM, Point.BEFORE_FINISH, Point.BEFORE_COMMIT}  # the worker held the job


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "killed"


@pytest.fixture
def team(tmp_path: Path, postgres_url: str, redis_server: RedisServer) -> Iterator[Yard]:
    """A yard on PostgreSQL and Redis."""
    yard = Yard(tmp_path, postgres_url, redis_server.url)
    yield yard
    yard.close()


def killing(point: Point, mark: Path) -> dict[str, str]:
    """The environment of a process that dies there."""
    return {"KILL_AT": point, "KILL_MARK": str(mark), "PYTHONPATH": str(HOOK)}


def killed_in_worker(yard: Yard, point: Point, mark: Path) -> int:
    """Train the long job with a worker that dies there, and then with another; the sweep."""
    sweep = yard.submit()
    with yard.scheduler():
        worker = yard.start_worker(environment=killing(point, mark))
        yard.wait_until("the worker has died", lambda: worker.poll() is not None)
        assert (worker.returncode, mark.exists()) == (-9, True)
        yard.start_worker()
        yard.wait_for_end(sweep)
    return sweep


def assert_ended_once(yard: Yard, sweep: int, outcomes: list[str], undisturbed: list[Any]) -> None:
    (job,) = yard.jobs(sweep)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == outcomes
    assert yard.outcome(sweep) == undisturbed


@pytest.mark.parametrize("point", IN_TRAINER)
def test_a_trainer_that_is_killed_there_is_replaced(
    yard: Yard, mark: Path, undisturbed: list[Any], point: Point
) -> None:
    sweep = yard.submit()
    yard.start_worker(environment=killing(point, mark))
    yard.wait_for_end(sweep)
    assert mark.exists()
    assert_ended_once(yard, sweep, ["crashed", "succeeded"], undisturbed)


@pytest.mark.parametrize("point", IN_WORKER)
def test_a_worker_that_is_killed_there_is_rescued(yard: Yard, mark: Path, undisturbed: list[Any], point: Point) -> None:
    sweep = killed_in_worker(yard, point, mark)
    assert_ended_once(yard, sweep, ["lost"] * (point in LOST) + ["succeeded"], undisturbed)


@pytest.mark.parametrize("point", OF_A_TEAM)
def test_a_worker_of_a_team_that_is_killed_there_is_rescued(
    team: Yard, mark: Path, undisturbed: list[Any], point: Point
) -> None:
    sweep = killed_in_worker(team, point, mark)
    assert_ended_once(team, sweep, ["lost"] * (point in LOST) + ["succeeded"], undisturbed)


def test_a_submitter_that_is_killed_before_it_rings_has_submitted(
    team: Yard, mark: Path, undisturbed: list[Any]
) -> None:
    """Idle workers look by themselves, and the scheduler rings again."""
    file = team.settings.home / "long.json"
    file.write_text(json.dumps(LONG_JOB))
    team.start_worker()
    submitter = subprocess.run(
        [sys.executable, "-P", "-m", "gridyard", "submit", str(file)],
        env=team.environment | killing(Point.BEFORE_BELL, mark),
        cwd=team.settings.home,
        capture_output=True,
    )
    assert (submitter.returncode, mark.exists()) == (-9, True)
    with team.scheduler():
        team.wait_until("it is there", lambda: team.jobs(1))
        team.wait_for_end(1)
    assert_ended_once(team, 1, ["succeeded"], undisturbed)
