"""The lines of the services: JSON that says what it is about, text as ever, and no password in either."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import logs
from jobs.settings import Settings
from jobs.spec import Assignment, Claim, JobSpec, Objective
from tests.refusals import Server
from workers import slot, supervisor

logger = logging.getLogger("gridyard.test")
URL = "postgresql://yard:s3cret@db.example/yard"


@pytest.fixture(autouse=True)
def root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    logs._always.clear()
    logs.as_json = False


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def claim() -> Claim:
    objective = Objective(metric="val_loss", mode="min")
    spec = JobSpec(job=7, sweep=3, sweep_uid="u", task="sine", params={}, seed=0, epochs=1, objective=objective)
    return Claim(spec=spec, worker="w", attempt=2)


def test_a_line_says_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("json")
    logs.always(worker="host:1:abc")
    with logs.about(sweep=3):
        logger.warning("slow: %d", 5)
        logger.info("begins", extra=logs.of(claim()))
    logger.info("idle")
    slow, begins, idle = lines(capsys)
    assert (slow["message"], slow["level"], slow["logger"]) == ("slow: 5", "WARNING", "gridyard.test")
    assert slow["time"].endswith("+00:00")
    assert (slow["worker"], slow["sweep"], "job" in slow) == ("host:1:abc", 3, False)
    assert (begins["sweep"], begins["job"], begins["attempt"], begins["worker"]) == (3, 7, 2, "host:1:abc")
    assert "sweep" not in idle


def test_each_thread_is_about_its_own_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("json")
    barrier = threading.Barrier(2)

    def work(sweep: int) -> None:
        with logs.about(sweep=sweep):
            barrier.wait(10)
            logger.info("%d", sweep)

    threads = [threading.Thread(target=work, args=(sweep,)) for sweep in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((line["message"], line["sweep"]) for line in lines(capsys)) == [("1", 1), ("2", 2)]


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_password_is_in_a_line_nor_in_its_traceback(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup(format)
    logger.info("connecting to %s", URL)
    try:
        raise ValueError(URL)
    except ValueError:
        logger.exception("cannot use %s", URL)
    said = capsys.readouterr().err
    assert "s3cret" not in said
    assert said.count("postgresql://yard:***@db.example/yard") == 3  # two lines and a traceback


@pytest.mark.parametrize("service", ["worker", "scheduler"])
def test_a_service_that_ends_with_an_error_says_so_in_json_too(service: str, tmp_path: Path) -> None:
    refuses = Server("28P01")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRIDYARD_")}
    environment |= {"GRIDYARD_LOG": "json", "GRIDYARD_DB": refuses.url}
    command = [sys.executable, "-P", "-m", "gridyard", service]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    finally:
        refuses.close()
    (line,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (ended.returncode, line["level"]) == (1, "CRITICAL")
    assert line["message"].startswith("gridyard: database postgresql")
    assert "s3cret" not in line["message"]


def test_a_traceback_is_one_field_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("json")
    try:
        raise ValueError("a\nb")
    except ValueError:
        logger.exception("stumbled")
    (line,) = lines(capsys)
    assert line["message"] == "stumbled"
    assert line["error"].startswith("Traceback")


def test_text_is_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("text")
    logger.info("begins", extra=logs.of(claim()))
    assert capsys.readouterr().err.endswith("INFO gridyard.test: begins\n")


def test_a_migration_in_a_container_is_told_as_a_line_like_all_others(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "gridyard", "db", "upgrade", "--db"]
    environment = os.environ | {"GRIDYARD_LOG": "json"}
    for url, code, level, message in (
        (f"sqlite:///{tmp_path}/new.db", 0, "INFO", "brought up to date"),
        (f"sqlite:///{tmp_path}/new.db", 0, "INFO", "is up to date"),
        (f"sqlite:///{tmp_path}", 1, "CRITICAL", "unable to open database file"),
    ):
        ended = subprocess.run([*command, url], env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (code, "")
        (line,) = map(json.loads, ended.stderr.splitlines())
        assert line["level"] == level
        assert message in line["message"]


@pytest.mark.parametrize(
    ("jobs", "about"),
    [
        ([], {}),
        ([7], {"sweep": 3, "job": 7, "attempt": 2}),
        ([7, 8], {"sweep": 3, "jobs": [7, 8]}),  # nobody can tell which one it is about
    ],
)
def test_a_line_of_a_trainer_has_its_own_level_and_is_about_what_it_trains(
    jobs: list[int],
    about: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    logs.setup("json")
    heard = threading.Event()
    script = (
        "import sys\nfor line in sys.stdin:\n  if 'Train' in line: print('WARNING hi', file=sys.stderr, flush=True)"
    )
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **rest: real([sys.executable, "-c", script], **rest))
    note = supervisor.Trainer._about
    monkeypatch.setattr(supervisor.Trainer, "_about", lambda self: (heard.set(), note(self))[1])
    setup = slot._setup(Settings(home=tmp_path), "cpu")
    trainer = supervisor.Trainer(setup, None)
    trainer.train([Assignment(spec=replace(claim().spec, job=job), attempt=2) for job in jobs])
    assert heard.wait(30)
    trainer.kill()
    line = next(line for line in lines(capsys) if "trainer" in line)
    assert (line["level"], line["message"]) == ("WARNING", f"trainer {trainer.pid}: hi")
    assert {name: line[name] for name in ("sweep", "job", "attempt", "jobs") if name in line} == about


@pytest.mark.parametrize("line", ["a library's line", "WARNINGS were met", "ERROR", "warning: deprecated", ""])
def test_what_a_library_prints_is_no_warning_of_the_trainers(line: str) -> None:
    assert supervisor._levelled(line) == (logging.INFO, line)


def test_a_trouble_is_said_when_it_begins_once_a_minute_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = logs.Trouble(logger, "no round", over="the rounds go on")
    with caplog.at_level("INFO"):
        for second in range(130):
            monkeypatch.setattr(time, "monotonic", lambda now=second: 1000.0 + now)
            trouble.met("no route to host")
        trouble.gone()
        trouble.gone()
        trouble.met("once more")
    assert [record.getMessage() for record in caplog.records] == [
        "no round: no route to host",
        "no round for 60 s: no route to host",
        "no round for 120 s: no route to host",
        "the rounds go on, after 129 s",
        "no round: once more",
    ]
