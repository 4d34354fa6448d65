"""Leaderboards as text and CSV."""

import csv
import io
import math
import sys
from typing import Any

import pytest

from db.leaderboard import Ranked, RankedCell
from gridyard import tables

FIXED = {"optimizer": "adam", "batch_size": 16}


def job(rank: int, **changes: Any) -> Ranked:
    values: dict[str, Any] = {
        "rank": rank,
        "job": 40 + rank,
        "sweep": 1,
        "task": "iris",
        "params": FIXED | {"lr": 0.003, "hidden": [16, 8], "dropout": 0.1 * rank},
        "varied": ["dropout", "hidden", "lr"],
        "seed": rank,
        "metric": "val_accuracy",
        "score": 0.966666666666,
        "metrics": {"train_loss": 0.05, "val_accuracy": 0.96, "test_loss": 0.0612345678, "test_accuracy": 0.95555},
        "best_epoch": 31,
        "epochs": 51,
        "seconds": 1.23456,
        "state": "succeeded",
    }
    return Ranked(**values | changes)


def cell(**changes: Any) -> RankedCell:
    values: dict[str, Any] = {
        "rank": 1,
        "sweep": 1,
        "task": "iris",
        "cell": 3,
        "params": FIXED | {"lr": 0.003},
        "varied": ["lr"],
        "metric": "val_accuracy",
        "mean": 0.9,
        "std": 0.0123456,
        "n": 3,
        "jobs": [1, 2, 3],
        "metrics": {"test_accuracy": 0.96, "val_loss": 0.1},
        "metrics_std": {"test_accuracy": 0.0279, "val_loss": None},
    }
    return RankedCell(**values | changes)


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_leaderboard_shows_what_the_grid_varies_and_not_what_it_fixes() -> None:
    header, _, first, _ = words(tables.leaderboard([job(1), job(2)]))
    assert header == (
        ["rank", "job", "score", "lr", "hidden", "dropout", "seed", "test_accuracy", "test_loss", "epochs", "seconds"]
    )
    assert first == ["1", "41", "0.9667", "0.003", "[16,8]", "0.1", "1", "0.9556", "0.06123", "51", "1.235"]


def test_a_leaderboard_of_cells_shows_mean_and_spread() -> None:
    lines = tables.leaderboard([cell(), cell(rank=2, cell=4, std=None, n=1)]).splitlines()
    assert "mean ± std" in lines[0]
    assert "0.9000 ± 0.012" in lines[2]
    assert "0.9600 ± 0.028" in lines[2]
    assert "0.9000  " in lines[3]


def test_what_rounding_leaves_between_equal_scores_is_no_spread() -> None:
    shown = tables.leaderboard([cell(mean=0.9666666666666667, std=5.0e-17)])
    assert "0.9667 ± 0.0 " in shown


def test_the_flat_rows_of_cells_have_each_metric_with_its_spread_beside_it() -> None:
    (row,) = tables.flat([cell()])
    assert list(row)[-4:] == ["test_accuracy", "test_accuracy_std", "val_loss", "val_loss_std"]
    assert (row["test_accuracy"], row["test_accuracy_std"], row["val_loss_std"]) == (0.96, 0.0279, None)


def test_a_leaderboard_over_sweeps_tells_sweep_task_and_what_differs() -> None:
    other = job(2, sweep=2, task="sine", metric="val_mse", params={"lr": 0.1, "optimizer": "sgd"}, varied=[])
    header, _, first, second = words(tables.leaderboard([job(1), other]))
    assert {"sweep", "task", "metric", "optimizer"} <= set(header)
    assert "sine" in second
    assert "adam" in first


def test_a_leaderboard_drops_test_metrics_and_never_digits_to_fit_in_its_width() -> None:
    many = {f"test_metric_number_{i}": 0.123456789 for i in range(20)}
    text = tables.leaderboard([job(1, metrics=many | {"test_accuracy": 0.5})])
    assert max(len(line) for line in text.splitlines()) <= tables.WIDTH
    assert "test_accuracy" in text
    assert "…" not in text


def test_on_a_terminal_sentences_are_folded_between_words_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "as many words as it takes to be much wider than the terminal is"
    wide = tables.table(["name", "description"], [["lr", sentence]])
    assert sentence in wide
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    lines = tables.table(["name", "description"], [["lr", sentence]]).splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines[2:]).split()) == f"lr {sentence}"
    name = "x" * 60  # what is no sentence is never cut
    assert name in tables.table(["name", "description"], [[name, sentence]])


def test_parameters_are_never_dropped_however_wide() -> None:
    wide = {f"parameter_{i}": list(range(10)) for i in range(12)}
    text = tables.leaderboard([job(1, params=wide, varied=list(wide))])
    assert all(name in text for name in wide)
    assert "…" not in text


def test_a_score_that_is_not_there_is_a_dash() -> None:
    assert "–" in words(tables.leaderboard([job(1, score=None)]))[2]


def test_csv_has_every_metric_with_all_digits() -> None:
    written = io.StringIO()
    tables.write_csv([job(1), job(2)], written)
    first, _ = csv.DictReader(io.StringIO(written.getvalue()))
    assert first["hidden"] == "[16, 8]"
    assert float(first["score"]) == 0.966666666666
    assert float(first["train_loss"]) == 0.05
    assert list(first)[:6] == ["rank", "job", "score", "lr", "hidden", "dropout"]


def test_csv_of_nothing_is_a_header_of_columns_that_are_always_there() -> None:
    for by, flat in (("job", tables.flat([job(1)])), ("cell", tables.flat([cell()]))):
        written = io.StringIO()
        tables.write_csv([], written, by=by)
        (header,) = csv.reader(io.StringIO(written.getvalue()))
        assert set(header) <= set(flat[0])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.003, "0.003"),
        (1e-05, "1e-05"),
        ([16, 8], "[16,8]"),
        ({"name": "step", "step_size": 30, "gamma": 0.5}, "step(step_size=30, gamma=0.5)"),
        (None, "null"),
        (True, "true"),
        ("adam", "adam"),
    ],
)
def test_parameters_are_shown_exactly(value: Any, shown: str) -> None:
    assert tables.parameter(value) == shown


def test_numbers_are_shown_with_four_digits() -> None:
    values = (0.123456, 1.0, 1234.5, 12345.6, 7, None, math.inf)
    assert [tables.number(value) for value in values] == ["0.1235", "1.000", "1234", "1.235e+04", "7", "–", "inf"]
