"""A user's own task: where it is found, and what is wrong with it in one message."""

import sys
from pathlib import Path

import pytest

from gridyard import parameters
from jobs import catalogue
from jobs.errors import SettingsError, SweepFileError, UnknownTask
from scheduler.sweep_file import parse
from tests.own_tasks import CLOUDS, OwnFolder, changed


class TestWhereItIsFound:
    def test_every_class_of_a_module_in_the_current_folder(self, write: OwnFolder) -> None:
        base = 'class _Base(Clouds):\n    pass\n\nclass Others(_Base):\n    name = "others"\n'
        write("my_task", CLOUDS + base)
        assert {"clouds", "others"} <= set(catalogue.tasks())
        assert catalogue.find("clouds").source == "GRIDYARD_TASKS=my_task"
        assert catalogue.own_tasks().troubles == []

    def test_one_class_or_object_of_a_module(self, write: OwnFolder) -> None:
        write("two", CLOUDS + 'class Others(Clouds):\n    name = "others"\nmade = Others()\n', named=" two:made ,")
        assert [task.name for task in catalogue.own_tasks().tasks] == ["others"]

    def test_by_the_entry_point_of_a_package(
        self, write: OwnFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed = tmp_path / "site" / "clouds-1.0.dist-info"
        installed.mkdir(parents=True)
        (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: clouds\nVersion: 1.0\n")
        (installed / "entry_points.txt").write_text("[gridyard.tasks]\nclouds = packed_clouds:Clouds\n")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        monkeypatch.syspath_prepend(str(tmp_path))
        write("packed_clouds", named="")
        assert catalogue.find("clouds").source == "package clouds (packed_clouds:Clouds)"
        write("packed_clouds")  # named by the setting too: it is the same task
        assert [task.name for task in catalogue.own_tasks().tasks] == ["clouds"]

    def test_it_is_described_and_checked_like_every_task(self, write: OwnFolder) -> None:
        write("my_task")
        described = parameters.describe(catalogue.find("clouds"))
        assert described["summary"] == "Three clouds of points"
        assert described["metrics"] == ["accuracy", "f1", "worst"]
        assert described["parameters"][-1]["allowed"] == "a whole number from 1 to 64"
        with pytest.raises(
            SweepFileError, match=r"grid.width\[1\]: was given 0; allowed is a whole number from 1 to 64"
        ):
            parse({"task": "clouds", "grid": {"width": [8, 0]}})

    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_its_own_metric_ranks_in_the_direction_it_says(self, write: OwnFolder, mode: str) -> None:
        write("my_task", changed(f'metrics = {{"worst": ("{mode}", max)}}', 'objective = "val_worst"'))
        spec = parse({"task": "clouds", "early_stopping": {"monitor": "val_worst"}})
        assert (spec.objective.metric, spec.objective.mode) == ("val_worst", mode)
        assert spec.early_stopping is not None
        assert spec.early_stopping.mode == mode

    @pytest.mark.parametrize("named", ["first,second", "first"])
    def test_a_name_that_stands_twice_is_refused(self, write: OwnFolder, named: str) -> None:
        write("second", CLOUDS)
        write("first", CLOUDS.replace('"clouds"', '"iris"') if named == "first" else CLOUDS, named=named)
        other = (
            "GRIDYARD_TASKS=first, one of GRIDYARD_TASKS=second" if "," in named else "gridyard, one of GRIDYARD_TASKS"
        )
        with pytest.raises(SettingsError, match=f"two tasks are called .* one of {other}"):
            catalogue.tasks()

    def test_our_own_tasks_load_no_module_of_the_user(self, write: OwnFolder) -> None:
        write("heavy", 'raise RuntimeError("loaded")')
        assert parse({"task": "iris"}).task == "iris"
        assert "heavy" not in sys.modules


BROKEN = {
    "no such module": ("", "my_tsk", ["my_tsk: there is no module 'my_tsk' in the current folder or on PYTHONPATH"]),
    "a file's name": ("", "my_task.py", ["my_task.py: is no module's name; allowed is for example my_task"]),
    "no such class": (CLOUDS, "my_task:Cloud", ["my_task.py has no Cloud"]),
    "another class": (CLOUDS, "my_task:MlpParams", ["MlpParams'> is no class that is derived from OwnTask"]),
    "a module without": ("x = 1\n", "my_task", ["my_task.py holds no class that is derived from OwnTask"]),
    "a module that fails": ("import os\nx = 1 / 0\n", "my_task", ["my_task.py, line 2: ZeroDivisionError: division"]),
    "a missing library": (
        "import nothing_here\n",
        "my_task",
        ["line 1: ModuleNotFoundError: No module", "nothing_here"],
    ),
    "wrong syntax": ("x = 1\ndef broken(:\n", "my_task", ["my_task.py, line 2: SyntaxError: "]),
    "one that ends us": ("import sys\nsys.exit(3)\n", "my_task", ["my_task.py, line 2: SystemExit: 3"]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_module_that_cannot_be_loaded_is_said_to_who_asks_for_its_task(write: OwnFolder, kind: str) -> None:
    source, named, parts = BROKEN[kind]
    write("my_task", source, named=named)
    with pytest.raises(UnknownTask) as caught:
        catalogue.find("clouds")
    with pytest.raises(SweepFileError) as refused:
        parse({"task": "clouds"})
    for part in parts:
        assert part in str(caught.value)
        assert part in str(refused.value)
    assert "iris" in catalogue.tasks()  # the others are there


def test_what_a_module_prints_is_no_answer_of_ours(write: OwnFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write("my_task", 'print("loud")\n' + CLOUDS)
    assert "clouds" in catalogue.tasks()
    assert capsys.readouterr() == ("", "loud\n")


def test_without_the_setting_an_unknown_task_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownTask, match="one of your own needs GRIDYARD_TASKS=ITS_MODULE"):
        catalogue.find("clouds")


# what is wrong -> (lines of the class, parts of the message)
WRONG_CLASSES = {
    "no name": (['name = ""'], 'class Clouds: has no name; write name = "clouds"'),
    "bad name": (['name = "My Clouds"'], "its name is 'My Clouds'; allowed are small letters, digits and _"),
    "params of another class": (["Params = dict"], "its Params are not derived from TrainingParams: <class 'dict'>"),
    "a parameter without default": (
        ["class Params(TrainingParams):", "    width: int"],
        "every parameter needs a default; there is none of width",
    ),
    "a default out of range": (
        ["class Params(TrainingParams):", "    width: int = Field(0, ge=1)"],
        "the default of parameter width breaks its own rule, as JSON: Input should be greater than or equal to 1",
    ),
    "a parameter that JSON does not have": (
        ["class Params(TrainingParams):", "    sizes: tuple[int, ...] = (1, 2)"],
        "the default of parameter sizes breaks its own rule, as JSON: Input should be a valid tuple",
    ),
    "unknown kind": (['kind = "clasification"'], "its kind is 'clasification'; did you mean \"classification\"?"),
    "no kind": (['kind = ""'], "does not say what it predicts: write kind = 'classification' or 'regression'"),
    "no data": (["data = OwnTask.data"], "does not say where its data come from: write data(self, params, seed)"),
    "no model": (["model = OwnTask.model"], "has no network: write model(self, params, signature)"),
    "a metric without direction": (['metrics = {"x": max}'], 'say which is better: ("max", function)'),
    "a metric of a taken name": (['metrics = {"accuracy": ("max", max)}'], "'accuracy' has the name of one that is"),
    "a metric of a bad name": (['metrics = {"top 5": ("max", max)}'], "a metric is called 'top 5'"),
    "unknown objective": (['objective = "val_wrst"'], "its objective is 'val_wrst'; did you mean \"val_worst\"?"),
    "no epochs": (["epochs = 0"], "its epochs are 0; allowed is a whole number from 1 to 1,000,000"),
}


@pytest.mark.parametrize("kind", WRONG_CLASSES)
def test_a_class_that_breaks_a_rule_is_refused_in_one_line(write: OwnFolder, kind: str) -> None:
    lines, part = WRONG_CLASSES[kind]
    write("my_task", changed(*lines))
    (trouble,) = catalogue.own_tasks().troubles
    assert part in trouble
    assert "\n" not in trouble
