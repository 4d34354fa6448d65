"""A user's own table: what is found in it, the mistakes that are likely with it, and its training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from jobs import artifact, columns, sheets, sources, tasks
from jobs.catalogue import Unfit, find
from jobs.catalogue.tables import TableParams
from jobs.errors import InputError, SweepFileError
from jobs.problem import Problem
from jobs.spec import JobSpec, Outcome, TrainResult
from jobs.survey import Survey, prepare, survey
from jobs.tasks import table
from scheduler.sweep_file import parse
from tests.training import content_of

MakeSpec = Callable[..., JobSpec]
TrainOne = Callable[..., Outcome]


def houses(rows: int = 60) -> pd.DataFrame:
    """Prices that follow from size and city."""
    draws = np.random.default_rng(0)
    size, city = draws.uniform(20, 200, rows).round(1), draws.choice(["Rom", "Ulm", "Wien"], rows)
    return pd.DataFrame(
        {
            "size": size,
            "city": city,
            "sold": pd.date_range("2020-01-01", periods=rows, freq="9D").strftime("%Y-%m-%d"),
            "owner": [f"owner {number % 12}" for number in range(rows)],
            "price": (size * 3 + (city == "Wien") * 100).round(2),
            "dear": np.where(size * 3 > 350, "yes", "no"),
        }
    )


def looked(frame: pd.DataFrame, target: str, **given: Any) -> Survey:
    return survey(sheets.of_frame(frame, "homes.csv"), TableParams(target=target, **given))


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Problem]:
    """build(frame, target="price", …): the problem of a table, as a trainer makes it."""

    def made(frame: pd.DataFrame, seed: int = 0, **given: Any) -> Problem:
        frame.to_csv(tmp_path / "homes.csv", index=False)
        module, params = tasks.load("table", {"data": str(tmp_path / "homes.csv"), **given})
        problem = module.build(params, seed)
        assert isinstance(problem, Problem)
        return problem

    return made


class TestKind:
    @pytest.mark.parametrize(
        ("values", "classes"),
        [
            (["yes", "no"], ("no", "yes")),
            ([0, 1], ("0", "1")),
            ([10, 2, 3], ("2", "3", "10")),
            ([1.0, 2.0], ("1", "2")),
            ([True, False], ("False", "True")),
            (list(range(30)), ()),
            ([0.5, 1.5], ()),
        ],
    )
    def test_it_is_found_from_the_target(self, values: list[Any], classes: tuple[str, ...]) -> None:
        frame = pd.DataFrame({"x": np.arange(60) % 7, "y": [values[row % len(values)] for row in range(60)]})
        assert looked(frame, "y").classes == classes

    def test_it_is_what_the_user_says(self) -> None:
        frame = pd.DataFrame({"x": np.arange(60) % 7, "y": np.arange(60) % 3})
        assert looked(frame, "y", kind="regression").classes == ()
        assert len(looked(frame.assign(y=np.arange(60) % 30), "y", kind="classification").classes) == 30


class TestColumns:
    def test_columns_that_tell_nothing_are_left_out_and_named(self) -> None:
        frame = houses().assign(same="x", empty=None, title=[f"home {row}" for row in range(60)])
        frame.insert(0, "id", range(60))
        found = looked(frame, "price", ignore=["owner"])
        assert [cells.name for cells in found.inputs] == ["size", "city", "sold", "dear"]
        assert (
            'left out: "id" (numbers the rows), "same" (the same in every row), "empty" (empty), '
            '"title" (different in every row)' in found.notes
        )

    def test_a_year_in_every_row_is_no_number_of_the_row(self) -> None:
        frame = pd.DataFrame({"year": range(1950, 2010), "y": np.linspace(0, 1, 60)})
        assert [cells.name for cells in looked(frame, "y").inputs] == ["year"]

    def test_what_is_done_to_the_data_is_told(self) -> None:
        frame = houses()
        frame.loc[[3, 5], "size"] = None
        frame.loc[[7], "city"] = None
        notes = looked(pd.concat([frame, frame[:4]]), "price").notes
        assert '"size" is empty in 3 rows: filled by the training rows\' median, and marked' in notes
        assert '"city" is empty in 1 rows: a value of its own' in notes
        assert '"sold" holds dates' in notes
        assert "4 rows are copies of an earlier one" in notes


def wrong_target(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(dear=["yes"] * 59 + ["maybe"])


MISTAKES: list[tuple[Callable[[pd.DataFrame], pd.DataFrame], dict[str, Any], str, str]] = [
    (lambda f: f, {"target": None}, "target", "is missing; name the column to predict. Columns: size, city, sold"),
    (lambda f: f, {"target": "prise"}, "target", 'homes.csv has no column "prise"; did you mean "price"\\?'),
    (lambda f: f, {"target": "price", "ignore": ["towner"]}, "ignore", 'no column "towner"; did you mean "owner"'),
    (lambda f: f, {"target": "price", "ignore": ["price"]}, "ignore", '"price" is the target'),
    (lambda f: f, {"target": "price", "group": "owners"}, "group", 'no column "owners"; did you mean "owner"'),
    (lambda f: f, {"target": "price", "group": "owner", "time": "sold"}, "time", "group is given too"),
    (lambda f: f, {"target": "price", "time": "city"}, "time", '"city" holds neither dates nor numbers, such as "Rom"'),
    (lambda f: f, {"target": "price", "group": "dear"}, "group", '"dear" has 2 different values; three parts need'),
    (lambda f: f[:1], {"target": "price"}, "data", "homes.csv has 1 row; at least 10 are needed"),
    (lambda f: f[:6], {"target": "price"}, "data", "homes.csv has 6 rows; at least 10 are needed"),
    (lambda f: f[["price"]], {"target": "price"}, "data", "homes.csv has no column to predict price from"),
    (lambda f: f.assign(dear="no"), {"target": "dear"}, "target", '"dear" is "no" in every row; there is nothing to'),
    (lambda f: f.assign(dear=["no", " no "] * 30), {"target": "dear"}, "target", '"dear" is "no" in every row'),
    (lambda f: f.assign(dear=["1", "1.0"] * 30), {"target": "dear"}, "target", '"dear" is "1" in every row'),
    (
        lambda f: f.assign(price=["1", "1.0"] * 30),
        {"target": "price", "kind": "regression"},
        "target",
        '"price" is "1" in every row',
    ),
    (
        wrong_target,
        {"target": "dear"},
        "target",
        'homes.csv, row 60: class "maybe" of "dear" has this one row',
    ),
    (
        lambda f: f.assign(price=f.price.where(f.index != 16)),
        {"target": "price"},
        "target",
        'homes.csv, row 17: "price" is empty; fill it in or remove the row',
    ),
    (
        lambda f: f.assign(price=["a lot", *f.price[1:].astype(str)]),
        {"target": "price"},
        "target",
        'homes.csv, row 1: "price" holds "a lot"; a regression needs numbers',
    ),
    (
        lambda f: f.assign(size=[*f["size"][:-1].astype(str), "big"]),
        {"target": "price"},
        "data",
        'homes.csv, row 60: column "size" holds "big" where all others hold a number',
    ),
    (
        lambda f: pd.concat([f, f]).assign(dear=[f"v{row}" for row in range(120)]),
        {"target": "dear"},
        "target",
        '"dear" has 120 different values in 120 rows, too many for classes',
    ),
    (
        lambda f: f.assign(price=f.price - 500),
        {"target": "price", "log_target": True},
        "log_target",
        r'"price" is -\d+.*; log\(1 \+ price\) needs values above -1',
    ),
    (
        lambda f: f,
        {"target": "dear", "log_target": True},
        "log_target",
        '"dear" holds classes, which have no',
    ),
    (lambda f: f, {"target": "price", "class_weights": "balanced"}, "class_weights", '"price" holds values, not'),
]


@pytest.mark.parametrize(("change", "given", "param", "message"), MISTAKES)
def test_a_likely_mistake_is_told_with_its_parameter_and_row(
    change: Callable[[pd.DataFrame], pd.DataFrame], given: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(Unfit, match=message) as refused:
        survey(sheets.of_frame(change(houses()), "homes.csv"), TableParams(**given))
    assert refused.value.param == param


class TestPrepare:
    @pytest.mark.parametrize(
        ("target", "kind", "objective"),
        [("price", "regression", "val_r2"), ("dear", "classification", "val_accuracy")],
    )
    def test_it_fixes_the_file_and_the_kind_and_says_what_ranks(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str, kind: str, objective: str
    ) -> None:
        houses().to_csv(tmp_path / "homes.csv", index=False)
        found = prepare(TableParams(data=str(tmp_path / "homes.csv"), target=target).model_dump())
        assert found.params == {
            "data": str(tmp_path / "homes.csv"),
            "fingerprint": sources.fingerprint(tmp_path / "homes.csv"),
            "kind": kind,
        }
        assert found.objective is not None
        assert found.objective.metric == objective
        assert objective.removeprefix("val_") in (found.metrics or ())
        assert f'homes.csv: {kind}: "{target}" has' in caplog.text
        assert 'homes.csv: "sold" holds dates' in caplog.text

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (None, "is missing; give the path of your data"),
            ("homs.csv", 'was given "homs.csv", but there is neither'),
            (".", "a folder; give a CSV or Parquet file"),
            ("broken.csv", "broken.csv, row 2 has 1 cells, the header has 2"),
        ],
    )
    def test_a_file_that_is_none_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, message: str
    ) -> None:
        (tmp_path / "broken.csv").write_text("a,b\n1\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(Unfit, match=message) as refused:
            prepare(TableParams(data=given, target="price").model_dump())
        assert refused.value.param == "data"


@pytest.mark.parametrize(
    ("target", "cells", "where", "message"),
    [
        (
            "price",
            {"grid": {"class_weights": ["none", "balanced"]}},
            "grid.class_weights[1]",
            '"price" holds values, not classes',
        ),
        (
            "price",
            {"cells": [{"lr": 0.1}, {"class_weights": "balanced"}]},
            "cells[1].class_weights",
            '"price" holds values',
        ),
        ("loss", {"grid": {"log_target": [True, False]}}, "grid.log_target[0]", 'row 2: "loss" is -9; log'),
        ("dear", {"grid": {"log_target": [True, False]}}, "grid.log_target[0]", '"dear" holds classes'),
    ],
)
def test_a_value_that_does_not_fit_the_target_is_refused_at_submission_in_whichever_cell(
    tmp_path: Path, target: str, cells: dict[str, Any], where: str, message: str
) -> None:
    houses().assign(loss=[-9, *range(59)]).to_csv(tmp_path / "homes.csv", index=False)
    with pytest.raises(SweepFileError) as refused:
        parse({"task": "table", "fixed": {"data": str(tmp_path / "homes.csv"), "target": target}, **cells})
    assert where in str(refused.value)
    assert message in str(refused.value)


class TestTraining:
    def test_a_group_is_in_one_part(self, build: Callable[..., Problem]) -> None:
        frame = houses()
        parts = build(frame, target="price", group="owner")
        owners = [set(frame.owner[part.rows.numpy()]) for part in (parts.train, parts.val, parts.test)]
        assert all(owners)
        assert sum(map(len, owners)) == frame.owner.nunique()
        assert "owner" not in parts.model.features

    def test_the_newest_rows_are_for_testing_whatever_their_order_in_the_file(
        self, build: Callable[..., Problem]
    ) -> None:
        frame = houses().sample(frac=1, random_state=0, ignore_index=True)
        parts = build(frame, target="price", time="sold")
        days = [sorted(frame.sold[part.rows.numpy()]) for part in (parts.train, parts.val, parts.test)]
        assert days[0][-1] < days[1][0] <= days[1][-1] < days[2][0]
        assert [len(part) for part in days] == [36, 12, 12]

    @pytest.mark.parametrize("target", ["price", "dear"])
    def test_nothing_but_training_rows_decides_what_a_row_becomes(
        self, build: Callable[..., Problem], target: str
    ) -> None:
        """The other rows' numbers and words change: the training inputs stay as they are."""
        frame = houses()
        before = build(frame, target=target)
        others = np.setdiff1d(np.arange(60), before.train.rows.numpy())
        changed = frame.copy()
        changed.loc[others, "size"] *= 100
        changed.loc[others, "city"] = "Bern"
        table.surveyed.cache_clear()
        after = build(changed, target=target)
        assert torch.equal(before.train.rows, after.train.rows)
        assert torch.equal(before.train.inputs, after.train.inputs)
        assert torch.equal(before.train.targets, after.train.targets)
        assert not torch.equal(before.test.inputs, after.test.inputs)

    def test_balanced_classes_weigh_the_same_and_a_row_weighs_1_on_average(self, build: Callable[..., Problem]) -> None:
        frame = houses().assign(kind=["a"] * 40 + ["b"] * 15 + ["c"] * 5)
        problem = build(frame, target="kind", class_weights="balanced")
        outputs, targets = torch.zeros(len(problem.train), 3), problem.train.targets
        losses = problem.loss(outputs, targets) / np.log(3)
        assert losses.mean().item() == pytest.approx(1.0)
        assert [losses[targets == number].sum().item() for number in range(3)] == pytest.approx([12.0] * 3)

    @pytest.mark.parametrize(
        ("given", "metric", "lowest"),
        [
            ({"target": "dear", "class_weights": "balanced"}, "test_balanced_accuracy", 0.8),
            ({"target": "price"}, "test_r2", 0.9),
            ({"target": "price", "log_target": True}, "test_r2", 0.8),
        ],
    )
    def test_a_table_is_learned_and_its_model_takes_rows_of_another_file(
        self,
        tmp_path: Path,
        make_spec: MakeSpec,
        train_one: TrainOne,
        given: dict[str, Any],
        metric: str,
        lowest: float,
    ) -> None:
        houses(300).to_csv(tmp_path / "homes.csv", index=False)
        data = {"data": str(tmp_path / "homes.csv"), "ignore": ["dear", "price"], **given}
        data["ignore"] = [name for name in data["ignore"] if name != given["target"]]
        objective = find("iris" if "dear" in given.values() else "auto_mpg").objective
        result = train_one(make_spec("table", epochs=60, lr=0.01, objective=objective, **data))
        assert isinstance(result, TrainResult)
        assert result.metrics[metric] >= lowest
        assert result.environment["notes"]
        model = artifact.load(content_of(result))
        rows = columns.read_rows(tmp_path / "homes.csv", model.signature)
        predictions = model(rows.values)
        assert predictions.shape == (300, 2 if model.classes else 1)
        assert predictions.isfinite().all()
        assert rows.notes == () or "not used" in rows.notes[0]

    def test_a_file_that_changed_since_submission_is_refused(
        self, tmp_path: Path, make_spec: MakeSpec, train_one: TrainOne
    ) -> None:
        path = tmp_path / "homes.csv"
        houses().to_csv(path, index=False)
        fixed = prepare(TableParams(data=str(path), target="price").model_dump()).params
        houses(61).to_csv(path, index=False)
        failure = train_one(make_spec("table", target="price", **fixed))
        assert "homes.csv has changed since the sweep was submitted" in failure.error
        assert not failure.again

    def test_a_class_that_only_other_parts_have_is_noted(self, build: Callable[..., Problem]) -> None:
        frame = houses().assign(kind=["a", "b"] * 28 + ["new"] * 4)
        assert "no training row has class new" in build(frame, target="kind", time="sold").notes


def test_a_decimal_comma_file_gives_the_same_problem(tmp_path: Path) -> None:
    frame = houses()
    frame.to_csv(tmp_path / "point.csv", index=False)
    frame.to_csv(tmp_path / "comma.csv", index=False, sep=";", decimal=",")
    built = []
    for name in ("point.csv", "comma.csv"):
        module, params = tasks.load("table", {"data": str(tmp_path / name), "target": "price"})
        built.append(module.build(params, 0))
    assert torch.equal(built[0].train.inputs, built[1].train.inputs)
    assert torch.equal(built[0].train.targets, built[1].train.targets)


def test_without_its_file_a_job_says_where_it_looked(make_spec: MakeSpec, train_one: TrainOne) -> None:
    failure = train_one(make_spec("table", data="homes.csv", target="price"))
    assert "homes.csv is not on this machine" in failure.error
    with pytest.raises(InputError):
        sources.opened("homes.csv")
