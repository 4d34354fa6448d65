"""The chaos harness itself: its plan follows from the seed, and its judges can find fault."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import checkpoints, verdict
from tests.chaos.audit import Change
from tests.chaos.checkpoints import Checkpoints
from tests.chaos.faults import BELLS, BROKER, DATABASE, MIX, Fault, Pace, plan
from tests.chaos.sweeps import Came
from tests.chaos.timeline import Timeline

PACE = Pace(pause=2.5, lease=4.0, broker_away=20.0, database_away=30.0, bells=10.0, patience=0.0)
CAME = Came(state="succeeded", score=0.5, metrics={}, best_epoch=3, epochs=4, model="ab", history=[{"epoch": 1}])
CELL = ("sweep", 0, 7)
CLAIM = Change(
    at=1.0, writer="a/1", job=1, old_state="ready", state="running", attempt=1, old_worker=None, worker="a", epoch=0,
    result=None,
)  # fmt: skip
RESULT = replace(CLAIM, at=3.0, old_state="running", state="succeeded", old_worker="a", worker=None, epoch=4)


def test_a_plan_follows_from_its_seed_and_has_every_kind_of_fault() -> None:
    faults = plan(5, 220, PACE, MIX)
    assert faults == plan(5, 220, PACE, MIX)
    assert faults != plan(6, 220, PACE, MIX)
    assert len(faults) == 220
    assert {one.fault for one in faults} == set(Fault)
    assert [one.at for one in faults] == sorted(one.at for one in faults)


def test_a_server_that_is_away_is_not_stopped_once_more() -> None:
    for seed in range(50):
        for group in (BROKER, DATABASE, BELLS):
            there_from = 0.0
            for one in plan(seed, 60, PACE, MIX):
                if one.fault in group:
                    assert one.at >= there_from
                    there_from = one.at + one.seconds


def test_results_that_are_missing_unwanted_or_others_are_found() -> None:
    other = replace(CAME, score=0.5000000001, history=[{"epoch": 2}])
    texts = [[one.text for one in verdict.of_results({CELL: (1, CAME)}, found)] for found in ({}, {CELL: (9, other)})]
    assert texts[0] == ["missing: cell 0, seed 7 of 'sweep'"]
    assert "score 0.5000000001 instead of 0.5; history" in texts[1][0]
    assert list(verdict.of_results({CELL: (1, CAME)}, {CELL: (9, CAME)})) == []
    assert [one.text[:13] for one in verdict.of_results({}, {CELL: (9, CAME)})] == ["nobody wanted"]


def test_a_write_by_who_does_not_hold_the_job_is_found() -> None:
    def told(*changes: Change) -> list[str]:
        return [one.text for one in verdict._of_job(1, changes)]

    lost = replace(CLAIM, at=2.0, old_state="running", state="ready", old_worker="a", worker=None, writer="scheduler/1")
    again = replace(CLAIM, at=2.5, attempt=2, worker="b", writer="b/1")
    assert told(CLAIM, RESULT) == []
    assert told(CLAIM, lost, again, replace(RESULT, attempt=2, writer="b/1")) == []
    assert told(CLAIM, lost, again, replace(RESULT, attempt=2)) == ["a/1 wrote as attempt 2, which b/1 holds"]
    assert told(CLAIM, lost, replace(again, attempt=1)) == ["attempt 1 follows attempt 1"]
    twice = told(CLAIM, RESULT, replace(RESULT, old_state="succeeded"))
    assert len(twice) == 1
    assert "its final row was changed by a/1" in twice[0]


def test_who_delivers_from_the_spool_may_write_for_another_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "b.log"
    log.write_text("INFO workers.delivery: job 1: attempt 1, from the spool: succeeded (0.3 s)\n")
    by_another = replace(RESULT, writer="b/4")
    assert list(verdict._of_job(1, [CLAIM, by_another], verdict.deliveries([log]))) == []
    for said in ([], [(1, 2, "b")], [(2, 1, "b")], [(1, 1, "c")]):
        assert len(list(verdict._of_job(1, [CLAIM, by_another], said))) == 1


def test_progress_after_a_fault_is_the_next_epoch_or_end() -> None:
    epoch = replace(CLAIM, at=2.0, old_state="running", epoch=2)
    timeline = Timeline([CLAIM, epoch, RESULT])
    (held,) = timeline.running(2.5, frozenset({"a"}))
    assert (held.job, held.attempt, held.since, held.until) == (1, 1, 1.0, 3.0)
    assert timeline.running(2.5, frozenset({"b"})) == []
    assert [timeline.next_progress(1, at) for at in (0.5, 2.5, 3.5)] == [2.0, 3.0, None]


def test_that_nobody_watches_the_store_any_more_is_a_complaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(self: Checkpoints) -> None:
        raise RuntimeError("too many open files")

    monkeypatch.setattr(checkpoints, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(Checkpoints, "_look", stumble)
    watch = Checkpoints(tmp_path)
    watch._thread.join(10)
    assert watch.damaged == ["nobody watched the store to the end: RuntimeError('too many open files')"]
