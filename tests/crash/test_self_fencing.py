"""A worker that froze for longer than its lease learns at its next heartbeat that it was taken for dead, and stops."""

import signal
from typing import Any

import pytest
from sqlalchemy import func, select

from db import steering
from db.models import History
from tests.yards import Yard


@pytest.mark.parametrize("yard", ["sqlite", "postgresql"], indirect=True)
def test_it_stops_its_trainer_at_once_and_writes_nothing(yard: Yard) -> None:
    """Its trainer does not freeze: what it has done meanwhile counts for nothing."""
    sweep = yard.submit(epochs=1_000_000)  # never done: what stops it is the fence
    zombie = yard.start_worker()
    job = yard.wait_for_epoch(sweep, 1)
    trainer = yard.trainer_of(zombie)
    zombie.send_signal(signal.SIGSTOP)
    with yard.scheduler():
        yard.start_worker()
        yard.wait_until("another worker has it", lambda: yard.jobs(sweep)[0]["attempt"] == 2)
        written = epochs_of(yard, job["id"], attempt=1)
        zombie.send_signal(signal.SIGCONT)
        lost = f"job {job['id']}: attempt 1 lost its claim"
        yard.wait_until("it has stopped", lambda: lost in yard.log.read_text())
        assert epochs_of(yard, job["id"], attempt=1) == written
        with yard.database.writing() as session:
            steering.cancel_sweep(session, sweep)
        yard.wait_for_end(sweep)
    assert [attempt.outcome for attempt in yard.attempts(job["id"])] == ["lost", "cancelled"]
    assert (zombie.poll(), trainer.is_running()) == (None, True)  # both are of use again


def epochs_of(yard: Yard, job: int, attempt: int) -> Any:
    """The last epoch that this attempt has stored, and in how many rows."""
    with yard.database.reading() as session:
        of_attempt = (History.job_id == job, History.attempt == attempt)
        return session.execute(select(func.max(History.last_epoch), func.count()).where(*of_attempt)).one()
