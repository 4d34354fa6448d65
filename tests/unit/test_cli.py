"""The command line without a database: what it loads, how it reads and writes."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from gridyard import cli, parameters
from gridyard.cli import common, text, values
from jobs import catalogue
from jobs.errors import InputError

HEAVY = ("torch", "pandas", "sqlalchemy", "celery", "numpy", "sklearn", "rich", "pydantic")


@pytest.mark.parametrize("module", ["gridyard", "gridyard.cli"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    loaded = f"import {module}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    answer = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert not set(answer.stdout.split()) & set(HEAVY)


def test_the_client_is_there_when_it_is_asked_for() -> None:
    import gridyard
    from gridyard import client

    assert gridyard.connect is client.connect
    with pytest.raises(AttributeError, match="conect"):
        _ = gridyard.conect


def commands() -> list[str]:
    groups = [
        command.name or command.callback.__name__
        for group in (cli.work, cli.read, cli.use, cli.control)
        for command in group.app.registered_commands
        if command.callback
    ]
    return [*groups, "db upgrade"]


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help(command: str) -> None:
    answer = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert answer.exit_code == 0
    assert len(answer.stdout.splitlines()[2].strip()) > 10  # after the usage: what it does


def test_conditions_are_read_as_values_of_a_sweep_file() -> None:
    assert values.conditions(
        ["lr=1e-3", "hidden=[16, 8]", "optimizer=adam", "scheduler.name=step", "nesterov=true"]
    ) == {
        "lr": 0.001,
        "hidden": [16, 8],
        "optimizer": "adam",
        "scheduler.name": "step",
        "nesterov": True,
    }
    assert values.conditions(["clip_norm=null", "scheduler={name: step}"]) == {
        "clip_norm": None,
        "scheduler": {"name": "step"},
    }


@pytest.mark.parametrize("wrong", ["lr", "=3", "hidden=[1,"])
def test_a_wrong_condition_is_refused_by_its_text(wrong: str) -> None:
    with pytest.raises(InputError, match=r"^--where "):
        values.conditions([wrong])


@dataclass
class Row:
    score: float | None
    when: datetime
    inner: list[dict[str, float]]


def test_json_has_null_for_what_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_json(
        Row(score=math.nan, when=datetime(2026, 1, 2, 3, tzinfo=UTC), inner=[{"loss": math.inf, "lr": 0.1}])
    )
    assert json.loads(capsys.readouterr().out) == {
        "score": None,
        "when": "2026-01-02T03:00:00+00:00",
        "inner": [{"loss": None, "lr": 0.1}],
    }


def test_a_task_is_described_with_types_defaults_and_ranges() -> None:
    described = {one["name"]: one for one in parameters.describe(catalogue.find("iris"))["parameters"]}
    assert described["lr"] == {
        "name": "lr",
        "type": "number",
        "default": 0.01,
        "allowed": "a number, above 0 and at most 100",
        "description": "learning rate",
    }
    assert described["hidden"]["type"] == "list of integers"
    assert described["hidden"]["allowed"] == "a list of at most 32 values, each a whole number from 1 to 65,536"
    assert described["clip_norm"]["type"] == "number or null"
    assert described["optimizer"]["allowed"] == "sgd, adam, adamw, rmsprop, adagrad, adamax, nadam or radam"
    assert described["scheduler"]["allowed"] == "{name: cosine | one_cycle | plateau | step, …} or null"
    assert described["scheduler.gamma (step)"]["default"] == 0.5


@pytest.mark.parametrize("task", catalogue.tasks())
def test_every_parameter_of_every_task_has_a_description(task: str) -> None:
    assert all(one["description"] for one in parameters.describe(catalogue.find(task))["parameters"])


def test_a_task_that_trains_nothing_has_no_loss() -> None:
    told = {name: text.task(parameters.describe(catalogue.find(name))) for name in ("kogpt2", "iris")}
    metrics = {name: next(line for line in lines.splitlines() if "metrics" in line) for name, lines in told.items()}
    assert "loss" not in metrics["kogpt2"]
    assert metrics["iris"].split()[:3] == ["metrics", "loss,", "accuracy,"]
