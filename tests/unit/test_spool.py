"""The spool: an end that waits on disk is read as it was put there, or not at all."""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.history import History
from jobs.spec import Answer, BestModel, Claim, EpochReport, Failure, JobSpec, Objective, Stopped, TrainResult
from jobs.states import FailureReason
from workers import spool
from workers.spool import Spool
from workers.watch import Watch

UID = "0123456789abcdef0123456789abcdef"


def claim(job: int = 7, attempt: int = 2) -> Claim:
    objective = Objective(metric="val_loss", mode="min")
    params = {"lr": 0.1, "hidden": [16, 8], "scheduler": {"name": "step"}, "clip_norm": None}
    spec = JobSpec(job=job, sweep=1, sweep_uid=UID, task="sine", params=params, seed=3, epochs=2, objective=objective)
    return Claim(spec=spec, worker="host:1:ab", attempt=attempt, time_limit=2.5, pack=3)


def result(job: int = 7, **changes: Any) -> TrainResult:
    reports = [EpochReport(job=job, epoch=n, metrics={"val_loss": 1 / 3, "lr": math.nan}, seconds=0.1) for n in (1, 2)]
    content = b"\x00\xff\nmodel"
    best = BestModel(sha256=hashlib.sha256(content).hexdigest(), size=len(content), content=content)
    facts: dict[str, Any] = {"score": 1 / 3, "metrics": {"val_loss": math.inf, "x": 5e-324}, "best_epoch": 2}
    facts |= {"epochs": 2, "seconds": 0.2, "history": History.of(reports), "environment": {"device": "cpu"}}
    return TrainResult(job=job, best=best, **{**facts, **changes})


@pytest.fixture
def here(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


class TestWhole:
    def test_a_result_is_read_as_it_was_put_to_the_last_digit(self, here: Spool) -> None:
        path = here.put(Watch(claim(), outcome=result()))
        (waiting,) = here.waiting()
        assert (waiting.path, waiting.uid, waiting.job, waiting.attempt) == (path, UID, 7, 2)
        end = here.read(waiting)
        assert (end.claim, repr(end.result), end.failure, end.reports) == (claim(), repr(result()), None, [])
        assert repr(end.watch().outcome) == repr(result())

    def test_a_failure_and_a_job_that_is_given_back_wait_with_their_epochs(self, here: Spool) -> None:
        report = EpochReport(job=7, epoch=1, metrics={"val_loss": math.inf}, seconds=0.1)
        failure = Failure(job=7, reason=FailureReason.DIVERGED, error="it did", epoch=1)
        here.put(Watch(claim(attempt=1), outcome=failure, reports=[report]))
        here.put(Watch(claim(), outcome=Stopped(job=7, answer=Answer.GIVE_BACK, epoch=1), reports=[report]))
        failed, given_back = (here.read(waiting) for waiting in here.waiting())
        assert (failed.failure, failed.reports) == (failure, [report])
        assert isinstance(given_back.watch().outcome, Stopped)
        assert given_back.watch().reports == [report]

    def test_nobody_else_of_the_machine_reads_it_and_no_half_of_it_is_left(self, here: Spool) -> None:
        here.put(Watch(claim(), outcome=result()))
        here.put(Watch(claim(), outcome=result()))  # once more changes nothing
        assert here.folder.stat().st_mode & 0o777 == 0o700
        assert len(list(here.folder.iterdir())) == 1

    def test_what_is_removed_is_gone_and_the_second_who_does_it_learns_that(self, here: Spool) -> None:
        here.put(Watch(claim(), outcome=result()))
        assert [here.remove(claim()), here.remove(claim()), here.waiting()] == [True, False, []]

    def test_a_folder_that_cannot_be_written_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "spool").write_text("a file")
        with pytest.raises(OSError, match="spool"):
            Spool(tmp_path / "spool").put(Watch(claim(), outcome=result()))

    def test_an_end_that_nobody_would_read_is_not_written(self, here: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(spool, "LARGEST_BYTES", 500)
        with pytest.raises(ValueError, match="more than the 500"):
            here.put(Watch(claim(), outcome=result()))


def body_changed(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    """Another body, with a checksum that fits: somebody has taken trouble."""

    def changed(content: bytes) -> bytes:
        body = json.dumps(change(json.loads(content.split(b"\n")[1]))).encode()
        head = {"format": spool.FORMAT, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        return json.dumps(head).encode() + b"\n" + body + b"\n"

    return changed


def with_best(**changes: Any) -> Callable[[bytes], bytes]:
    return body_changed(lambda end: end | {"result": end["result"] | {"best": end["result"]["best"] | changes}})


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[:-100],
    "one bit": lambda content: content[:-50] + bytes([content[-50] ^ 1]) + content[-49:],
    "no JSON": lambda content: b"\x80\x04pickle\n",
    "another format": lambda content: content.replace(b'"format": 1', b'"format": 2', 1),
    "a list": lambda content: b"[1]\n[]\n",
    "nothing in it": body_changed(lambda end: {}),
    "a model elsewhere": with_best(content=None, path="../../etc/passwd"),
    "another job's model": with_best(content=None, path="8/2/best.safetensors"),
    "a model in two places": with_best(path="7/2/best.safetensors"),
    "a model of another checksum": with_best(sha256="0" * 64),
    "another job": body_changed(lambda end: end | {"result": end["result"] | {"job": 8}}),
    "another attempt": body_changed(lambda end: end | {"claim": end["claim"] | {"attempt": 3}}),
    "numbers that are text": body_changed(lambda end: end | {"result": end["result"] | {"score": "x"}}),
    "half a column": body_changed(
        lambda end: end | {"result": end["result"] | {"history": {"names": ["epoch"], "content": "AAA="}}}
    ),
}


class TestNotTrusted:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_what_is_not_whole_or_not_the_attempts_is_refused(
        self, here: Spool, damage: Callable[[bytes], bytes]
    ) -> None:
        path = here.put(Watch(claim(), outcome=result()))
        path.write_bytes(damage(path.read_bytes()))
        (waiting,) = here.waiting()
        with pytest.raises(ValueError):  # noqa: PT011 (pydantic's errors are ValueErrors too)
            here.read(waiting)

    def test_a_file_larger_than_any_end_is_not_even_read(self, here: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        here.put(Watch(claim(), outcome=result()))
        monkeypatch.setattr(spool, "LARGEST_BYTES", 100)
        (waiting,) = here.waiting()
        with pytest.raises(ValueError, match="more than the 100"):
            here.read(waiting)

    def test_links_folders_pipes_and_other_names_are_no_ends(self, here: Spool, tmp_path: Path) -> None:
        path = here.put(Watch(claim(), outcome=result()))
        kept = tmp_path / "elsewhere"
        path.rename(kept)
        path.symlink_to(kept)
        os.mkfifo(here.folder / f"{UID}.8.1.json")
        (here.folder / f"{UID}.9.1.json").mkdir()
        for name in (f"{UID}.7.0.json", f"{UID}.07.1.json", "..7.1.json", f"{UID}.7.1.json.broken", ".tmp-1", "x"):
            (here.folder / name).write_bytes(kept.read_bytes())
        assert here.waiting() == []

    def test_a_file_that_becomes_a_link_after_the_look_is_not_followed(self, here: Spool, tmp_path: Path) -> None:
        path = here.put(Watch(claim(), outcome=result()))
        (waiting,) = here.waiting()
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match=path.name):
            here.read(waiting)

    def test_a_name_that_would_lead_elsewhere_is_never_written(self, here: Spool) -> None:
        spec = replace(claim().spec, sweep_uid="../x")
        with pytest.raises(ValueError, match="name"):
            here.put(Watch(replace(claim(), spec=spec), outcome=result()))

    def test_what_is_set_aside_stays_and_is_looked_at_no_more(
        self, here: Spool, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = here.put(Watch(claim(), outcome=result()))
        (waiting,) = here.waiting()
        here.set_aside(waiting, "it is odd")
        assert (here.waiting(), path.with_name(path.name + ".broken").exists()) == ([], True)
        assert "it is odd" in caplog.text
