"""gridyard data and gridyard data get."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridyard import cli
from jobs.data.sets import SETS
from jobs.errors import InputError, UnknownDataSet


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder; it has tiny Shakespeare, as somebody put it there."""
    monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path))
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("To be")
    return tmp_path


def test_the_list_says_what_lies_where(folder: Path) -> None:
    answer = CliRunner().invoke(cli.app, ["data"])
    assert answer.exit_code == 0
    lines = {line.split()[0]: line for line in answer.stdout.splitlines() if line}
    assert set(SETS) <= set(lines)
    assert str(folder / "tinyshakespeare") in lines["tiny_shakespeare"]
    assert "not here" in lines["mnist"]
    assert "comes with scikit-learn" in lines["iris"]
    assert "not to be passed on" in lines["cats_dogs"]


def test_the_list_as_json(folder: Path) -> None:
    answer = CliRunner().invoke(cli.app, ["data", "--json"])
    rows = {row["name"]: row for row in json.loads(answer.stdout)}
    assert list(rows) == list(SETS)
    assert rows["tiny_shakespeare"] == {
        "name": "tiny_shakespeare",
        "summary": "1.1 million characters of Shakespeare",
        "here": True,
        "place": str(folder / "tinyshakespeare"),
        "missing": [],
        "download_bytes": 1_115_394,
        "home": "karpathy/char-rnn on GitHub",
        "licence": "public domain",
        "note": "",
    }
    assert (rows["diamonds"]["here"], rows["diamonds"]["missing"]) == (False, ["diamonds.csv"])
    assert (rows["iris"]["here"], rows["iris"]["place"]) == (True, None)
    shapes = (Path(__file__).parents[2] / "docs" / "json.md").read_text()
    assert all(f"`{key}`" in shapes for key in rows["iris"])


def test_get_tells_where_a_set_lies(folder: Path) -> None:
    answer = CliRunner().invoke(cli.app, ["data", "get", "tiny_shakespeare", "iris"])
    assert answer.exit_code == 0
    assert answer.stdout.splitlines() == [
        f"tiny_shakespeare: {folder / 'tinyshakespeare'}",
        "iris: comes with scikit-learn",
    ]
    assert (folder / "tinyshakespeare" / "input.txt").read_text() == "To be"


def test_a_wrong_name_is_told_before_anything_is_fetched(folder: Path) -> None:
    answer = CliRunner().invoke(cli.app, ["data", "get", "diamonds", "mnits"])
    assert isinstance(answer.exception, UnknownDataSet)
    assert 'did you mean "mnist"' in str(answer.exception)
    assert [path.name for path in folder.iterdir()] == ["tinyshakespeare"]


@pytest.mark.parametrize("arguments", [[], ["iris", "--all"]])
def test_get_wants_names_or_all(arguments: list[str]) -> None:
    answer = CliRunner().invoke(cli.app, ["data", "get", *arguments])
    assert isinstance(answer.exception, InputError)
    assert str(answer.exception).startswith("give the names of data sets, or --all. Data sets: iris, ")


def test_every_set_stands_in_the_docs_with_its_home_licence_and_files() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for found in SETS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{found.name}`"))
        assert found.home in row
        assert found.licence in row
        assert all(f"{found.folder}/{file.path}" in row for file in found.files)
