"""Every block of code in the guide to a new task does what the guide says."""

import re
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from jobs import catalogue, tabular
from jobs.catalogue import tables
from jobs.spec import JobSpec, Outcome, TrainResult
from scheduler.sweep_file import read
from tests.own_tasks import OwnFolder

GUIDE = (Path(__file__).parents[2] / "docs" / "adding-a-task.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
MODULES = {text.split()[1]: text for kind, text in BLOCKS if kind == "python" and re.match(r"# my_\w+\.py\n", text)}
ENTRY, FACTS, MODULE = (text for kind, text in BLOCKS if kind == "python" and text not in MODULES.values())
(SWEEP,), (TOML,) = ([text for kind, text in BLOCKS if kind == wanted] for wanted in ("yaml", "toml"))


@pytest.fixture
def folder(write: OwnFolder) -> Path:
    """A user's folder with every file of the guide, all of which are named by the setting."""
    modules = {name.removesuffix(".py"): text for name, text in MODULES.items()}
    for name, text in modules.items():
        write(name, text, named=",".join(modules))
    return write.path


def test_the_guide_has_the_blocks_that_are_tested_here() -> None:
    assert list(MODULES) == ["my_task.py", "my_days.py", "my_careful_task.py", "my_noisy_task.py"]
    assert {kind for kind, _ in BLOCKS} == {"python", "yaml", "bash", "toml"}


@pytest.mark.parametrize(
    ("task", "metric", "bound"),
    [
        ("moons", "test_accuracy", 0.9),
        ("days", "test_r2", 0.9),
        ("careful_moons", "test_recall", 0.95),
        ("noisy_moons", "test_accuracy", 0.9),
    ],
)
def test_each_task_of_ones_own_learns(
    folder: Path,
    make_spec: Callable[..., JobSpec],
    train_one: Callable[..., Outcome],
    task: str,
    metric: str,
    bound: float,
) -> None:
    assert catalogue.own_tasks().troubles == []
    result = train_one(make_spec(task, epochs=catalogue.find(task).epochs))
    assert isinstance(result, TrainResult), result
    assert result.metrics[metric] > bound


def test_the_sweep_file_is_right(folder: Path) -> None:
    (folder / "moons.yaml").write_text(SWEEP)
    assert read(folder / "moons.yaml").grid == {"lr": [0.01, 0.03], "width": [4, 16]}


def test_the_entry_point_is_of_the_group_that_is_looked_at() -> None:
    (group,) = tomllib.loads(TOML)["project"]["entry-points"]
    assert group == catalogue.own.GROUP


def test_the_built_in_task_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    names = dict(vars(tables))
    exec(ENTRY, names)
    (task,) = eval(f"({textwrap.dedent(FACTS.partition(chr(10))[2])})", names)
    monkeypatch.setattr(tables, "WineParams", names["WineParams"], raising=False)
    module = ModuleType(task.module)
    exec(MODULE, vars(module))
    problem = module.build(task.params(), seed=0)
    assert isinstance(module.table(), tabular.Table)
    assert (len(problem.train), problem.model.classes) == (107, ("class_0", "class_1", "class_2"))
