"""Progress while a sweep goes, as plain lines."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from db.status import SweepStatus
from db.workers import WorkerTrouble
from gridyard import progress
from jobs.errors import DatabaseError
from jobs.states import JobState


def status(total: int = 4, best: float | None = None, state: str = "open", **jobs: int) -> SweepStatus:
    return SweepStatus(
        sweep=3,
        name="small",
        task="iris",
        state=state,
        total=total,
        jobs={one.value: jobs.get(one.value, 0) for one in JobState},
        metric="val_accuracy",
        mode="max",
        best=best,
        best_job=None if best is None else 7,
        queue="cpu",
        workers=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        finished_at=None,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.001)


def answers(*given: SweepStatus | Exception) -> Any:
    rest: Iterator[SweepStatus | Exception] = iter(given)

    def ask() -> SweepStatus:
        answer = next(rest)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def test_lines_come_at_the_start_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    looks = [status(ready=4), status(ready=3, running=1), status(succeeded=3, failed=1, best=0.96666)]
    assert progress.follow(answers(*looks)) == looks[-1]
    first, last = capsys.readouterr().err.splitlines()
    assert first == "sweep 3: 0/4 jobs, 0 running, 0 failed"
    assert last == "sweep 3: 4/4 jobs, 0 running, 1 failed, best val_accuracy 0.9667 (job 7)"


def test_lines_come_between_only_when_something_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    progress.follow(answers(status(ready=4), status(ready=4), status(running=4), status(succeeded=4)))
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_what_goes_wrong_in_a_worker_is_said_once_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [WorkerTrouble(worker="w1", kind="ends", told=f"{n} ends wait: no such table") for n in (1, 2)]
    looks = [replace(status(running=4), troubles=[one]) for one in told]
    progress.follow(answers(*looks, status(succeeded=4)))
    said = capsys.readouterr().err
    assert "worker w1: 1 ends wait: no such table\n" in said
    assert "2 ends wait" not in said
    monkeypatch.setattr(progress, "REMIND_SECONDS", 0.0)
    progress.follow(answers(*looks, status(succeeded=4)))
    assert "worker w1: 2 ends wait: no such table\n" in capsys.readouterr().err


def test_it_waits_until_every_job_is_final_and_tends_meanwhile() -> None:
    tended = []
    last = status(succeeded=2, failed=1, cancelled=1)
    looks = answers(status(ready=4), status(succeeded=3, running=1), last)
    assert progress.follow(looks, tend=lambda: tended.append(1)) == last
    assert len(tended) == 2


def test_a_deadline_ends_the_waiting() -> None:
    with pytest.raises(TimeoutError, match="sweep 3 has 4 jobs that are not final"):
        progress.follow(lambda: status(ready=4), deadline=time.monotonic())


def test_a_database_that_is_away_for_a_moment_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    away = DatabaseError("database is away")
    assert progress.follow(answers(away, away, status(succeeded=4))).finished
    assert capsys.readouterr().err.count("database is away; trying again") == 1


def test_a_database_that_stays_away_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(DatabaseError):
        progress.follow(answers(*[DatabaseError("away")] * 100))


def test_the_pace_is_counted_over_the_last_while() -> None:
    pace = progress.Pace()
    for second, done in ((0, 10), (90, 10), (100, 11)):
        pace.add(second, done)
        assert pace.per_second is None  # jobs that had ended before do not count, nor does warming up
    pace.add(110, 16)
    assert pace.per_second == 0.5
    for second, done in ((120, 20), (150, 30), (160, 40)):
        pace.add(second, done)
    assert pace.per_second == 0.5  # of the last 40 s: from 20 to 40


def test_a_description_tells_pace_and_time_left() -> None:
    text = progress.describe(status(total=100, succeeded=50, running=2, ready=48, best=0.5), per_second=0.25)
    assert text == "2 running, 0 failed, best val_accuracy 0.5 (job 7), 0.25 jobs/s, 3 min 20 s left"
    assert progress.describe(status(waiting=4, state="paused"), None) == "0 running, 0 failed, 4 waiting, paused"
    few = replace(status(running=2), epochs=200, least_epoch=98, most_epoch=115)
    assert progress.describe(few, None) == "2 running at epoch 98 to 115 of 200, 0 failed"
    assert progress.describe(replace(few, least_epoch=115), None) == "2 running at epoch 115 of 200, 0 failed"
    assert progress.describe(replace(few, least_epoch=0, most_epoch=0), None) == "2 running, 0 failed"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7.4, "7 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (874_800, "10 days 3 h")]
)
def test_durations_are_readable(seconds: float, shown: str) -> None:
    assert progress.duration(seconds) == shown
