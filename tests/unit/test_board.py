"""The leaderboard as a table of pandas: all columns are there, and its text shows what a reader compares."""

import pytest

from gridyard.board import Board
from tests.unit.test_cli_tables import cell, job

LONG = {"a_parameter_with_a_name_of_some_length": "x" * 40}


def test_its_text_has_every_place_and_parameter_and_test_metric_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    params = {"lr": 0.003, "hidden": [16, 8], "dropout": 0.1} | LONG
    board = Board.of([job(rank, params=params, varied=list(params)) for rank in range(1, 41)])
    header, *lines = str(board).splitlines()
    tests_and_rest = ["test_accuracy", "test_loss", "best_epoch", "epochs", "seconds"]
    assert header.split() == ["rank", "job", "score", "lr", "hidden", "dropout", *LONG, "seed", *tests_and_rest]
    assert [int(line.split()[0]) for line in lines] == list(range(1, 41))
    assert "x" * 40 in lines[0]
    assert {"train_loss", "val_accuracy"} <= set(board.columns)


def test_the_text_of_a_very_long_one_ends_as_pandas_says() -> None:
    board = Board.of([job(rank) for rank in range(1, 1001)])
    assert len(str(board).splitlines()) < 70


def test_its_first_places_are_printed_as_the_whole() -> None:
    board = Board.of([job(1), job(2)])
    (header, first), whole = str(board.head(1)).splitlines(), str(board).splitlines()
    assert header.split() == whole[0].split()
    assert first.split() == whole[1].split()
    assert "train_loss" not in header


def test_cells_show_their_spreads_and_one_without_jobs_says_that_it_is_empty() -> None:
    header, _ = str(Board.of([cell()])).splitlines()
    assert header.split() == ["rank", "cell", "mean", "std", "n", "lr", "test_accuracy", "test_accuracy_std"]
    assert "Empty" in str(Board.of([]))


def test_what_a_reader_makes_of_it_keeps_its_row_labels_and_its_columns() -> None:
    board = Board.of([job(1), job(2)])
    assert str(board.set_index("job")).split()[:2] == ["rank", "score"]
    assert str(board.set_index("job")).splitlines()[1].split() == ["job"]
    assert "score" in str(board[["rank", "score"]].T).split()
    assert "val_accuracy" in str(board[["val_accuracy"]])
    assert str(board[board["rank"] > 1]).splitlines()[1].split()[0] == "2"
