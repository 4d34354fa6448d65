"""The command line as a user meets it: real processes, exit codes, and what stands on which stream."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GRID = "name: small\ntask: iris\ngrid: {lr: [0.003, 0.01], dropout: [0.0, 0.2]}\nseeds: 3\nepochs: 2\n"


class Folder:
    """A user's folder with an embedded database."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GRIDYARD_")}

    def gridyard(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gridyard", *words],
            cwd=self.path,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gridyard", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.path, env=self.environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return folder_at(tmp_path)


def folder_at(path: Path) -> Folder:
    (path / "grid.yaml").write_text(GRID)
    return Folder(path)


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder whose sweep 1 of 12 jobs waits for workers; its tests only read, or try to."""
    folder = folder_at(tmp_path_factory.mktemp("submitted"))
    assert folder.gridyard("submit", "grid.yaml").returncode == 0
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["run", "nothing.yaml"], "nothing.yaml: there is no such file"),
        (["status", "12"], "there is no sweep 12"),
        (["leaderboard", "--task", "irsi"], 'did you mean "iris"'),
    ],
)
def test_wrong_input_ends_with_2_and_one_message(submitted: Folder, words: list[str], message: str) -> None:
    answer = submitted.gridyard(*words)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""


def test_an_unknown_setting_is_named_with_the_nearest(folder: Folder) -> None:
    answer = folder.gridyard("status", GRIDYARD_BROKR="redis://here")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert 'did you mean "GRIDYARD_BROKER"' in answer.stderr


def test_a_database_that_is_away_is_one_line(folder: Folder) -> None:
    answer = folder.gridyard("status", "--db", "postgresql://nobody:secret@127.0.0.1:1/none")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert len(answer.stderr.splitlines()) == 1
    assert "secret" not in answer.stderr


def test_wrong_input_stores_nothing(folder: Folder) -> None:
    folder.gridyard("submit", "grid.yaml", "--set", "fixed.lr=-1")
    assert json.loads(folder.gridyard("status", "--json").stdout) == []


def test_submitting_as_json_tells_sweep_and_jobs(folder: Folder) -> None:
    assert json.loads(folder.gridyard("submit", "grid.yaml", "--json").stdout) == {"sweep": 1, "jobs": 12, "new": True}
    again = json.loads(folder.gridyard("submit", "grid.yaml", "--json", "--once").stdout)
    assert again == {"sweep": 1, "jobs": 12, "new": False}


@pytest.mark.parametrize("words", [["status"], ["leaderboard", "1", "--by", "cell"], ["show", "1"]], ids=" ".join)
def test_reading_as_json_writes_json_and_nothing_else(submitted: Folder, words: list[str]) -> None:
    answer = submitted.gridyard(*words, "--json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout) is not None
    assert answer.stderr == ""


def test_a_cancelled_sweep_is_watched_to_its_end_and_can_be_resumed(folder: Folder) -> None:
    folder.gridyard("submit", "grid.yaml")
    assert "12 jobs cancelled" in folder.gridyard("cancel", "1").stdout
    watched = folder.gridyard("watch", "1", "--json")
    assert watched.returncode == 0
    assert json.loads(watched.stdout)["jobs"]["cancelled"] == 12
    assert "12 cancelled jobs are ready again" in folder.gridyard("resume", "1", "--no-wait").stdout
    assert json.loads(folder.gridyard("status", "1", "--json").stdout)["jobs"]["ready"] == 12


def test_ctrl_c_ends_watching_with_130_and_no_traceback(submitted: Folder) -> None:
    watching = submitted.start("watch", "1", "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["sweep"] == 1  # it is watching by now
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert errors == ""


def test_a_reader_that_closes_the_pipe_gets_no_traceback(submitted: Folder) -> None:
    showing = submitted.start("leaderboard", "--json")
    assert showing.stdout is not None
    showing.stdout.close()
    assert showing.stderr is not None
    assert "Traceback" not in showing.stderr.read()
    showing.wait(30)
    showing.stderr.close()


def test_upgrading_a_database_that_is_up_to_date_says_so(submitted: Folder) -> None:
    assert "is up to date" in submitted.gridyard("db", "upgrade").stdout
