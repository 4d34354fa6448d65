"""The Iris grid of the examples, 36 jobs on two slots: embedded, and on Redis and PostgreSQL with a worker killed."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db.models import Attempt, Job
from db.session import Database
from tests.conftest import RedisServer
from tests.folders import ONE_BY_ONE, Folder, numbers_of

IRIS = (Path(__file__).parents[2] / "examples" / "iris.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The grid, trained undisturbed on SQLite without a broker."""
    folder = Folder(tmp_path_factory.mktemp("iris") / "embedded", IRIS)
    answer = folder.gridyard("run", "grid.yaml", "--workers", "2")
    assert answer.returncode == 0, answer.stderr
    return folder


def attempts_that_succeeded(url: str) -> dict[int, int]:
    """Job → number of its attempts that succeeded."""
    database = Database(url)
    with database.reading() as session:
        won = (Attempt.job_id == Job.id) & (Attempt.outcome == "succeeded")
        query = select(Job.id, func.count(Attempt.attempt).label("n")).outerjoin(Attempt, won).group_by(Job.id)
        found = {row.id: row.n for row in session.execute(query)}
    database.close()
    return found


def check_whole(folder: Folder) -> list[dict[str, Any]]:
    """Every job succeeded exactly once and is on the leaderboard, which is in order; its numbers."""
    status = folder.json("status", "1")
    assert (status["sweep"], status["state"], status["jobs"]["succeeded"]) == (1, "finished", 36)
    assert sum(status["jobs"].values()) == 36
    assert set(attempts_that_succeeded(folder.db_url).values()) == {1}
    rows = folder.leaderboard()
    assert [row["rank"] for row in rows] == list(range(1, 37))
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    cells = {(str(row["params"]["lr"]), str(row["params"]["hidden"]), row["params"]["dropout"]) for row in rows}
    assert len(cells) == 12
    return numbers_of(rows)


def test_every_job_succeeds_exactly_once_on_the_embedded_default(embedded: Folder) -> None:
    check_whole(embedded)


def test_every_cell_is_ranked_by_its_mean_over_three_seeds(embedded: Folder) -> None:
    cells = embedded.json("leaderboard", "1", "--by", "cell", "--top", "0")
    assert len(cells) == 12
    assert all(cell["n"] == len(cell["jobs"]) == 3 for cell in cells)
    means = [cell["mean"] for cell in cells]
    assert means == sorted(means, reverse=True)
    assert means[0] >= 0.95  # on validation data


def test_redis_and_postgresql_with_a_worker_killed_in_the_middle_give_the_same_leaderboard(
    embedded: Folder, tmp_path: Path, empty_postgres_url: str, redis_server: RedisServer
) -> None:
    team = Folder(tmp_path / "team", IRIS + ONE_BY_ONE, db=empty_postgres_url, broker=redis_server.url)
    running = team.start("run", "grid.yaml", "--workers", "2")
    team.wait_for_the_middle()
    os.kill(team.worker_pid(), signal.SIGKILL)
    _, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert "the worker died (SIGKILL); starting it again" in errors
    assert check_whole(team) == embedded.numbers()
