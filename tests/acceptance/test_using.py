"""A trained model used from the command line, as real processes with their exit codes."""

import json
from pathlib import Path

from tests.folders import Folder

GRID = "task: iris\ngrid: {lr: [0.01]}\nepochs: 20\n"
ROW = ["sepal_length=5.1", "sepal_width=3.5", "petal_length=1.4", "petal_width=0.2"]


def test_a_job_of_a_worker_is_asked_and_trained_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "home", GRID)
    assert folder.gridyard("run", "grid.yaml", "--workers", "1").returncode == 0

    (found,) = folder.json("predict", "best:1", *ROW)
    assert found["class"] == "setosa"
    wrong = folder.gridyard("predict", "1", "nothing.csv")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "gridyard: nothing.csv cannot be read: No such file or directory\n"

    again = folder.gridyard("repeat", "1", "--json")
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["equal"] is True
