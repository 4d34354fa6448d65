"""`gridyard clean` shows what could go, frees it when told to, and nothing else; `status` shows what is there."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

import gridyard
from db import claiming, ending, workers
from gridyard import cleaning, cli, usage
from gridyard.client import Yard
from jobs.errors import NotFound
from jobs.history import History
from jobs.spec import BestModel, Failure, TrainResult
from jobs.states import FailureReason
from jobs.store import Store, best_path

Succeed = Callable[..., list[int]]


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setenv("GRIDYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GRIDYARD_STORE", str(tmp_path / "store"))
    (tmp_path / "home").mkdir()
    yard = gridyard.connect()
    yield yard
    yard.database.close()


@pytest.fixture
def store(yard: Yard) -> Store:
    return Store(yard.settings.store_url)


@pytest.fixture
def succeed(yard: Yard, store: Store) -> Succeed:
    """succeed(sweep, 0.9, 0.8): its next jobs succeed with these scores, models of 1000 bytes in the store."""

    def act(sweep: int, *scores: float) -> list[int]:
        with yard.database.writing() as session:
            claims = claiming.claim(session, "cpu", "w", 60.0, limit=len(scores), first=sweep)
            for claim, score in zip(claims, scores, strict=True):
                path = best_path(claim.job, 1)
                store.write(path, b"x" * 1_000)
                facts: dict[str, Any] = {"metrics": {}, "best_epoch": 1, "epochs": 1, "seconds": 1.0}
                best = BestModel(sha256="0", size=1_000, path=path)
                result = TrainResult(job=claim.job, score=score, history=History.of([]), best=best, **facts)
                assert ending.finish(session, [(claim, result)])
        return [claim.job for claim in claims]

    return act


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.app, [*arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result


def cleaned(*arguments: str) -> dict[str, tuple[int, int]]:
    """Kind → files and bytes."""
    found = json.loads(run("clean", *arguments, "--json").stdout)
    assert found["files"] == sum(one["files"] for one in found["kinds"])
    return {one["kind"]: (one["files"], one["bytes"]) for one in found["kinds"] if one["files"]}


def paths(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_freed_before_that_is_said(yard: Yard, store: Store, succeed: Succeed, tmp_path: Path) -> None:
    yard.submit(task="iris", seeds=2, keep={"best": "all"})
    first, second = succeed(1, 0.5, 0.6)
    store.write(f"{first}/1/last.safetensors", b"y" * 10)
    before = paths(tmp_path / "store")
    assert cleaned() == {"checkpoints": (1, 10)}
    assert "nothing was freed; `gridyard clean --yes` frees 1 files, 10 bytes" in run("clean").stdout
    assert paths(tmp_path / "store") == before
    assert "freed: 1 files, 10 bytes" in run("clean", "--yes").stdout
    assert paths(tmp_path / "store") == {best_path(first, 1), best_path(second, 1)}
    assert "there is nothing to free" in run("clean").stdout


def test_files_of_jobs_that_may_go_on_are_never_touched(yard: Yard, store: Store, tmp_path: Path) -> None:
    yard.submit(task="iris", seeds=4)
    with yard.database.writing() as session:
        running, ready, failed = claiming.claim(session, "cpu", "w", 60.0, limit=3)
        for claim in (running, ready, failed):
            store.write(f"{claim.job}/1/last.safetensors", b"y")
        store.write(f"{failed.job}/2/last.safetensors", b"of an attempt that begins at this moment")
        ending.let_go(session, [(ready, None)])
        ending.let_go(session, [(failed, Failure(job=failed.job, reason=FailureReason.DIVERGED, error="nan"))])
    assert cleaned("--yes") == {"checkpoints": (1, 1)}
    assert paths(tmp_path / "store") == {
        *(f"{job}/1/last.safetensors" for job in (running.job, ready.job)),
        f"{failed.job}/2/last.safetensors",
    }


def test_models_below_the_best_go_as_the_sweep_says_or_the_user(yard: Yard, succeed: Succeed, tmp_path: Path) -> None:
    yard.submit(task="iris", seeds=4, keep={"best": 3})
    yard.submit(task="iris", seeds=2, keep={"best": "all"})
    worst, third, second, first = succeed(1, 0.1, 0.2, 0.3, 0.4)
    kept = succeed(2, 0.01, 0.02)
    assert cleaned() == {"models": (1, 1_000)}
    assert cleaned("1", "--best", "1") == {"models": (3, 3_000)}
    assert cleaned("--yes") == {"models": (1, 1_000)}
    assert cleaned("1", "--best", "1", "--yes") == {"models": (2, 2_000)}
    assert paths(tmp_path / "store") == {best_path(job, 1) for job in (first, *kept)}
    for job in (worst, third, second):
        with pytest.raises(NotFound, match=rf"the model of job {job} was freed .* `gridyard repeat {job}`"):
            yard.job(job).content()
    assert [row.job for row in yard.ranked(sweep=1)] == [first, second, third, worst]


def test_what_was_shown_is_freed_by_the_command_that_is_told(yard: Yard, succeed: Succeed) -> None:
    yard.submit(task="iris", seeds=3)
    succeed(1, 0.1, 0.2, 0.3)
    shown = run("clean", "1", "--best", "1").stdout
    assert "nothing was freed; `gridyard clean 1 --best 1 --yes` frees 2 files" in shown
    elsewhere = run("clean", "1", "--best", "1", "--db", yard.settings.db_url).stdout
    assert f"`gridyard clean 1 --best 1 --yes --db {yard.settings.db_url}` frees" in elsewhere


def test_a_sweep_that_keeps_its_last_checkpoints_keeps_them(yard: Yard, store: Store, succeed: Succeed) -> None:
    yard.submit(task="iris", keep={"last": True})
    (job,) = succeed(1, 0.5)
    store.write(f"{job}/1/last.safetensors", b"y")
    assert cleaned("--yes") == {}


def test_files_of_jobs_that_are_gone_go_and_those_that_are_not_ours_stay(
    yard: Yard, store: Store, tmp_path: Path
) -> None:
    yard.submit(task="iris", seeds=3).cancel()
    yard.sweep(1).delete()
    ours = ["2/1/last.safetensors", "3/1/best.safetensors"]
    others = ["readme.txt", "3/notes.txt", "3/mine/1.txt", "abc/1/x", "007/1/x"]
    for path in (*ours, *others):
        (tmp_path / "store" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / path).write_bytes(b"123")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1").mkdir()
    (tmp_path / "elsewhere" / "1" / "x").write_text("mine")
    (tmp_path / "store" / "1").symlink_to(tmp_path / "elsewhere")
    assert cleaned("--yes") == {"orphans": (2, 6)}
    assert paths(tmp_path / "store") - {"1/1/x"} == set(others)
    assert (tmp_path / "elsewhere" / "1" / "x").read_text() == "mine"


def test_the_store_of_another_database_is_left_alone(yard: Yard, store: Store, tmp_path: Path) -> None:
    store.write("1/1/last.safetensors", b"y")
    found = cleaning.clean(yard, yes=True)
    (orphans,) = (one for one in found.kinds if one.kind == "orphans")
    assert (orphans.files, "job 1 was never in this database" in orphans.note) == (0, True)
    assert paths(tmp_path / "store") == {"1/1/last.safetensors"}


def test_files_of_another_database_stay_while_something_else_is_freed(
    yard: Yard, store: Store, succeed: Succeed, tmp_path: Path
) -> None:
    yard.submit(task="iris", seeds=3)
    yard.sweep(1).cancel()
    yard.sweep(1).delete()
    yard.submit(task="iris")
    (job,) = succeed(2, 0.5)
    for other in (job - 2, 5_000):  # one that this database might have had, and one that it never had
        store.write(f"{other}/1/last.safetensors", b"another's")
    store.write(f"{job}/1/last.safetensors", b"y")
    assert cleaned("--yes") == {"checkpoints": (1, 1)}
    assert paths(tmp_path / "store") == {
        best_path(job, 1),
        *(f"{other}/1/last.safetensors" for other in (job - 2, 5_000)),
    }


def test_the_cache_goes_but_what_others_put_there_and_never_while_a_worker_runs(yard: Yard, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    ours = [
        "mnist-139b9b54bc0606d3.npy",
        ".mnist-139b9b54bc0606d3.npy.lock",
        ".tmp-iris-1.safetensors",
        "packs/" + 64 * "a" + ".json",
    ]
    others = ["mnist-notes.txt", "photo.npy", ".bashrc", "packs/mine.json"]
    for path in (*ours, *others):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"1")
    with yard.database.writing() as session:
        workers.register(session, "w", "cpu", 1, {"host": "a container of its own"})
    assert cleaned("--yes") == {}
    with yard.database.writing() as session:
        workers.stop(session, "w")
    assert cleaned("--yes") == {"cache": (4, 4)}
    assert paths(folder) == set(others)


def test_ends_that_wait_in_the_spool_go_only_when_they_count_no_more(yard: Yard, tmp_path: Path) -> None:
    yard.submit(task="iris", seeds=2)
    with yard.database.writing() as session:
        running, over = claiming.claim(session, "cpu", "w", 60.0, limit=2)
        ending.let_go(session, [(over, None)])
    uid = running.spec.sweep_uid
    folder = tmp_path / "home" / "spool"
    folder.mkdir()
    going = [f"{uid}.{over.job}.1.json", f"{uid}.{running.job}.9.json", f"{uid}.{running.job}.1.json.broken"]
    stay = [f"{uid}.{running.job}.1.json", "0-another-database.1.1.json", ".tmp-young", "letter.json"]
    for name in (*going, *stay, ".tmp-old"):
        (folder / name).write_text("x")
    os.utime(folder / ".tmp-old", (0, 0))
    assert cleaned("--yes") == {"spool": (4, 4)}
    assert paths(folder) == set(stay)


@pytest.mark.parametrize("arguments", [("--best", "3"), ("1", "--best", "-1"), ("7",)])
def test_what_makes_no_sense_is_told(yard: Yard, arguments: tuple[str, ...]) -> None:
    yard.submit(task="iris")
    result = CliRunner().invoke(cli.app, ["clean", *arguments])
    assert result.exit_code != 0
    assert "--best is a number from 0 on" in str(result.exception) or "there is no sweep 7" in str(result.exception)


def test_a_status_tells_what_is_on_disk(yard: Yard, succeed: Succeed, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.submit(task="iris", seeds=3)
    succeed(1, 0.5, 0.6)
    one = json.loads(run("status", "1", "--json").stdout)
    assert one["models"] == {"kept": 2, "bytes": 2_000, "more": False}
    assert (one["disk"]["store_files"], one["disk"]["store_bytes"], one["disk"]["note"]) == (2, 2_000, "")
    assert one["disk"]["database_bytes"] > 10_000
    assert json.loads(run("status", "--json").stdout)[0]["models"]["kept"] == 2
    assert "2.0 kB in 2 files" in run("status").stdout
    assert usage.disk(yard, seconds=0.0).store_more
    monkeypatch.setattr("db.retention.MOST_COUNTED", 2)
    assert ">2, >2.0 kB" in run("status").stdout


def test_a_store_of_objects_is_not_listed_for_a_status(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.submit(task="iris")
    monkeypatch.setenv("GRIDYARD_STORE", "memory://x")
    assert "not counted: listing it takes requests" in run("status").stdout


def test_a_freed_model_is_told_of_by_all_who_need_it(yard: Yard, succeed: Succeed, tmp_path: Path) -> None:
    yard.submit(task="iris", seeds=2, keep={"best": 1})
    worse, _ = succeed(1, 0.1, 0.9)
    cleaning.clean(yard, yes=True)
    for arguments in (("predict", str(worse), "5,3,1,1"), ("export", str(worse), str(tmp_path / "out"))):
        result = CliRunner().invoke(cli.app, arguments)
        assert isinstance(result.exception, NotFound)
        assert f"`gridyard repeat {worse}` trains it again" in str(result.exception)
    assert f"that were freed: its sweep keeps better ones; `gridyard repeat {worse}`" in run("show", str(worse)).stdout


def test_a_model_that_is_freed_while_it_is_read_is_told_of_as_freed(
    yard: Yard, succeed: Succeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.submit(task="iris", seeds=2, keep={"best": 1})
    worse, _ = succeed(1, 0.1, 0.9)
    read = Store.read

    def late(store: Store, path: str) -> bytes:
        cleaning.clean(yard, yes=True)
        return read(store, path)

    monkeypatch.setattr(Store, "read", late)
    with pytest.raises(NotFound, match="was freed"):
        yard.job(worse).content()


def test_old_sweeps_that_never_said_what_to_keep_keep_all(yard: Yard, succeed: Succeed) -> None:
    yard.submit(task="iris", seeds=2)
    with yard.database.writing() as session:
        session.execute(text("UPDATE sweeps SET spec = json_remove(spec, '$.keep')"))
    succeed(1, 0.1, 0.2)
    assert cleaned("--yes") == {}
