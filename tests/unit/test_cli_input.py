"""Wrong input and JSON, by the whole command line in this process: many cases, each in milliseconds."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from db import claiming, ending, migrate, workers
from db.session import Database
from gridyard import cli, connect
from gridyard.cli import common, here
from jobs import data
from jobs.errors import DataMissing
from jobs.history import History
from jobs.settings import Settings
from jobs.spec import Failure, TrainResult
from jobs.states import FailureReason

GRID = "name: small\ntask: iris\ngrid: {lr: [0.003, 0.01], dropout: [0.0, 0.2]}\nseeds: 3\nepochs: 2\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a sweep file."""
    (tmp_path / "grid.yaml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gridyard(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs the command; its exit code."""
    monkeypatch.setattr(sys, "argv", ["gridyard", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


HUGE = "9" * 20
ERROR, DIVERGED = FailureReason.ERROR, FailureReason.DIVERGED

WRONG = {
    "an unknown command": (["frobnicate"], "No such command 'frobnicate'"),
    "no sweep file": (["submit"], "Missing argument"),
    "a sweep file that is not there": (["submit", "nothing.yaml"], "nothing.yaml: there is no such file"),
    "a wrong value in a sweep file": (["submit", "grid.yaml", "--set", "fixed.lr=-1"], "lr"),
    "a wrong --set": (["run", "grid.yaml", "--set", "epochs"], "--set epochs"),
    "an unknown sweep": (["status", "12"], "there is no sweep 12"),
    "a sweep that is no number": (
        ["status", "first"],
        'gridyard: SWEEP was given "first"; allowed is a whole number. `gridyard status --help` tells more',
    ),
    "a job to compare that is no number": (["compare", "1", "b"], 'JOB was given "b"; allowed is a whole number'),
    "an unknown option": (["status", "--fro"], "gridyard: No such option: --fro"),
    "an option without its value": (["status", "--db"], "gridyard: Option '--db' requires an argument"),
    "an unknown sweep to watch": (["watch", "12"], "there is no sweep 12"),
    "an unknown sweep to cancel": (["cancel", "12"], "there is no sweep 12"),
    "an unknown sweep to resume": (["resume", "12"], "there is no sweep 12"),
    "an unknown sweep to retry": (["retry", "12"], "there is no sweep 12"),
    "an unknown sweep to extend": (["extend", "12", "--seeds", "3"], "there is no sweep 12"),
    "an unknown sweep to limit": (["limit", "12", "--none"], "there is no sweep 12"),
    "an unknown sweep to go first": (["priority", "12", "1"], "there is no sweep 12"),
    "an unknown job": (["show", "12"], "there is no job 12"),
    "an unknown task": (["tasks", "irsi"], 'did you mean "iris"'),
    "a leaderboard of an unknown task": (["leaderboard", "--task", "irsi"], 'did you mean "iris"'),
    "a leaderboard of an unknown parameter": (["leaderboard", "--where", "dropuot=1"], 'did you mean "dropout"'),
    "a condition given twice": (["leaderboard", "--where", "lr=0.01", "--where", "lr=0.03"], "lr is given twice"),
    "a condition with a tag": (["leaderboard", "--where", "lr=!!bool foo"], "has the tag !!bool"),
    "a condition on a date": (["leaderboard", "--where", "lr=2020-01-01"], "where lr: was given the date 2020-01-01"),
    "a condition on what is no number": (["leaderboard", "--where", "lr=.nan"], "where lr: was given nan"),
    "a condition on a huge number": (["leaderboard", "--where", f"batch_size={HUGE}"], "too large to store"),
    "a condition with a key that stands twice": (["leaderboard", "--where", "scheduler={a: 1, a: 2}"], "stands twice"),
    "a leaderboard of hugely many rows": (["leaderboard", "--top", HUGE], "top is a whole number from 1"),
    "a leaderboard of a huge sweep": (["leaderboard", HUGE], f"there is no sweep {HUGE}"),
    "a huge sweep": (["status", HUGE], f"there is no sweep {HUGE}"),
    "a huge job": (["show", HUGE], f"there is no job {HUGE}"),
    "a tag in a --set": (["submit", "grid.yaml", "--set", "epochs=!!int ''"], "has the tag !!int"),
    "a condition without a value": (["leaderboard", "--where", "lr"], "--where lr"),
    "a condition that no job can meet": (["leaderboard", "--where", "lr=abc"], 'where lr: was given "abc" (text)'),
    "a condition on a word that is none": (["leaderboard", "--where", "optimizer=adm"], 'did you mean "adam"?'),
    "a queue with a space": (["worker", "--queue", "a b"], 'queue was given "a b"; allowed is a text of 1 to 64'),
    "two queues": (["worker", "--queue", "a,b"], 'queue was given "a,b"; allowed is a text of 1 to 64'),
    "JSON and CSV": (["leaderboard", "--json", "--csv"], "--json and --csv are both given; keep one of them"),
    "a folder as a sweep file": (["run", "."], ".: is a folder; name a sweep file"),
    "a --set without a value": (["run", "grid.yaml", "--set", "epochs="], "--set epochs=: has no value"),
    "a leaderboard by nonsense": (["leaderboard", "--by", "colour"], "by job or by cell"),
    "a leaderboard of a sweep and a task": (["leaderboard", "1", "--task", "iris"], "only one of them"),
    "no worker at all": (
        ["run", "grid.yaml", "--workers", "0"],
        '--workers was given "0"; allowed is a number, at least 1',
    ),
    "a database URL that is none": (["status", "--db", "foo"], "sqlite:///FILE"),
    "a database of another kind": (["status", "--db", "mysql://me@here/db"], "mysql"),
}


@pytest.fixture
def database(folder: Path) -> None:
    """The folder has one, without sweeps."""
    with closing(Database("sqlite:///.gridyard/gridyard.db")) as database:
        migrate.prepare(database)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_ends_with_2_and_one_message(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert gridyard(words, monkeypatch) == 2
    written = capfd.readouterr()
    assert message in written.err
    assert "Traceback" not in written.err
    assert written.out == ""


WRONG_STEERING = {
    "an unknown reason": (
        ["retry", "1", "--reason", "diverge"],
        "there is no reason 'diverge'; did you mean \"diverged\"?",
    ),
    "a reason and a job": (["retry", "1", "--reason", "lost", "--job", "1"], "reasons and jobs are both given"),
    "a job that has not failed": (["retry", "1", "--job", "1"], "job 1 is ready; only a job that has failed"),
    "a job of no sweep": (["retry", "1", "--job", "99"], "sweep 1 has no job 99"),
    "a huge job to retry": (["retry", "1", "--job", HUGE], f"there is no job {HUGE}"),
    "an extension by nothing": (["extend", "1"], "give --grid, --cell, --seeds or --epochs"),
    "values without a name": (["extend", "1", "--grid", "0.3"], "--grid 0.3: is not PARAM=VALUES"),
    "values given twice": (["extend", "1", "--grid", "lr=1", "--grid", "lr=2"], "lr is given twice"),
    "values that cannot be read": (["extend", "1", "--grid", "lr=[0.3"], "--grid lr [0.3: its value"),
    "a value that is refused": (
        ["extend", "1", "--grid", "lr=0.3,-1"],
        "grid.lr[1]: was given -1; allowed is a number",
    ),
    "an unknown parameter": (["extend", "1", "--grid", "rl=0.3"], 'did you mean "lr"'),
    "a cell beside a grid": (["extend", "1", "--cell", "{lr: 0.3}"], "cells: the sweep has a grid"),
    "seeds that are none": (["extend", "1", "--seeds", "few"], "seeds[0]: was given"),
    "fewer epochs": (["extend", "1", "--epochs", "1"], "epochs: was given 1; the sweep has 2"),
    "a limit of nothing": (["limit", "1"], "give --max-running N, or --none"),
    "two limits": (["limit", "1", "--none", "--max-running", "1"], "give --max-running N, or --none"),
    "a limit of no job": (
        ["limit", "1", "--max-running", "0"],
        "max_running was given 0; allowed is a whole number from 1",
    ),
    "a huge priority": (["priority", "1", HUGE], f"priority was given {HUGE}; allowed is a whole number from"),
}


@pytest.mark.parametrize(("words", "message"), WRONG_STEERING.values(), ids=WRONG_STEERING)
def test_wrong_steering_ends_with_2_and_one_message(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    capfd.readouterr()
    test_wrong_input_ends_with_2_and_one_message(words, message, monkeypatch, capfd)


def test_a_sweep_is_steered_and_says_so(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    capfd.readouterr()
    for words, said in (
        (["extend", "1", "--grid", "lr=0.3,0.01", "--seeds", "4"], "sweep 1: 12 jobs more in 2 new cells"),
        (["extend", "1", "--grid", "lr=0.3", "--seeds", "0,3"], "sweep 1: nothing new; it has all that already"),
        (["extend", "1", "--seeds", "[5]", "--json"], '{"sweep": 1, "cells": 0, "jobs": 6, "again": 0}'),
        (["priority", "1", "7"], "sweep 1 has priority 7"),
        (["limit", "1", "--max-running", "2"], "sweep 1 runs at most 2 jobs at once"),
        (["pause", "1", "--now"], "sweep 1 is paused; gridyard resume 1 carries it on"),
        (["limit", "1", "--none"], "sweep 1 has no limit of running jobs"),
    ):
        assert gridyard(words, monkeypatch) == 0
        assert capfd.readouterr().out == said + "\n"
    gridyard(["priority", "1", "-3", "--json"], monkeypatch)
    found = json.loads(capfd.readouterr().out)
    assert (found["priority"], found["max_running"], found["halting"], found["total"]) == (-3, None, True, 30)
    gridyard(["status"], monkeypatch)
    assert "priority" in capfd.readouterr().out


MAKE_NONE = ["status", "watch", "leaderboard", "show", "pause", "cancel", "resume", "retry", "limit", "extend"]


def complete(command: str) -> list[str]:
    """It, with what it needs."""
    words = [command] if command in ("status", "leaderboard") else [command, "1"]
    return words + {"limit": ["--none"], "extend": ["--seeds", "3"]}.get(command, [])


@pytest.mark.parametrize("command", MAKE_NONE)
def test_a_command_that_makes_no_database_says_that_there_is_none_and_leaves_nothing(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = complete(command)
    for more, path in (([], ".gridyard/gridyard.db"), (["--db", "sqlite:///typo/x.db"], "typo/x.db")):
        assert gridyard([*words, *more], monkeypatch) == 2
        assert f"{path}; `gridyard run GRID` or `gridyard submit GRID` makes one" in capfd.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["grid.yaml"]


def test_a_command_that_makes_no_database_leaves_an_empty_one_empty(
    folder: Path, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.db").touch()
    for command in MAKE_NONE:
        for url in ("sqlite:///empty.db", empty_postgres_url):
            assert gridyard([*complete(command), "--db", url], monkeypatch) == 2
            assert "there is no yard at" in capfd.readouterr().err
    assert (folder / "empty.db").stat().st_size == 0
    with closing(Database(empty_postgres_url)) as database, database.reading() as session:
        assert inspect(session.connection()).get_table_names() == []


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "1"],
        ["leaderboard"],
        ["leaderboard", "1", "--by", "cell"],
        ["show", "1"],
        ["tasks"],
        ["tasks", "sine"],
    ],
    ids=" ".join,
)
def test_reading_as_json_writes_json_and_nothing_else(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    capfd.readouterr()
    assert gridyard([*words, "--json"], monkeypatch) == 0
    written = capfd.readouterr()
    assert json.loads(written.out) is not None
    assert written.err == ""


def test_no_password_of_a_url_is_shown() -> None:
    shown = common.with_db("gridyard resume 1", "postgresql://u:hush@here/yard?sslpassword=hush")
    assert shown.startswith("gridyard resume 1 --db ")
    assert "here/yard" in shown
    assert "hush" not in shown
    assert "hush" not in here.places(Settings(store="s3://key:hush@bucket/yard?secret=hush"), "sqlite:///yard.db")


def test_a_retry_of_a_sweep_that_takes_none_says_why(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    with closing(Database("sqlite:///.gridyard/gridyard.db")) as database, database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "worker", 20)
        failure = Failure(job=claim.job, reason=FailureReason.DIVERGED, error="val_loss was nan")
        assert ending.let_go(session, [(claim, failure)])
    gridyard(["pause", "1"], monkeypatch)
    capfd.readouterr()
    assert gridyard(["retry", "1"], monkeypatch) == 2
    assert "sweep 1 is paused: its failed jobs cannot be tried again before gridyard resume 1" in capfd.readouterr().err
    gridyard(["resume", "1", "--no-wait"], monkeypatch)
    assert gridyard(["retry", "1"], monkeypatch) == 0
    assert "1 failed job is ready again" in capfd.readouterr().out


def test_a_resume_for_programs_is_an_object_and_trains_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    gridyard(["cancel", "1", "--json"], monkeypatch)
    cancelled = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert cancelled["jobs"] > 0
    assert gridyard(["resume", "1", "--json"], monkeypatch) == 0
    assert json.loads(capfd.readouterr().out) == cancelled


def test_where_jobs_wait_for_a_worker_that_is_not_there_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    assert "no worker is there; start one, or: gridyard resume 1" in capfd.readouterr().err
    gridyard(["resume", "1", "--no-wait"], monkeypatch)
    assert "no worker is there; start one, or: gridyard resume 1" in capfd.readouterr().err
    told = "12 jobs of queue cpu are ready, and no worker is there; start one: gridyard worker --queue cpu\n"
    for words in (["status"], ["status", "1"]):
        gridyard(words, monkeypatch)
        assert capfd.readouterr().err == told
    with closing(Database("sqlite:///.gridyard/gridyard.db")) as database, database.writing() as session:
        workers.register(session, "w", "cpu", 1, {})
    for words in (["status"], ["resume", "1", "--no-wait"]):
        gridyard(words, monkeypatch)
        assert capfd.readouterr().err == ""


def test_a_table_ends_after_ten_rows_and_what_programs_read_does_not(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    with closing(Database("sqlite:///.gridyard/gridyard.db")) as database, database.writing() as session:
        for claim in claiming.claim(session, "cpu", "worker", 20, limit=12):
            facts: dict[str, Any] = {"score": 0.9, "metrics": {}, "best_epoch": 1, "epochs": 1, "seconds": 1.0}
            result = TrainResult(job=claim.job, history=History.of([]), **facts)
            assert ending.finish(session, [(claim, result)])
    capfd.readouterr()

    def lines(*words: str) -> int:
        assert gridyard(["leaderboard", "1", *words], monkeypatch) == 0
        return len(capfd.readouterr().out.splitlines())

    heading = 2
    assert lines() == heading + 10
    assert lines("--top", "0") == heading + 12
    assert lines("--csv") == 1 + 12
    assert lines("--csv", "--top", "3") == 1 + 3
    gridyard(["leaderboard", "1", "--json"], monkeypatch)
    assert len(json.loads(capfd.readouterr().out)) == 12


def test_a_table_of_no_rows_is_a_reason_and_as_csv_a_header(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert gridyard(["submit", "grid.yaml", "--set", "seeds=1", "--set", "grid={lr: [0.1]}"], monkeypatch) == 0
    assert capfd.readouterr().out == "sweep 1: 1 job of iris\n"
    assert gridyard(["leaderboard", "1"], monkeypatch) == 0
    assert capfd.readouterr().out == "no job of sweep 1 has succeeded yet\n"
    assert gridyard(["leaderboard", "1", "--by", "cell", "--csv"], monkeypatch) == 0
    assert capfd.readouterr().out == "rank,cell,mean,std,n\n"


def test_the_end_of_a_run_counts_the_failed_jobs_and_hints_at_the_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    yard = connect()
    with yard.database.writing() as session:
        for claim in claiming.claim(session, "cpu", "worker", 20, limit=8)[1:]:
            failure = Failure(job=claim.job, reason=FailureReason.DIVERGED, error="val_loss was nan")
            assert ending.let_go(session, [(claim, failure)])
    capfd.readouterr()
    here.print_end(yard.sweep(1))
    yard.database.close()
    written = capfd.readouterr()
    assert written.err.splitlines()[-2:] == ["job 6 failed: diverged: val_loss was nan", "… and 2 more"]
    assert written.out.endswith("gridyard show 2\n")


def test_what_is_one_is_told_as_one(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    gridyard(["submit", "grid.yaml"], monkeypatch)
    with closing(connect().database) as database, database.writing() as session:
        for claim, reason in zip(claiming.claim(session, "cpu", "worker", 20, limit=2), (ERROR, DIVERGED), strict=True):
            failure = Failure(job=claim.job, reason=reason, error="it broke", again=False)
            assert ending.let_go(session, [(claim, failure)])
    capfd.readouterr()
    assert gridyard(["show", "1"], monkeypatch) == 0
    assert "\nerror\nit broke\n" in capfd.readouterr().out
    assert gridyard(["show", "2"], monkeypatch) == 0
    assert "\nerror (diverged)\nit broke\n" in capfd.readouterr().out
    assert gridyard(["retry", "1", "--reason", "error"], monkeypatch) == 0
    assert capfd.readouterr().out == "sweep 1: 1 failed job is ready again, 1 other has failed otherwise\n"


def test_run_stores_nothing_where_its_data_set_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> Path:
        raise DataMissing(f"{name} is not here")

    monkeypatch.setattr(data, "get", missing)
    assert gridyard(["run", "grid.yaml", "--set", "task=diamonds", "--set", "grid={lr: [0.1]}"], monkeypatch) == 2
    assert "diamonds is not here" in capfd.readouterr().err
    assert gridyard(["status", "--json"], monkeypatch) == 0
    assert json.loads(capfd.readouterr().out) == []


@pytest.mark.parametrize("words", [["run", "grid.yaml", "--set", "task=diamonds"], ["data", "get", "diamonds"]])
def test_a_download_that_fails_is_work_that_failed(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise OSError("the line is dead")

    monkeypatch.setenv("GRIDYARD_DATA", str(folder / "data"))
    monkeypatch.setattr("jobs.data.fetch._download", refused)
    (folder / "grid.yaml").write_text("task: diamonds")
    assert gridyard(words, monkeypatch) == 1
    written = capfd.readouterr().err
    assert "diamonds is not in" in written
    assert "the line is dead" in written


def test_a_home_that_is_no_folder_is_wrong_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").touch()
    monkeypatch.setenv("GRIDYARD_HOME", str(folder / "file"))
    assert gridyard(["submit", "grid.yaml"], monkeypatch) == 2
    assert "cannot create the folder of" in (told := capfd.readouterr().err)
    assert "GRIDYARD_HOME" in told


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "oci://key:geheim@bucket/yard",
            "GRIDYARD_STORE = oci://key:***@bucket/yard: the package of oci:// is not installed",
        ),
        ("oci://bucket", "Install ocifs to access OCI"),
        ("simplecache::oci://bucket", "Install ocifs to access OCI"),
        ("s33://bucket", 'fsspec knows no s33://; did you mean "s3"? Allowed are a folder, and URLs such as s3://'),
    ],
)
def test_a_store_that_no_package_here_reaches_is_told_before_anything_is_stored(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRIDYARD_STORE", url)
    assert gridyard(["submit", "grid.yaml"], monkeypatch) == 2
    assert message in capfd.readouterr().err
    gridyard(["status"], monkeypatch)
    assert "no sweeps yet" in capfd.readouterr().out


@pytest.mark.parametrize("words", [[], ["db"]])
def test_no_command_at_all_shows_the_help(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert gridyard(words, monkeypatch) == 2
    assert capfd.readouterr().err.startswith("Usage: gridyard")


@pytest.mark.parametrize(
    ("command", "usage"),
    [("status", "[SWEEP]"), ("tasks", "[NAME]"), ("compare", "{JOB}..."), ("clean", "[SWEEP]")],
)
def test_the_help_names_an_argument_once(
    command: str, usage: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert gridyard([command, "--help"], monkeypatch) == 0
    assert capfd.readouterr().out.splitlines()[0] == f"Usage: gridyard {command} [OPTIONS] {usage}"
