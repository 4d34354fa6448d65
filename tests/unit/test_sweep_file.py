"""A right sweep file becomes a SweepSpec, whatever its format, complete with every default."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from jobs.catalogue import tasks
from jobs.catalogue.task import HIGHER_IS_BETTER
from jobs.spec import EarlyStopping, Keep, Objective, SweepSpec
from scheduler.sweep_file import parse, read
from scheduler.sweep_keys import EarlyStoppingKeys, KeepKeys, ObjectiveKeys, ResourceKeys, SweepKeys

LOWER_IS_BETTER = {"loss", "mse", "rmse", "mae", "perplexity", "repetition"}
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMPLETE = [name for name, task in tasks().items() if not task.prepare]  # the others need the user's data
DOCUMENTATION = ROOT / "docs" / "sweep-file.md"

YAML = """\
name: iris-mlp
task: iris
grid:                        # every combination is a job
  lr: [3e-3, 0.01, 1]
  hidden: [[16, 8], [32, 16]]
  dropout: [0.0, 0.2]
fixed: {optimizer: adam, batch_size: 16, scheduler: {name: step, gamma: 0.25}}
seeds: 3
epochs: 100
early_stopping: {monitor: val_accuracy, patience: 10}
objective: {metric: val_accuracy, mode: max}
retries: 5
retry_on: [timeout, crashed]
priority: 7
resources: {gpu: 1}
time_limit: 60
pack: off
keep: {best: 5, last: true}
"""
TOML = """\
name = "iris-mlp"
task = "iris"
seeds = 3
epochs = 100
retries = 5
retry_on = ["timeout", "crashed"]
priority = 7
time_limit = 60
pack = "off"
keep = {best = 5, last = true}
fixed = {optimizer = "adam", batch_size = 16, scheduler = {name = "step", gamma = 0.25}}
[grid]
lr = [3e-3, 0.01, 1]
hidden = [[16, 8], [32, 16]]
dropout = [0.0, 0.2]
[early_stopping]
monitor = "val_accuracy"
patience = 10
[objective]
metric = "val_accuracy"
mode = "max"
[resources]
gpu = 1
"""
DATA: dict[str, Any] = {
    "name": "iris-mlp",
    "task": "iris",
    "grid": {"lr": [3e-3, 0.01, 1], "hidden": [[16, 8], [32, 16]], "dropout": [0.0, 0.2]},
    "fixed": {"optimizer": "adam", "batch_size": 16, "scheduler": {"name": "step", "gamma": 0.25}},
    "seeds": 3,
    "epochs": 100,
    "early_stopping": {"monitor": "val_accuracy", "patience": 10},
    "objective": {"metric": "val_accuracy", "mode": "max"},
    "retries": 5,
    "retry_on": ["timeout", "crashed"],
    "priority": 7,
    "resources": {"gpu": 1},
    "time_limit": 60,
    "pack": "off",
    "keep": {"best": 5, "last": True},
}


def read_text(folder: Path, text: str, name: str = "sweep.yaml", sets: tuple[str, ...] = ()) -> SweepSpec:
    (folder / name).write_text(text)
    return read(folder / name, sets)


def test_every_key_of_a_file_is_in_the_spec(tmp_path: Path) -> None:
    spec = read_text(tmp_path, YAML)
    assert spec == SweepSpec(
        name="iris-mlp",
        task="iris",
        grid={"lr": [0.003, 0.01, 1.0], "hidden": [[16, 8], [32, 16]], "dropout": [0.0, 0.2]},
        fixed=spec.fixed,
        seeds=[0, 1, 2],
        epochs=100,
        early_stopping=EarlyStopping(monitor="val_accuracy", mode="max", patience=10),
        objective=Objective(metric="val_accuracy", mode="max"),
        retries=5,
        retry_on=["crashed", "timeout"],
        priority=7,
        queue="gpu",
        time_limit=60,
        pack=1,
        keep=Keep(best=5, last=True),
    )
    assert isinstance(spec.grid["lr"][2], float)  # as the task gets it


def test_yaml_json_toml_and_python_give_the_same_spec(tmp_path: Path) -> None:
    spec = read_text(tmp_path, YAML)
    assert read_text(tmp_path, YAML, "sweep.yml") == spec
    assert read_text(tmp_path, json.dumps(DATA), "sweep.JSON") == spec
    assert read_text(tmp_path, TOML, "sweep.toml") == spec
    assert parse(DATA) == spec


def test_fixed_is_complete_but_for_what_the_grid_varies(tmp_path: Path) -> None:
    spec = read_text(tmp_path, YAML)
    names = set(tasks()["iris"].params.model_fields)
    assert set(spec.fixed) == names - {"lr", "hidden", "dropout"}
    assert spec.fixed["scheduler"] == {"name": "step", "step_size": 30, "gamma": 0.25}
    assert spec.fixed["activation"] == "relu"


@pytest.mark.parametrize(("text", "pack"), [("auto", 0), ("off", 1), ("1", 1), ("256", 256)])
def test_a_pack_is_a_word_or_a_number(tmp_path: Path, text: str, pack: int) -> None:
    assert read_text(tmp_path, f"task: iris\npack: {text}\n").pack == pack


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", Keep(best=7, last=True)),
        ("{}", Keep(best=7, last=True)),
        ("{best: 3}", Keep(best=3, last=True)),
        ("{best: all}", Keep(best=None, last=True)),
        ("{last: false}", Keep(best=7)),
    ],
)
def test_what_is_kept_is_as_the_sweep_says_and_else_as_the_settings_say(
    tmp_path: Path, text: str, kept: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDYARD_KEEP_BEST", "7")
    monkeypatch.setenv("GRIDYARD_KEEP_LAST", "true")
    assert read_text(tmp_path, f"task: iris\nkeep: {text}\n").keep == kept


def test_jobs_that_train_nothing_are_never_packed() -> None:
    assert parse({"task": "kogpt2", "pack": 8}).pack == 1


def test_what_is_left_out_gets_the_tasks_defaults() -> None:
    spec = parse({"task": "sine"})
    assert spec == SweepSpec(
        name="sine",
        task="sine",
        fixed=tasks()["sine"].params().model_dump(),
        seeds=[0],
        epochs=tasks()["sine"].epochs,
        objective=tasks()["sine"].objective,
        keep=Keep(best=100),
    )


def test_keys_that_stand_empty_count_as_left_out(tmp_path: Path) -> None:
    text = "task: iris\nfixed:\nearly_stopping:\nobjective:\ntime_limit:\nname:\nepochs:\nqueue:\n"
    assert read_text(tmp_path, text, "iris.yaml") == parse({"task": "iris"})


def test_the_name_is_the_files_own_when_none_is_given(tmp_path: Path) -> None:
    assert read_text(tmp_path, "task: iris", "first try.yaml").name == "first try"


@pytest.mark.parametrize("stem", ["x" * 201, "bell\a"], ids=["too long", "not printable"])
def test_a_files_name_that_no_sweep_may_have_gives_way_to_the_tasks(tmp_path: Path, stem: str) -> None:
    assert read_text(tmp_path, "task: iris", f"{stem}.yaml").name == "iris"


@pytest.mark.parametrize("task", COMPLETE)
def test_every_parameter_of_every_task_has_a_default_that_a_grid_may_name(task: str) -> None:
    for name, value in tasks()[task].params().model_dump(mode="json").items():
        assert parse({"task": task, "grid": {name: [value]}}).grid == {name: [value]}


@pytest.mark.parametrize("task", tasks())
def test_the_mode_follows_from_the_metric(task: str) -> None:
    for metric in tasks()[task].validation_metrics:
        name = metric.removeprefix("val_")
        assert name in HIGHER_IS_BETTER | LOWER_IS_BETTER, "a new metric: say in jobs/catalogue/task.py what is better"
        mode = "max" if name in HIGHER_IS_BETTER else "min"
        assert tasks()[task].mode(metric) == mode
        if task not in COMPLETE:
            continue
        spec = parse({"task": task, "objective": {"metric": metric}, "early_stopping": {"monitor": metric}})
        assert spec.objective == Objective(metric=metric, mode=mode)
        assert spec.early_stopping is not None
        assert spec.early_stopping.mode == mode
    assert tasks()[task].objective.mode == tasks()[task].mode(tasks()[task].objective.metric)


def test_seeds_are_a_number_or_a_list() -> None:
    assert parse({"task": "iris", "seeds": 4}).seeds == [0, 1, 2, 3]
    assert parse({"task": "iris", "seeds": [7, 3]}).seeds == [7, 3]


def test_resources_choose_the_queue_unless_it_is_named() -> None:
    assert parse({"task": "iris"}).queue == "cpu"
    assert parse({"task": "iris", "resources": {"gpu": 1}}).queue == "gpu"
    assert parse({"task": "iris", "resources": {"gpu": 1}, "queue": "big.gpus"}).queue == "big.gpus"


def test_cells_may_name_different_parameters_and_override_fixed() -> None:
    cells = [{"lr": 1}, {"hidden": [4], "scheduler": {"name": "cosine"}}, {}]
    spec = parse({"task": "iris", "fixed": {"lr": 0.5}, "cells": cells})
    assert spec.cells == [{"lr": 1.0}, {"hidden": [4], "scheduler": {"name": "cosine", "min_lr": 0.0}}, {}]
    assert spec.fixed["lr"] == 0.5
    assert spec.grid == {}


def test_python_may_give_tuples_ranges_and_numpy() -> None:
    grid = {"lr": np.array([0.1, 0.2]), "batch_size": range(1, 3), "hidden": ((16, 8), (np.int64(4),))}
    spec = parse({"task": "iris", "grid": grid})
    assert spec.grid == {"lr": [0.1, 0.2], "batch_size": [1, 2], "hidden": [[16, 8], [4]]}
    assert json.loads(json.dumps(spec.grid)) == spec.grid


def test_sets_override_the_file_and_reach_into_it(tmp_path: Path) -> None:
    sets = ("epochs=20", "fixed.batch_size=32", "grid.lr=[0.1,0.01]", "fixed.scheduler.gamma=0.3", "objective=null")
    spec = read_text(tmp_path, YAML, sets=sets)
    assert (spec.epochs, spec.grid["lr"]) == (20, [0.1, 0.01])
    assert list(spec.grid) == ["lr", "hidden", "dropout"]  # the order of the file stays
    assert spec.fixed["batch_size"] == 32
    assert spec.fixed["scheduler"] == {"name": "step", "step_size": 30, "gamma": 0.3}


def test_a_set_makes_the_objects_on_its_way_and_may_turn_a_grid_into_cells(tmp_path: Path) -> None:
    spec = read_text(tmp_path, "task: iris\ngrid: {lr: [0.1]}\nfixed:\n", sets=("grid=null", "cells=[{lr: 1e-3}]"))
    assert spec.cells == [{"lr": 0.001}]
    spec = read_text(tmp_path, "task: iris\n", sets=("fixed.scheduler.name=cosine", "early_stopping.patience=3"))
    assert spec.fixed["scheduler"] == {"name": "cosine", "min_lr": 0.0}
    assert spec.early_stopping == EarlyStopping(patience=3)


def test_anchors_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    text = "\ufefftask: iris\ngrid:\n  hidden: [&small [16, 8], [32]]\nfixed: {clip_norm: &one 1, lr: *one}\n"
    spec = read_text(tmp_path, text)
    assert spec.grid == {"hidden": [[16, 8], [32]]}
    assert (spec.fixed["clip_norm"], spec.fixed["lr"]) == (1.0, 1.0)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it names data, which are looked at when it is read."""
    folder = Path(os.environ.get("GRIDYARD_DATA") or ROOT.parent / "shared" / "data")
    monkeypatch.setenv("GRIDYARD_DATA", str(folder))
    looks = re.search(r"^task: (table|image_folder|causal_lm|kogpt2)$", path.read_text(), flags=re.MULTILINE)
    if looks and not folder.is_dir():
        pytest.skip("the data are neither in GRIDYARD_DATA nor in ../shared/data")
    assert read(path).task in tasks()


def test_the_iris_example_has_36_jobs() -> None:
    spec = read(EXAMPLES / "iris.yaml")
    assert [len(values) for values in spec.grid.values()] == [3, 2, 2]
    assert len(spec.seeds) == 3


def test_every_sweep_in_the_documentation_is_right(tmp_path: Path) -> None:
    blocks = re.findall(r"```(yaml|json|toml)\n(.*?)```", DOCUMENTATION.read_text(), flags=re.DOTALL)
    assert [kind for kind, _ in blocks] == ["yaml", "yaml", "json", "toml"]
    for kind, text in blocks:
        assert read_text(tmp_path, text, f"sweep.{kind}").seeds


def test_the_documentation_has_every_key() -> None:
    documented = re.findall(r"^\| `([a-z_.]+)` \|", DOCUMENTATION.read_text(), flags=re.MULTILINE)
    inner: dict[str, type[BaseModel]] = {
        "early_stopping": EarlyStoppingKeys,
        "objective": ObjectiveKeys,
        "resources": ResourceKeys,
        "keep": KeepKeys,
    }
    keys = [f"{key}.{name}" for key, model in inner.items() for name in model.model_fields]
    assert sorted(documented) == sorted([*SweepKeys.model_fields, *keys])


def test_reading_a_sweep_loads_no_torch_and_no_database(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(YAML)
    code = """if True:
        import sys
        from pathlib import Path
        from scheduler.sweep_file import read
        print(read(Path(sys.argv[1])).task, *{"torch", "sqlalchemy", "sklearn", "pandas"} & set(sys.modules))
    """
    command = [sys.executable, "-c", code, str(tmp_path / "sweep.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "iris\n"
