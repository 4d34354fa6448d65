"""`gridyard delete`: asks, archives first, whole or not at all, then deletes."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from typer.testing import CliRunner, Result

import gridyard
from db import archive, claiming, ending
from gridyard import cli
from gridyard.cli.common import plain
from gridyard.client import Yard
from gridyard.sweep import Sweep
from jobs.errors import InputError
from jobs.history import History
from jobs.spec import BestModel, EpochReport, TrainResult


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.setenv("GRIDYARD_HOME", str(tmp_path))
    return gridyard.connect()


@pytest.fixture
def finished(yard: Yard) -> Sweep:
    """A sweep of which one job has succeeded and one has diverged before it was cancelled."""
    sweep = yard.submit(task="iris", grid={"lr": [0.1, 0.2]}, epochs=2)
    with yard.database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "w", 60.0)
        epochs = [EpochReport(job=claim.job, epoch=n, metrics={"val_loss": 1 / n}, seconds=0.5) for n in (1, 2)]
        ended: dict[str, Any] = {"score": 0.9, "metrics": {"val_accuracy": 0.9}, "best_epoch": 2, "epochs": 2}
        ended |= {"seconds": 1.0, "history": History.of(epochs), "environment": {"device": "cpu"}}
        result = TrainResult(job=claim.job, best=BestModel(sha256="0", size=1, content=b"1"), **ended)
        assert ending.finish(session, [(claim, result)])
    sweep.cancel()
    return sweep


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["delete", *arguments], catch_exceptions=True)


def lines(file: Path) -> list[Any]:
    with gzip.open(file, "rt", encoding="utf-8") as text:
        return [json.loads(line) for line in text]


def error_of(result: Result) -> str:
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


def test_a_sweep_is_deleted_when_that_is_said(yard: Yard, finished: Sweep) -> None:
    result = run("1", "--yes")
    assert (result.exit_code, result.output) == (0, "sweep 1: 2 jobs deleted\n")
    assert yard.sweeps() == []


def test_where_nobody_can_be_asked_nothing_is_deleted(yard: Yard, finished: Sweep) -> None:
    assert error_of(run("1")).startswith("delete sweep 1, iris: 2 jobs with their results and models? Say --yes")
    assert len(yard.sweeps()) == 1


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_on_a_terminal_the_user_is_asked(
    yard: Yard, finished: Sweep, answer: str, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridyard.cli.control._can_ask", lambda: True)
    CliRunner().invoke(cli.app, ["delete", "1"], input=answer)
    assert len(yard.sweeps()) == left


def test_an_open_sweep_is_refused_before_anything_is_written(yard: Yard, tmp_path: Path) -> None:
    yard.submit(task="iris", grid={"lr": [0.1]})
    assert "sweep 1 is open; `gridyard cancel 1` first" in error_of(run("1", "--yes", "--archive", str(tmp_path / "a")))
    assert not (tmp_path / "a").exists()


def test_an_archive_has_the_sweep_and_all_that_is_known_of_each_job(finished: Sweep, tmp_path: Path) -> None:
    jobs = [plain(finished.yard.job(job).details()) for job in (1, 2)]
    state = plain(finished.status())
    file = tmp_path / "old.jsonl.gz"
    assert run("1", "--yes", "--archive", str(file)).output == f"sweep 1: 2 jobs deleted, archived in {file}\n"
    first, *rest = lines(file)
    assert rest == [{"kind": "job", **job} for job in jobs]
    assert rest[0]["history"][1]["val_loss"] == 0.5
    assert rest[0]["environment"] == {"device": "cpu"}
    assert first["kind"] == "sweep"
    assert first["spec"]["grid"] == {"lr": [0.1, 0.2]}
    assert {key: first[key] for key in ("name", "state", "total", "finished_at")} == {
        key: state[key] for key in ("name", "state", "total", "finished_at")
    }


def test_pandas_reads_an_archive(finished: Sweep, tmp_path: Path) -> None:
    finished.delete(archive=tmp_path / "old.jsonl.gz")
    table = pandas.read_json(tmp_path / "old.jsonl.gz", lines=True)
    jobs = table[table.kind == "job"]
    assert list(jobs.state) == ["succeeded", "cancelled"]
    assert jobs.score.iloc[0] == 0.9


def test_an_archive_of_many_jobs_has_each_once(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "AT_ONCE", 4)
    sweep = yard.submit(task="iris", grid={"lr": [0.1, 0.2, 0.3, 0.4]}, seeds=3)
    sweep.cancel()
    sweep.delete(archive=tmp_path / "a")
    _, *jobs = lines(tmp_path / "a")
    assert [(job["cell"], job["seed"]) for job in jobs] == [(cell, seed) for cell in range(4) for seed in range(3)]


@pytest.mark.parametrize(
    ("place", "message"),
    [("there", "is there already; name another file"), ("there/archive", "cannot write the archive")],
)
def test_an_archive_that_cannot_be_written_is_told_and_nothing_is_deleted(
    yard: Yard, finished: Sweep, tmp_path: Path, place: str, message: str
) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(InputError, match=message):
        finished.delete(archive=tmp_path / place)
    assert (tmp_path / "there").read_text() == "mine"
    assert len(yard.sweeps()) == 1


def test_an_archive_in_a_folder_that_is_not_there_is_refused_and_the_folder_not_made(
    yard: Yard, finished: Sweep, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*backup; make or mount it.* Nothing was deleted"):
        finished.delete(archive=tmp_path / "backup" / "a.jsonl.gz")
    assert not (tmp_path / "backup").exists()
    assert len(yard.sweeps()) == 1


def test_an_archive_that_is_interrupted_leaves_no_file_and_deletes_nothing(
    yard: Yard, finished: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Any:
        yield {"kind": "sweep"}
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "records", interrupted)
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        finished.delete(archive=tmp_path / "a")
    assert set(tmp_path.iterdir()) == before
    assert len(yard.sweeps()) == 1


def test_a_sweep_that_went_on_while_it_was_archived_is_not_deleted(
    yard: Yard, finished: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: Callable[..., Any] = archive.records

    def disturbed(*arguments: Any) -> Any:
        yield from records(*arguments)
        finished.resume()
        finished.cancel()

    monkeypatch.setattr(archive, "records", disturbed)
    with pytest.raises(InputError, match="went on while it was archived; nothing was deleted"):
        finished.delete(archive=tmp_path / "a")
    assert len(yard.sweeps()) == 1


def test_what_is_half_deleted_is_not_archived_and_can_be_deleted_again(
    yard: Yard, finished: Sweep, tmp_path: Path
) -> None:
    from db import removal

    with yard.database.writing() as session:
        removal.mark(session, finished.id)
    with pytest.raises(InputError, match="part of sweep 1 is deleted already"):
        finished.delete(archive=tmp_path / "a")
    finished.delete()
    assert run("1", "--yes").exit_code != 0
