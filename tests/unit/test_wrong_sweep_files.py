"""Every kind of wrong sweep file gives one clear message: what was given, what is allowed, and where it stands."""

from pathlib import Path
from typing import Any

import pytest

from jobs.errors import InputError, SweepFileError
from scheduler.sweep_file import parse, read

ALL_KEYS = (
    "name, task, grid, cells, fixed, seeds, epochs, early_stopping, objective, retries, retry_on, priority, resources, "
    "queue, time_limit, pack"
)

# kind -> (file, parts of the message); the file's ending is .yaml unless its kind begins with another one
WRONG = {
    "unknown key": (
        "task: iris\nretrys: 2\n",
        [f'line 2, column 1, retrys: there is no key "retrys"; did you mean "retries"? Allowed: {ALL_KEYS}'],
    ),
    "unknown task": (
        "task: irs\n",
        ['line 1, column 7, task: there is no task "irs"; did you mean "iris"? Tasks: auto_mpg, breast_cancer, '],
    ),
    "unknown task, and what else is wrong if the nearest one was meant": (
        "task: irs\ngrid: {lr: [0.1, -1], hiden: [[16]]}\nfixed: {dropout: 2}\n",
        [
            'line 1, column 7, task: there is no task "irs"; did you mean "iris"?',
            "line 2, column 18, grid.lr[1]: was given -1; allowed is a number, above 0",
            'line 2, column 23, grid.hiden: task iris has no parameter "hiden"; did you mean "hidden"?',
            "line 3, column 18, fixed.dropout: was given 2; allowed is a number",
        ],
    ),
    "no task": ("epochs: 3\n", ["task: is missing; allowed is a text. Tasks: auto_mpg, breast_cancer, "]),
    "unknown parameter": (
        "task: iris\ngrid:\n  lrr: [0.1]\n",
        ['line 3, column 3, grid.lrr: task iris has no parameter "lrr"; did you mean "lr"? Allowed: lr, optimizer'],
    ),
    "unknown fixed parameter": (
        "task: sine\nfixed: {hiden: [4]}\n",
        ['line 2, column 9, fixed.hiden: task sine has no parameter "hiden"', "Allowed: lr, "],
    ),
    "unknown optimizer": (
        "task: iris\ngrid: {optimizer: [sgd, adm]}\n",
        ['line 2, column 25, grid.optimizer[1]: was given "adm"; did you mean "adam"? Allowed: sgd, adam'],
    ),
    "unknown scheduler": (
        "task: iris\nfixed:\n  scheduler: {name: stp}\n",
        ['line 3, column 21, fixed.scheduler.name: was given "stp"; did you mean "step"? Allowed: cosine'],
    ),
    "unknown key of a scheduler": (
        "task: iris\nfixed:\n  scheduler: {name: step, step: 3, gama: 0.1}\n",
        [
            'column 36, fixed.scheduler.gama: scheduler has no key "gama"; did you mean "gamma"?',
            'column 27, fixed.scheduler.step: scheduler has no key "step"; did you mean "step_size"?',
        ],
    ),
    "range in a scheduler of a grid": (
        "task: iris\ngrid:\n  scheduler:\n    - null\n    - {name: step, gamma: 7}\n",
        ["line 5, column 27, grid.scheduler[1].gamma: was given 7; allowed is a number, above 0 and at most 1"],
    ),
    "scheduler without a name": (
        "task: iris\nfixed: {scheduler: {gamma: 0.5}}\n",
        ['line 2, column 20, fixed.scheduler: was given {"gamma": 0.5}; allowed is {name: ', "step", "or null"],
    ),
    "unknown metric of the objective": (
        "task: iris\nobjective: {metric: accuracy}\n",
        [
            'line 2, column 21, objective.metric: task iris has no metric "accuracy"; did you mean "val_accuracy"? '
            "Allowed: val_loss, val_accuracy"
        ],
    ),
    "objective on the test split": (
        "task: iris\nobjective: {metric: test_accuracy}\n",
        ['was given "test_accuracy", but a test metric that chooses is no test any more; use "val_accuracy"'],
    ),
    "objective on the training split": (
        "task: iris\nobjective: {metric: train_loss}\n",
        ['was given "train_loss", but training data cannot tell', 'use "val_loss". Allowed: val_loss, val_accuracy'],
    ),
    "unknown monitor": (
        "task: iris\nearly_stopping: {monitor: val_los}\n",
        ['line 2, column 27, early_stopping.monitor: task iris has no metric "val_los"; did you mean "val_loss"?'],
    ),
    "monitor on the test split": (
        "task: iris\nearly_stopping: {monitor: test_loss}\n",
        ['early_stopping.monitor: was given "test_loss", but a test metric that chooses is no test any more'],
    ),
    "unknown key of the early stopping": (
        "task: iris\nearly_stopping: {patiance: 3}\n",
        [
            "line 2, column 18, early_stopping.patiance: "
            'early_stopping has no key "patiance"; did you mean "patience"? '
            "Allowed: monitor, mode, patience, min_delta"
        ],
    ),
    "unknown key of the objective": (
        "task: iris\nobjective: {metrik: val_loss}\n",
        ['objective has no key "metrik"; did you mean "metric"? Allowed: metric, mode'],
    ),
    "unknown mode": (
        "task: iris\nobjective: {metric: val_loss, mode: minimum}\n",
        ['line 2, column 37, objective.mode: was given "minimum"; allowed is max, min or null'],
    ),
    "number in quotes": (
        'task: iris\ngrid: {lr: ["0.1"]}\n',
        ['grid.lr[0]: was given "0.1" (text); allowed is a number, above 0 and at most 100'],
    ),
    "fraction for a whole number": (
        "task: iris\nepochs: 2.5\n",
        ["line 2, column 9, epochs: was given 2.5; allowed is a whole number from 1 to 1,000,000"],
    ),
    "yes for true": (
        "task: iris\nfixed: {nesterov: yes}\n",
        ['fixed.nesterov: was given "yes" (text); allowed is true or false'],
    ),
    "true for a number": (
        "task: iris\nfixed: {lr: true}\n",
        ["fixed.lr: was given true; allowed is a number"],
    ),
    "out of range": (
        "task: iris\ngrid:\n  lr:\n    - 0.1\n    - -1\n",
        ["line 5, column 7, grid.lr[1]: was given -1; allowed is a number, above 0 and at most 100"],
    ),
    "hidden layer of no units": (
        "task: iris\nfixed: {hidden: [16, 0]}\n",
        ["line 2, column 22, fixed.hidden[1]: was given 0; allowed is a whole number from 1 to 65,536"],
    ),
    "negative retries": ("task: iris\nretries: -1\n", ["retries: was given -1; allowed is a whole number from 0 to"]),
    "an unknown reason": (
        "task: iris\nretry_on: [crashed, oom]\n",
        ['line 2, column 21, retry_on[1]: was given "oom". Allowed: diverged, out_of_memory, error, crashed, lost,'],
    ),
    "a reason instead of a list": (
        "task: iris\nretry_on: crashed\n",
        ['retry_on: was given "crashed"; allowed is a list, each diverged'],
    ),
    "a reason twice": (
        "task: iris\nretry_on: [lost, error, lost]\n",
        ['column 25, retry_on[2]: "lost" is given twice, first at line 2, column 12, retry_on[0]'],
    ),
    "not a number": (
        "task: iris\ngrid: {lr: [0.1, .nan, .inf]}\n",
        [
            "column 18, grid.lr[1]: was given nan; allowed is a finite number",
            "column 24, grid.lr[2]: was given inf; allowed is a finite number",
        ],
    ),
    "date": (
        "task: iris\nname: 2026-08-01\n",
        ["line 2, column 7, name: was given the date 2026-08-01; a sweep knows no dates, put a text in quotes"],
    ),
    "duplicate value": (
        "task: iris\ngrid:\n  lr: [1, 0.1, 1.0]\n",
        ["line 3, column 16, grid.lr[2]: 1.0 is given twice, first at line 3, column 8, grid.lr[0]"],
    ),
    "duplicate list": (
        "task: iris\ngrid:\n  hidden: [[16, 8], [8], [16, 8]]\n",
        ["line 3, column 26, grid.hidden[2]: [16, 8] is given twice, first at line 3, column 12, grid.hidden[0]"],
    ),
    "empty list of values": (
        "task: iris\ngrid: {lr: []}\n",
        ["line 2, column 12, grid.lr: has no values; give at least one, or leave the parameter out"],
    ),
    "empty grid": ("task: iris\ngrid:\nepochs: 3\n", ["grid: is empty; name a parameter with its values"]),
    "grid that is a list": (
        "task: iris\ngrid: [0.1]\n",
        ["grid: was given [0.1]; allowed is a list of values for each"],
    ),
    "single value in a grid": (
        "task: iris\ngrid: {lr: 0.1}\n",
        ["grid.lr: was given 0.1; allowed is a list of values; a single value belongs in fixed, or in a list: [0.1]"],
    ),
    "one list where a list of lists is meant": (
        "task: iris\ngrid: {hidden: [16, 8]}\n",
        ["line 2, column 16, grid.hidden: was given one value, [16, 8]; a list of such values is [[16, 8]]"],
    ),
    "parameter both in grid and fixed": (
        "task: iris\ngrid: {lr: [0.1]}\nfixed: {lr: 0.2}\n",
        ["line 2, column 8, grid.lr: stands in fixed too (line 3, column 9, fixed.lr); keep one of them"],
    ),
    "grid and cells": (
        "task: iris\ngrid: {lr: [0.1]}\ncells: [{lr: 0.2}]\n",
        ["line 3, column 1, cells: grid and cells are both given; keep one of them"],
    ),
    "duplicate cell": (
        "task: iris\nfixed: {lr: 0.5}\ncells:\n  - {dropout: 0.1}\n  - {lr: 0.5, dropout: 0.1}\n",
        ['line 5, column 5, cells[1]: {"lr": 0.5, "dropout": 0.1} is the same as line 4, column 5, cells[0]'],
    ),
    "wrong value in a cell": (
        "task: iris\ncells:\n  - lr: 0.1\n  - lr: -1\n    drop: 0.1\n",
        [
            "line 4, column 9, cells[1].lr: was given -1",
            'line 5, column 5, cells[1].drop: task iris has no parameter "drop"; did you mean "dropout"?',
        ],
    ),
    "empty cells": ("task: iris\ncells: []\n", ["line 2, column 8, cells: is empty; allowed is a list of cells"]),
    "cell that is no object": (
        "task: iris\ncells: [0.1, 0.2]\n",
        ["cells[0]: was given 0.1; allowed is an object", "cells[1]: was given 0.2; allowed is an object"],
    ),
    "no seeds": ("task: iris\nseeds: 0\n", ["seeds: was given 0; allowed is a number of seeds from 1 to 10000"]),
    "duplicate seed": (
        "task: iris\nseeds: [3, 1, 3]\n",
        ["line 2, column 15, seeds[2]: 3 is given twice, first at line 2, column 9, seeds[0]"],
    ),
    "negative seed": ("task: iris\nseeds: [0, -1]\n", ["seeds[1]: was given -1; allowed is a whole number from 0"]),
    "key that stands twice": (
        "task: iris\nepochs: 3\nseeds: 2\nepochs: 4\n",
        ["line 4, column 1, epochs: this key stands twice, first in line 2; keep one of them"],
    ),
    "key that is no text": ("task: iris\ngrid: {1: [2]}\n", ["line 2, column 8, grid.1: the key 1 is not a text"]),
    "key that is a boolean": (
        "task: iris\ngrid: {true: [2]}\n",
        ["line 2, column 8, grid.true: the key true is not a text; put it in quotes"],
    ),
    "number too large": ("task: iris\nseeds: 99999999999999999999\n", ["seeds: is a whole number too large to store"]),
    "name that cannot be stored": (
        'task: iris\nname: "a\\0"\n',
        ["name: was given", "characters that cannot be stored"],
    ),
    "name with a line break": ('task: iris\nname: "a\\nb"\n', ["name: was given", "1 to 200 printable characters"]),
    "queue with blanks": ("task: iris\nqueue: my gpus\n", ['queue: was given "my gpus"; allowed is a text of 1 to 64']),
    "two GPUs": ("task: iris\nresources: {gpu: 2}\n", ["line 2, column 18, resources.gpu: was given 2; allowed is"]),
    "no time": ("task: iris\ntime_limit: 0\n", ["time_limit: was given 0; allowed is a number, above 0 or null"]),
    "pack of none": ("task: iris\npack: 0\n", ["line 2, column 7, pack: was given 0; allowed is off, auto or a whole"]),
    "pack of a truth": (
        "task: iris\npack: true\n",
        ["was given true; allowed is off, auto or a whole"],
    ),
    "pack of another word": ("task: iris\npack: [on]\n", ['pack: was given ["on"]; allowed is off, auto or']),
    "not YAML": ("task: iris\ngrid: {lr: [0.1, 0.2}\n", ["line 2, column 21: is not YAML: expected ',' or ']'"]),
    "two documents": ("task: iris\n---\ntask: digits\n", ["line 2, column 1: is not YAML", "another document"]),
    "tag of another program": (
        "task: !!python/name:os.system iris\n",
        ["line 1, column 7: has the tag !!python/name:os.system"],
    ),
    "tag of a value it does not fit": (
        "task: iris\nfixed: {nesterov: !!bool foo}\n",
        ["line 2, column 19: has the tag !!bool; leave it out, and put a text in quotes"],
    ),
    "tag of an empty value": ("task: iris\nepochs: !!int ''\n", ["line 2, column 9: has the tag !!int; leave it out"]),
    "tag of a list": ("task: iris\nseeds: !mine [1]\n", ["line 2, column 8: has the tag !mine; leave it out"]),
    "list as a key": ("task: iris\n? [1, 2]\n: 3\n", ["line 2, column 3: has a key that is a list or an object"]),
    "alias of itself": ("task: iris\nfixed: &a {lr: *a}\n", ["line 2, column 8: is nested too deeply"]),
    "nested without end": ("task: " + "[" * 5000, ["is nested too deeply; a sweep needs no more than a few levels"]),
    "number of thousands of digits": ("seeds: " + "9" * 5000, ["line 1, column 8: has a value that cannot be read"]),
    "empty": ("# nothing\n", ["is empty; allowed are keys with values, such as task: iris"]),
    "a list": ("- task: iris\n", ['holds [{"task": "iris"}]; allowed are keys with values']),
    "json: not JSON": ('{"task": "iris",\n "seeds": }', ["line 2, column 11: is not JSON: Expecting value"]),
    "json: wrong value": (
        '{"task": "iris",\n "grid": {"lr": [0.1,\n   -1]}}',
        ["line 3, column 4, grid.lr[1]: was given -1; allowed is a number"],
    ),
    "json: key that stands twice": (
        '{"task": "iris",\n "epochs": 3,\n "epochs": 4}',
        ["line 3, column 2, epochs: this key stands twice, first in line 2; keep one of them"],
    ),
    "json: nested without end": ("[" * 100, ["is not JSON: Expecting value"]),
    "json: nested deeply": ("[" * 100 + "]" * 100, ["is nested too deeply"]),
    "toml: not TOML": ("task = iris\n", ["line 1, column 8: is not TOML: Invalid value"]),
    "toml: wrong value": (
        'task = "iris"\n[grid]\nlr = [\n  0.1,\n  -1,\n]\n',
        ["line 3, grid.lr[1]: was given -1; allowed is a number, above 0 and at most 100"],
    ),
    "toml: wrong cell": (
        'task = "iris"\n[[cells]]\nlr = 0.1\n[[cells]]\nlr = -1\n',
        ["line 5, cells[1].lr: was given -1"],
    ),
    "toml: date": ('task = "iris"\nepochs = 2026-08-01\n', ["line 2, epochs: was given the date 2026-08-01"]),
}


def write(folder: Path, kind: str, text: str) -> Path:
    ending = kind.partition(": ")[0] if kind.startswith(("json: ", "toml: ")) else "yaml"
    path = folder / f"sweep.{ending}"
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_gives_one_message_with_place_and_remedy(kind: str, tmp_path: Path) -> None:
    text, parts = WRONG[kind]
    path = write(tmp_path, kind, text)
    with pytest.raises(SweepFileError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    for part in parts:
        assert part in message
    for problem in caught.value.problems:  # and it says nothing else
        assert any(part in str(problem) for part in parts)


def test_every_problem_of_a_file_stands_in_one_message_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "task: iris\n"
        "grid:\n"
        "  lr: [0.1, -1]\n"
        "  optimizer: [adm]\n"
        "fixed: {dropout: 1}\n"
        "objective: {metric: test_loss, mode: up}\n"
        "epoch: 3\n"
    )
    with pytest.raises(SweepFileError) as caught:
        read(path)
    places = [problem.place for problem in caught.value.problems]
    assert places == [
        "line 3, column 13, grid.lr[1]",
        "line 4, column 15, grid.optimizer[0]",
        "line 5, column 18, fixed.dropout",
        "line 6, column 21, objective.metric",
        "line 6, column 38, objective.mode",
        "line 7, column 1, epoch",
    ]
    assert str(caught.value).startswith(f"{path}: 6 problems, nothing was submitted\n  - line 3")


def test_problems_are_found_when_the_task_is_unknown_too(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("task: nothing\ngrid: {lr: [1, 1.0]}\nepochs: 0\n")
    with pytest.raises(SweepFileError) as caught:
        read(path)
    assert [problem.place.rpartition(", ")[2] for problem in caught.value.problems] == ["task", "grid.lr[1]", "epochs"]


def test_a_missing_file_a_folder_and_an_unknown_ending_say_so(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    for name, part in [
        ("none.yaml", "none.yaml: there is no such file"),
        ("folder.yaml", "folder.yaml: is a folder; name a sweep file"),
        ("sweep.ini", 'this one ends in ".ini"; allowed are .yaml, .yml, .json, .toml'),
        ("sweep", "this one has no ending"),
        ("nul\0.yaml", "cannot be read"),
    ]:
        with pytest.raises(InputError) as caught:
            read(tmp_path / name)
        assert part in str(caught.value)


def test_parameters_of_a_task_that_is_like_no_other_are_not_guessed_at() -> None:
    with pytest.raises(SweepFileError) as caught:
        parse({"task": "wine", "grid": {"sweetness": [1, 1]}})
    assert [problem.place for problem in caught.value.problems] == ["task", "grid.sweetness[1]"]


def test_nor_are_those_of_a_users_task_that_is_not_found_and_is_called_nearly_as_another() -> None:
    with pytest.raises(SweepFileError) as caught:
        parse({"task": "iris2", "grid": {"lr": [-1], "petals": [3]}, "fixed": {"sepals": 4}})
    assert [problem.place for problem in caught.value.problems] == ["task"]


def test_a_file_that_is_not_utf8_says_in_which_line(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes("task: iris\nname: Größe\n".encode("latin-1"))
    with pytest.raises(SweepFileError, match=r"line 2: is not text in UTF-8 \(byte 0xf6\); save it as UTF-8"):
        read(path)


def test_a_grid_of_too_many_cells_is_refused_before_it_is_expanded() -> None:
    grid = {name: list(range(1, 10_001)) for name in ("batch_size", "warmup_epochs", "split_seed")}
    with pytest.raises(SweepFileError) as caught:
        parse({"task": "iris", "grid": grid, "seeds": 2})
    message = "grid: 1,000,000,000,000 cells; allowed are 1,000,000 (setting GRIDYARD_MAX_CELLS)"
    assert message in str(caught.value)


def test_the_limit_counts_cells_and_jobs_up_to_ten_for_each_cell() -> None:
    sweep: dict[str, Any] = {"task": "iris", "grid": {"lr": [0.1, 0.2]}}
    assert len(parse(sweep | {"seeds": 10}, max_cells=2).seeds) == 10
    with pytest.raises(SweepFileError, match=r"grid: 2 cells; allowed are 1 \(setting GRIDYARD_MAX_CELLS\)"):
        parse(sweep, max_cells=1)
    with pytest.raises(SweepFileError, match=r"2 cells x 11 seeds = 22 jobs; allowed are 20 \(10 for each cell"):
        parse(sweep | {"seeds": 11}, max_cells=2)


def test_a_wrong_set_names_itself_and_not_a_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("task: iris\ngrid:\n  lr: [0.1]\nepochs: 3\n")
    sets = ["grid.lr=[1, -1]", "epochs", "epochs.more=3", "seeds={", "epoch=3", "=3"]
    with pytest.raises(SweepFileError) as caught:
        read(path, sets)
    problems = [str(problem) for problem in caught.value.problems]
    assert len(problems) == len(sets)
    for start in (
        "--set grid.lr, grid.lr[1]: was given -1; allowed is",
        "--set epochs: is not key=value; write for example --set epochs=20",
        "--set epochs.more: epochs is 3 and has no keys; set it as a whole: --set epochs=…",
        "--set seeds={: its value is not YAML",
        '--set epoch: there is no key "epoch"; did you mean "epochs"?',
        "--set =3: is not key=value",
    ):
        assert any(problem.startswith(start) for problem in problems), (start, problems)


def test_a_message_has_one_line_per_problem_whatever_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    path.write_text('{"task": "a\\nb\\u001b[31m", "x\\ny": 1, "\\ud800": 2}')
    with pytest.raises(SweepFileError) as caught:
        read(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 + len(caught.value.problems)
    assert "\x1b" not in message
    assert message.encode()
