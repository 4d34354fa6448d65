"""Predictions of a trained model: from tables, pictures and prompts as people have them, and the mistakes they make."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from gridyard import cli
from gridyard.client import Yard
from gridyard.job import Job
from jobs import inputs, predict
from jobs.errors import InputError
from jobs.images import problem as images
from jobs.problem import Model, Signature
from jobs.tasks import iris
from tests.trained import trained

IRIS = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)"
SETOSA, VIRGINICA = "5.1,3.5,1.4,0.2", "6.7,3.0,5.2,2.3"
ROW = ["sepal_length=5.1", "sepal_width=3.5", "petal_length=1.4", "petal_width=0.2"]


@pytest.fixture(scope="module")
def yard(yard: Yard) -> Yard:
    """Job 1 tells irises apart, job 2 computes the sine of x."""
    trained(yard, task="iris", epochs=20)
    trained(yard, task="sine", epochs=5)
    return yard


@pytest.fixture(scope="module")
def flowers(yard: Yard) -> Job:
    return yard.job(1)


def command(yard: Yard, *words: str, stdin: str = "") -> Result:
    given = ["predict", *words, "--db", yard.overrides["db"]]
    return CliRunner(env={"GRIDYARD_STORE": yard.overrides["store"]}).invoke(cli.app, given, input=stdin)


# Tables


def test_the_rows_of_a_file_get_their_classes_by_the_numbers_a_spreadsheet_shows(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text(f"{IRIS},note\n{SETOSA},a\n{VIRGINICA},b\n")
    answer = command(yard, "1", str(tmp_path / "two.csv"), "--json")
    found = json.loads(answer.stdout)
    assert [(one["input"], one["class"]) for one in found] == [(2, "setosa"), (3, "virginica")]
    for one in found:
        assert one["probability"] == one["probabilities"][one["class"]] == max(one["probabilities"].values())
        assert sum(one["probabilities"].values()) == pytest.approx(1)
    assert "not used: column note" in answer.stderr


def test_csv_and_parquet_frames_rows_and_stdin_give_the_same(yard: Yard, flowers: Job, tmp_path: Path) -> None:
    frame = pd.DataFrame([[float(cell) for cell in VIRGINICA.split(",")]], columns=IRIS.split(","))
    frame.to_parquet(tmp_path / "one.parquet")
    frame.to_csv(tmp_path / "one.csv", index=False)
    (expected,) = flowers.predict(frame)
    assert expected["class"] == "virginica"
    row = dict(zip(IRIS.split(","), VIRGINICA.split(","), strict=True))
    for given in (tmp_path / "one.parquet", str(tmp_path / "one.csv"), row, [row], [tmp_path / "one.csv"]):
        (found,) = flowers.predict(given)
        assert found["probabilities"] == expected["probabilities"]
    (found,) = json.loads(command(yard, "1", "-", "--json", stdin=f"{IRIS}\n{VIRGINICA}\n").stdout)
    assert found["probabilities"] == expected["probabilities"]


def test_a_row_is_typed_with_short_names_of_its_columns(yard: Yard) -> None:
    answer = command(yard, "1", *ROW)
    assert answer.stdout.startswith("row 1 ")
    assert " setosa " in answer.stdout
    assert "virginica" in answer.stdout  # with its probability, after it


def test_a_model_of_values_gives_them_in_the_unit_of_the_data(yard: Yard) -> None:
    (found,) = json.loads(command(yard, "2", "x=1.5", "--json").stdout)
    assert found["input"] == 1
    assert found["value"] == pytest.approx(math.sin(1.5), abs=0.15)
    assert command(yard, "2", "x=1.5").stdout == f"row 1       {found['value']:.6g}\n"


def test_csv_has_a_column_for_each_class(yard: Yard) -> None:
    answer = command(yard, "1", "-", "--csv", stdin=f"{IRIS}\n{SETOSA}\n{VIRGINICA}\n")
    rows = list(csv.DictReader(io.StringIO(answer.stdout)))
    assert [row["class"] for row in rows] == ["setosa", "virginica"]
    assert set(rows[0]) == {"input", "class", "probability", *(f"probability_{name}" for name in iris.table().classes)}
    assert rows[1]["probability"] == rows[1]["probability_virginica"]


def test_top_keeps_the_likeliest_classes(flowers: Job) -> None:
    (found,) = flowers.predict(dict(word.split("=") for word in ROW), top=2)
    assert len(found["probabilities"]) == 2
    assert next(iter(found["probabilities"])) == found["class"]


def test_the_best_job_of_a_sweep_is_named_by_the_sweep(yard: Yard) -> None:
    assert command(yard, "best:2", "x=1", "--json").stdout == command(yard, "2", "x=1", "--json").stdout


def test_many_rows_are_predicted_batch_by_batch_as_one_by_one(flowers: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame(iris.table().rows, columns=iris.table().features)
    whole = flowers.predict(frame)
    monkeypatch.setattr(inputs, "ROWS", 7)
    parts = flowers.predict(frame)
    assert [one["input"] for one in parts] == list(range(1, 151))
    assert [one["class"] for one in parts] == [one["class"] for one in whole]


def test_json_is_whole_even_when_the_input_is_not(yard: Yard) -> None:
    answer = command(yard, "1", "-", "--json", stdin=f"{IRIS}\n5.1,3.5,1.4,abc\n")
    assert json.loads(answer.stdout) == []
    assert isinstance(answer.exception, InputError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{IRIS}\n5.1,3.5,1.4,\n", r'rows.csv, row 2: column "petal width \(cm\)" is empty'),
        (f"{IRIS}\n{SETOSA}\n5.1,3.5,short,0.2\n", r'rows.csv, row 3: column "petal length \(cm\)" holds "short"'),
        ("sepal length (cm),width\n5.1,3.5\n", r'rows.csv has no column "sepal width \(cm\)"'),
        (f"{SETOSA}\n{VIRGINICA}\n", "rows.csv has no header: its first row holds 5.1, 3.5, 1.4"),
        (f"{IRIS}\n5.1;3.5;1.4;0.2\n", "rows.csv, row 2 has 1 cells, the header has 4"),
        (f"{IRIS}\n", "rows.csv has a header and no rows"),
        ("", "rows.csv is empty"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row_and_column(
    flowers: Job, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        flowers.predict(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.csv"], "none.csv cannot be read: No such file"),
        ([], "INPUT is missing; give a CSV or Parquet file, - for CSV on stdin, or sepal_length=…"),
        (["a.csv", "b.csv"], "give one table, or one row as sepal_length=… .* 2 inputs were given"),
        (["flower.png"], "flower.png is a picture, and this model predicts from a table with columns sepal length"),
        (ROW[:2], r"give also petal length \(cm\), petal width \(cm\)"),
        ([*ROW, "petal_lenght=2"], r"there is no column 'petal_lenght'; did you mean \"petal length \(cm\)\""),
        ([*ROW, "petal_width=2"], "petal_width=2: petal_width is given twice"),
        ([*ROW[:3], "petal_width=wide"], r'column "petal width \(cm\)" holds "wide"; allowed is a number'),
        ([*ROW, "--temperature", "0.5"], "temperature: this model does not write texts"),
        ([*ROW, "--prompts", "texts.txt"], "--prompts: this model predicts from rows of a table, not from texts"),
        ([*ROW, "--json", "--csv"], "--json and --csv are both given"),
    ],
)
def test_a_mistake_at_the_command_is_said_in_one_message(yard: Yard, words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        raise_of(command(yard, "1", *words))


@pytest.mark.parametrize(
    ("job", "message"),
    [("99", "there is no job 99"), ("best:7", "there is no sweep 7"), ("iris", "'iris' is no job: give its id")],
)
def test_a_job_that_is_not_there_is_said_so(yard: Yard, job: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        raise_of(command(yard, job, *ROW))


def raise_of(answer: Result) -> None:
    assert answer.stdout in ("", "[]\n")
    if answer.exception is not None:
        raise answer.exception


# Pictures


class Brightness(nn.Module):
    """Two logits of pictures (B, C, S, S) of -1 to 1: how dark, how bright."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([-9.0, 9.0]))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean((1, 2, 3))[:, None] * self.weight


@pytest.fixture
def lamp() -> Model:
    """A model that tells dark pictures of 8 x 8 pixels from bright ones."""
    signature = Signature(kind="image", input_shape=(3, 8, 8), classes=("dark", "bright"))
    model = images.model(signature, Brightness())
    model.after = nn.Identity()
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several modes and sizes, in folders within folders, beside other files."""
    (tmp_path / "day").mkdir()
    Image.new("RGB", (40, 20), "white").save(tmp_path / "day/sun.jpg")
    Image.new("L", (8, 8), 10).save(tmp_path / "moon.png")
    Image.new("RGBA", (9, 9), (255, 255, 255, 255)).save(tmp_path / "day/cloud.png")
    Image.new("P", (100, 10), 0).save(tmp_path / "night.gif")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_pictures_of_any_mode_and_size_are_predicted_and_other_files_left_alone(lamp: Model, folder: Path) -> None:
    found = {Path(one["input"]).name: one["class"] for one in predict.predict(lamp, folder)}
    assert found == {"sun.jpg": "bright", "moon.png": "dark", "cloud.png": "bright", "night.gif": "dark"}


def test_a_broken_picture_is_named_and_the_others_are_predicted(
    lamp: Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "PIXELS", 128)  # two pictures of a batch
    Image.effect_noise((64, 64), 50).save(folder / "cut.png")
    whole = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    found = {Path(one["input"]).name: one for one in predict.predict(lamp, [folder])}
    assert len(found) == 5
    assert "cut.png: the picture is damaged" in found["cut.png"]["error"]
    assert [name for name, one in found.items() if "class" in one] != []
    assert sum("class" in one for one in found.values()) == 4


def test_the_command_ends_with_1_after_a_broken_picture(
    yard: Yard, lamp: Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "on_device", lambda job: lamp)
    (folder / "cut.png").write_text("no picture")
    answer = command(yard, "1", str(folder / "cut.png"), str(folder / "moon.png"))
    assert "moon.png" in answer.stdout
    assert "cut.png: this is no picture that can be read" in answer.stderr
    assert "1 of the pictures could not be read" in str(answer.exception)
    assert command(yard, "1", str(folder), "--json").stdout.count('"error"') == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.png", "none.png: there is no such file or folder"),
        ("rows.csv", "rows.csv is a table, and this model predicts from pictures"),
        ("empty", "empty: no pictures are in this folder; they end in .bmp, "),
        ("size=7", "size=7: there is no such file or folder; this model predicts from pictures, not from columns"),
        ({"size": 7}, "this model predicts from pictures: give picture files, or a folder of them"),
    ],
)
def test_what_is_no_picture_is_refused(
    lamp: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        list(predict.predict(lamp, given))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this is no picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "this is no picture that can be read"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "(this is no picture that can be read|the picture is damaged)"),
    ],
)
def test_a_file_that_only_ends_like_a_picture_gets_an_error(
    lamp: Model, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.png").write_bytes(content)
    (found,) = predict.predict(lamp, tmp_path / "a.png")
    with pytest.raises(InputError, match=message):
        raise InputError(found["error"])
