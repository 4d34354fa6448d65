"""The example of one's own task as a user trains it, and what a machine without the task makes of its sweep."""

import shutil
from pathlib import Path

import pytest

from tests.folders import Folder

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_task"
FEW = ("--set", "grid={lr: [0.01], width: [8, 64]}", "--set", "seeds=1")  # of its sixteen jobs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with the example's files, in which two of its jobs were trained."""
    path = tmp_path_factory.mktemp("own") / "task"
    folder = Folder(path, (EXAMPLE / "diabetes.yaml").read_text(), tasks="diabetes")
    shutil.copy(EXAMPLE / "diabetes.py", path)
    answer = folder.gridyard("run", "grid.yaml", "--workers", "1", *FEW)
    assert answer.returncode == 0, answer.stderr
    return folder


@pytest.fixture
def without(trained: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The same folder, but nobody knows the task."""
    monkeypatch.setitem(trained.environment, "GRIDYARD_TASKS", "")
    return trained


def test_it_learns_and_is_ranked_by_its_own_metric(trained: Folder) -> None:
    best, _ = trained.json("leaderboard", "1")
    assert best["metric"] == "val_median_error"
    assert best["score"] < 40
    assert best["metrics"]["test_r2"] > 0.35  # of least squares: 0.44 to 0.61 over ten such splits
    (listed,) = [task for task in trained.json("tasks") if task["source"] != "gridyard"]
    assert (listed["name"], listed["source"]) == ("diabetes", "GRIDYARD_TASKS=diabetes")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("", ("status", "1")),
        ("", ("show", "1")),
        ("", ("leaderboard", "--task", "diabetes", "--where", "width=8")),
        ("no_such_module", ("leaderboard", "1", "--by", "cell")),
    ],
)
def test_its_sweep_is_read_where_the_task_is_not(
    trained: Folder, monkeypatch: pytest.MonkeyPatch, setting: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setitem(trained.environment, "GRIDYARD_TASKS", setting)
    answer = trained.gridyard(*words)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "diabetes" in answer.stdout or "width" in answer.stdout


def test_a_submission_without_the_setting_says_what_to_set(without: Folder) -> None:
    answer = without.gridyard("submit", "grid.yaml")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert 'there is no task "diabetes"' in answer.stderr
    assert "one of your own needs GRIDYARD_TASKS=ITS_MODULE" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_module_that_cannot_be_loaded_is_told_by_file_and_line_and_stops_no_other_task(
    trained: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trained.path / "broken.py").write_text("import os\n\nx = 1 / 0\n")
    monkeypatch.setitem(trained.environment, "GRIDYARD_TASKS", "broken")
    answer = trained.gridyard("submit", "grid.yaml")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert f"{trained.path}/broken.py, line 3: ZeroDivisionError: division by zero" in answer.stderr
    listed = trained.gridyard("tasks")
    assert (listed.returncode, listed.stderr.count("broken.py, line 3")) == (0, 1)
    assert "iris" in listed.stdout
