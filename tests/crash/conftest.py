"""Yards to do harm to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.states import JobState
from tests.yards import Yard


@pytest.fixture(params=["sqlite"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    """A yard without a broker, on SQLite unless a test names more by `on_both_databases`."""
    url = f"sqlite:///{tmp_path}/gridyard.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    yard = Yard(tmp_path, url)
    yield yard
    yard.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the long job comes to when nothing disturbs it."""
    home = tmp_path_factory.mktemp("undisturbed")
    yard = Yard(home, f"sqlite:///{home}/gridyard.db")
    sweep = yard.submit()
    yard.start_worker()
    (job,) = yard.wait_for_end(sweep)
    assert job["state"] == JobState.SUCCEEDED
    assert len(yard.attempts(job["id"])) == 1
    outcome = yard.outcome(sweep)
    yard.close()
    return outcome
