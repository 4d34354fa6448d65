"""Wrong input and JSON, by the whole command line in this process: many cases, each in milliseconds."""

import json
import sys
from pathlib import Path

import pytest

from gridyard import cli

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


WRONG = {
    "an unknown command": (["frobnicate"], "No such command 'frobnicate'"),
    "no sweep file": (["submit"], "Missing argument"),
    "a sweep file that is not there": (["submit", "nothing.yaml"], "nothing.yaml: there is no such file"),
    "a wrong value in a sweep file": (["submit", "grid.yaml", "--set", "fixed.lr=-1"], "lr"),
    "a wrong --set": (["run", "grid.yaml", "--set", "epochs"], "--set epochs"),
    "an unknown sweep": (["status", "12"], "there is no sweep 12"),
    "a sweep that is no number": (["status", "first"], "valid integer"),
    "an unknown sweep to watch": (["watch", "12"], "there is no sweep 12"),
    "an unknown sweep to cancel": (["cancel", "12"], "there is no sweep 12"),
    "an unknown sweep to resume": (["resume", "12"], "there is no sweep 12"),
    "an unknown sweep to retry": (["retry", "12"], "there is no sweep 12"),
    "an unknown job": (["show", "12"], "there is no job 12"),
    "an unknown task": (["tasks", "irsi"], 'did you mean "iris"'),
    "a leaderboard of an unknown task": (["leaderboard", "--task", "irsi"], 'did you mean "iris"'),
    "a leaderboard of an unknown parameter": (["leaderboard", "--where", "dropuot=1"], 'did you mean "dropout"'),
    "a condition without a value": (["leaderboard", "--where", "lr"], "--where lr"),
    "a leaderboard by nonsense": (["leaderboard", "--by", "colour"], "by job or by cell"),
    "a leaderboard of a sweep and a task": (["leaderboard", "1", "--task", "iris"], "only one of them"),
    "no worker at all": (["run", "grid.yaml", "--workers", "0"], "--workers"),
    "a database URL that is none": (["status", "--db", "foo"], "sqlite:///FILE"),
    "a database of another kind": (["status", "--db", "mysql://me@here/db"], "mysql"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_ends_with_2_and_one_message(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert gridyard(words, monkeypatch) == 2
    written = capfd.readouterr()
    assert message in written.err
    assert "Traceback" not in written.err
    assert written.out == ""


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
