"""A running worker on a database in which somebody else has written: it goes on, and nothing of theirs runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from db.models import Job, Sweep
from jobs.states import JobState
from tests.yards import Yard

SHORT: dict[str, Any] = {"task": "sine", "grid": {"lr": [0.01]}, "fixed": {}, "epochs": 1}


@pytest.fixture
def yard(tmp_path: Path, postgres_url: str) -> Iterator[Yard]:
    yard = Yard(tmp_path, postgres_url, files=str(tmp_path / "allowed"))
    yield yard
    yard.close()


def test_hostile_rows_fail_with_one_message_each_and_the_worker_goes_on(yard: Yard, tmp_path: Path) -> None:
    marker, secret = tmp_path / "code-ran", tmp_path / "secret.csv"
    secret.write_text("a,b\n" + "hunter2,1\n" * 50)
    code = f"__import__('os').system('touch {marker}')"
    table = {"data": str(secret), "target": "b"}
    specs: list[dict[str, Any]] = [
        {"task": "os:system"},
        {"task": "jobs.tasks.sine"},
        {"task": "../../sine"},
        {"task": code},
        {"epochs": "many"},
        {"fixed": {"lr": code}},
        {"fixed": {"no such parameter": [code]}},
        {"task": "table", "fixed": table},
        {"task": "table", "fixed": table | {"data": "../secret.csv"}},
        {"task": "table", "fixed": table | {"data": f"{tmp_path}/allowed/../secret.csv"}},
        {"task": "image_folder", "fixed": {"data": "/etc"}},
        {"task": "causal_lm", "fixed": {"data": "/etc/passwd", "model": "/etc"}},
        {"objective": {"metric": code, "mode": "max"}},
    ]
    hostile = [yard.submit(**SHORT, priority=9) for _ in specs]
    with yard.database.writing() as session:
        for sweep, spec in zip(hostile, specs, strict=True):
            stored = session.scalars(select(Sweep.spec).where(Sweep.id == sweep)).one()
            session.execute(update(Sweep).where(Sweep.id == sweep).values(spec={**stored, **spec}))
        session.execute(update(Job).where(Job.sweep_id.in_(hostile)).values(params={}))
    good = yard.submit(**SHORT)
    worker = yard.start_worker()
    with yard.scheduler():  # which has some of them tried again
        assert {job["state"] for job in yard.wait_for_end(good)} == {JobState.SUCCEEDED}
        for sweep, spec in zip(hostile, specs, strict=True):
            (job,) = yard.wait_for_end(sweep)
            assert (job["state"], job["reason"]) == (JobState.FAILED, "error"), spec
            assert "hunter2" not in job["error"]
    assert worker.poll() is None
    assert not marker.exists()
