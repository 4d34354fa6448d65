"""Who is taken for silent: only who could have been heard; on both databases."""

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from db import claiming, clock, upkeep
from db.session import Database
from jobs.errors import DatabaseAway, RowDamaged
from jobs.settings import Settings
from scheduler import service
from scheduler.service import Service

AddSweep = Callable[..., int]
LEASE = 20.0


class Stage:
    """A scheduler with a clock that a test turns, and a job whose lease is over."""

    def __init__(self, database: Database, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._database, self._monkeypatch = database, monkeypatch
        self.now, self.up = 1000.0, math.inf  # of the scheduler's clock; since the database's server was started
        turned = SimpleNamespace(time=lambda: self.now, monotonic=time.monotonic)
        monkeypatch.setattr(service, "time", turned)
        monkeypatch.setattr(clock, "seconds_up", lambda session: self.up)
        self.scheduler = Service(database, Settings(home=home, lease_seconds=LEASE))

    def lose(self) -> None:
        """A worker claims a job and is never heard of again."""
        with self._database.writing() as session:
            assert claiming.claim(session, "cpu", "dead", -1.0)

    def rescued(self) -> int:
        return self.scheduler.tick().rescued

    def outage(self) -> None:
        """A round that finds the database away."""

        def away(*_: object) -> None:
            raise DatabaseAway("away")

        with self._monkeypatch.context() as patch:
            patch.setattr(upkeep, "make_due_ready", away)
            with pytest.raises(DatabaseAway):
                self.scheduler.tick()


@pytest.fixture
def stage(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, add_sweep: AddSweep) -> Stage:
    add_sweep(3)
    return Stage(database, tmp_path, monkeypatch)


def test_a_lease_that_has_run_out_is_a_rescue_also_for_a_scheduler_that_has_just_begun(stage: Stage) -> None:
    stage.lose()
    assert stage.rescued() == 1
    stage.lose()
    stage.now += 1.0
    assert stage.rescued() == 1


def test_after_an_outage_everybody_has_a_lease_to_be_heard_again(stage: Stage) -> None:
    stage.rescued()
    stage.lose()
    stage.outage()
    found = []
    for _ in range(22):
        found.append(stage.rescued())
        stage.now += 1.0
    assert (found[:20], sum(found)) == ([0] * 20, 1)


def test_after_a_sleep_of_the_machine_likewise(stage: Stage) -> None:
    stage.rescued()
    stage.lose()
    stage.now += 3600.0
    found = []
    for _ in range(22):
        found.append(stage.rescued())
        stage.now += 1.0
    assert (found[:20], sum(found)) == ([0] * 20, 1)


def test_after_a_restart_of_the_databases_server_likewise_whichever_scheduler_asks(stage: Stage) -> None:
    stage.lose()
    stage.up = LEASE - 1.0
    assert stage.rescued() == 0
    stage.up = LEASE + 1.0
    assert stage.rescued() == 1


def test_a_clock_that_is_set_back_keeps_nobody_from_being_rescued(stage: Stage) -> None:
    stage.outage()
    stage.lose()
    stage.now -= 86_400.0
    assert stage.rescued() == 1


def test_a_server_knows_since_when_it_is_there(database: Database) -> None:
    with database.reading() as session:
        up = clock.seconds_up(session)
        later = clock.seconds_up(session)
    assert (up == math.inf) if database.dialect == "sqlite" else 0.0 < up < later < 86_400.0


def test_refusals_of_the_database_are_no_silence(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an error in each round would keep every job with the dead."""

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(upkeep, "make_due_ready", broken)
        with pytest.raises(RuntimeError):
            stage.scheduler.tick()
    stage.lose()
    assert stage.rescued() == 1


@pytest.mark.parametrize("part", ["_remove_abandoned", "_extend_abandoned", "_tidy", "_ring"])
def test_a_part_of_a_round_that_fails_each_time_stops_neither_rescues_nor_the_other_parts(
    stage: Stage, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    settings = Settings(lease_seconds=LEASE, broker="redis://localhost")
    monkeypatch.setattr(stage.scheduler, "_settings", settings)

    def broken() -> int:
        raise RuntimeError("a bug")

    def goes_well(name: str) -> int:
        done.append(name)
        return 0

    for name in ("_remove_abandoned", "_extend_abandoned", "_tidy", "_ring"):
        went = broken if name == part else partial(goes_well, name)
        monkeypatch.setattr(stage.scheduler, name, went)
    for _ in range(3):
        stage.lose()
        assert stage.rescued() == 1
        stage.now += 1.0
    assert len(done) == 3 * 3


def test_a_database_that_goes_away_in_the_middle_of_a_round_ends_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.rescued()

    def away() -> int:
        stage.now += 65.0  # in vain
        raise DatabaseAway("away")

    with monkeypatch.context() as patch:
        patch.setattr(stage.scheduler, "_extend_abandoned", away)
        with pytest.raises(DatabaseAway):
            stage.scheduler.tick()
    stage.lose()
    assert stage.rescued() == 0, "nobody could have been heard meanwhile"


def test_a_damaged_row_is_no_database_that_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    def damaged() -> None:
        stop.set()
        raise RowDamaged("damaged")

    monkeypatch.setattr(stage.scheduler, "tick", damaged)
    stage.scheduler.run(stop)
    rounds = stage.scheduler.pulse.registry.get_sample_value
    assert rounds("gridyard_rounds_total", {"end": "error"}) == 1
    assert rounds("gridyard_rounds_total", {"end": "database away"}) == 0
