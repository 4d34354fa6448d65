"""The regressions on tables from the web: which rows and inputs they have, and what one of them reaches."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from jobs import artifact, columns, tasks
from jobs.catalogue import find
from jobs.errors import InputError
from jobs.problem import Problem
from jobs.spec import EarlyStopping, JobSpec, Outcome, TrainResult
from jobs.tasks import auto_mpg, california_housing, diamonds
from tests.training import content_of

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]
REAL = Path(os.environ.get("GRIDYARD_DATA") or Path(__file__).parents[2].parent / "shared" / "data")


def forget() -> None:
    for cached in (auto_mpg.cars, california_housing.districts, diamonds.diamonds):
        cached.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder for files of a test's own."""
    monkeypatch.setenv("GRIDYARD_DATA", str(tmp_path))
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """real("auto-mpg"): skips the test where the real data are not at hand."""

    def needed(name: str) -> None:
        if not (REAL / name).is_dir():
            pytest.skip(f"{name} is neither in GRIDYARD_DATA nor in ../shared/data")
        monkeypatch.setenv("GRIDYARD_DATA", str(REAL))
        forget()

    yield needed
    forget()


def put(folder: Path, path: str, frame: pd.DataFrame) -> None:
    (folder / path).parent.mkdir()
    frame.to_csv(folder / path, index=False)


def build(task: str, seed: int = 0, **given: object) -> Problem:
    module, params = tasks.load(task, given)
    problem = module.build(params, seed)
    assert isinstance(problem, Problem)
    return problem


def cars() -> pd.DataFrame:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(draws.uniform(1, 9, (40, 7)), columns=["mpg", *auto_mpg.FEATURES[:5], "model_year"])
    frame.loc[[3, 17], "horsepower"] = None
    return frame.assign(origin=draws.choice(["europe", "japan", "usa"], 40), name="car")


def test_auto_mpg_has_the_complete_rows_by_their_numbers_in_the_file_and_an_input_for_each_origin(folder: Path) -> None:
    put(folder, "auto-mpg/mpg.csv", cars())
    problem = build("auto_mpg")
    rows = torch.cat([problem.train.rows, problem.val.rows, problem.test.rows])
    assert sorted(rows.tolist()) == [row for row in range(40) if row not in (3, 17)]
    truth = torch.cat([problem.train.truth, problem.val.truth, problem.test.truth])[:, 0]
    torch.testing.assert_close(truth, torch.from_numpy(cars().mpg.to_numpy()[rows]).float())
    assert problem.train.inputs.shape[1] == 5 + 3
    assert build("auto_mpg", model_year=True).train.inputs.shape[1] == 6 + 3


def test_diamonds_that_are_copies_are_in_one_part_and_each_first_value_has_no_input(folder: Path) -> None:
    draws = np.random.default_rng(0)
    frame = pd.DataFrame(draws.uniform(1, 9, (60, 6)).round(2), columns=["carat", "depth", "table", "x", "y", "z"])
    words = {"cut": ["Fair", "Good", "Ideal"], "color": ["D", "E"], "clarity": ["IF", "SI1"]}
    frame = frame.assign(**{name: draws.choice(values, 60) for name, values in words.items()})
    frame = pd.concat([frame.assign(price=range(300, 360)), frame.assign(price=range(300, 360))])
    frame.iloc[[5, 65], list(frame.columns).index("z")] = 0
    put(folder, "diamonds/diamonds.csv", frame)
    problem = build("diamonds")
    parts = [set((part.rows % 60).tolist()) for part in (problem.train, problem.val, problem.test)]
    assert [len(part) for part in parts] == [36, 12, 12]
    assert len(set.union(*parts)) == 60
    assert problem.train.inputs.shape[1] == 6 + 2 + 1 + 1
    assert problem.notes[0].startswith("60 rows are copies of an earlier one")
    assert problem.notes[1].startswith("2 rows have a length, width or depth of 0 mm")
    assert problem.test.truth.min() >= 300  # USD, whatever is learned


def test_a_file_of_a_set_that_has_other_columns_is_refused(folder: Path) -> None:
    put(folder, "california-housing/california_housing.csv", pd.DataFrame({"MedIncome": [1, 2]}))
    with pytest.raises(InputError, match=r'california_housing.csv has no column "MedInc"; did you mean "MedIncome"'):
        build("california_housing")


@pytest.mark.parametrize(
    ("task", "folder_name", "rows", "inputs"),
    [
        ("california_housing", "california-housing", 20_640, 8),
        ("auto_mpg", "auto-mpg", 392, 8),
        ("diamonds", "diamonds", 53_940, 23),
    ],
)
def test_the_real_sets_have_their_rows(
    real: Callable[[str], None], task: str, folder_name: str, rows: int, inputs: int
) -> None:
    real(folder_name)
    problem = build(task)
    parts = (problem.train, problem.val, problem.test)
    assert sum(map(len, parts)) == rows
    assert [len(part) / rows for part in parts] == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
    assert problem.train.inputs.shape[1] == inputs


def test_auto_mpg_is_learned_and_its_model_takes_the_rows_of_its_file(
    real: Callable[[str], None], make_spec: MakeSpec, train_one: TrainOne
) -> None:
    real("auto-mpg")
    stopping = EarlyStopping(patience=20)
    result = train_one(make_spec("auto_mpg", model_year=True, epochs=find("auto_mpg").epochs, early_stopping=stopping))
    assert isinstance(result, TrainResult)
    assert result.metrics["test_r2"] >= 0.8
    model = artifact.load(content_of(result))
    rows = columns.read_rows(REAL / "auto-mpg" / "mpg.csv", model.signature)
    assert model(rows.values).shape == (398, 1)
    assert (model.signature.about["target"], model.signature.about["unit"]) == ("mpg", "miles per gallon")
    assert rows.notes == ("not used: column name",)
