"""Bars of what takes long, on a terminal only."""

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.progress import Progress

from gridyard import bars
from gridyard.cli import predictions
from gridyard.client import Yard
from jobs.export import quiet
from tests.trained import trained


class Terminal(io.StringIO):
    """What was written on it, line after line, with the codes that move its cursor."""

    def isatty(self) -> bool:
        return True


def watching(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Somebody looks at stderr. Not by a fixture: pytest puts its own stderr in the place of such a one."""
    terminal, update = Terminal(), Progress.update
    # At once: by the clock, words that others follow soon would not be drawn.
    monkeypatch.setattr(Progress, "update", lambda *args, **others: update(*args, **{**others, "refresh": True}))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_an_export_tells_what_it_is_at(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watching(monkeypatch)
    trained(yard, task="iris", epochs=2).export(tmp_path / "here", formats=["safetensors", "torch"])
    told = terminal.getvalue()
    assert [what in told for what in ("exporting", "taking its steps down", "reading its test part", "model.pt2")] == (
        [True] * 4
    )


def test_nothing_is_told_where_nobody_looks(yard: Yard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(yard, task="iris", epochs=2).export(tmp_path / "here", formats=["torch"])
    assert capsys.readouterr() == ("", "")


def test_a_bar_goes_on_while_others_are_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watching(monkeypatch)
    with bars.steps("exporting", 2) as advance, quiet():
        advance("the second part")
        sys.stderr.write("noise")
    assert "the second part" in terminal.getvalue()
    assert "noise" not in terminal.getvalue()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("printed", [False, True], ids=["into a file", "on the terminal"])
def test_predictions_come_one_by_one_and_no_bar_stands_between_lines_that_are_printed(
    monkeypatch: pytest.MonkeyPatch, several: bool, printed: bool
) -> None:
    terminal = watching(monkeypatch)
    monkeypatch.setattr(sys, "stdout", Terminal() if printed else io.StringIO())
    made: list[int] = []

    def predict() -> Iterator[dict[str, int]]:
        for number in range(3):
            made.append(number)
            yield {"input": number}

    for number, one in enumerate(predictions.watched(predict(), several=several)):
        assert one == {"input": number}
        assert made == list(range(number + 1))
        if printed:
            assert terminal.getvalue().rstrip("\r").endswith("\x1b[2K")  # the bar's line is clear again
    assert len(made) == 3
    assert terminal.getvalue().count("\x1b[?25l") == (1 if not (printed and several) else 4)  # so many bars


def test_without_predictions_there_are_none() -> None:
    assert list(predictions.watched(iter(()), several=True)) == []


def test_what_is_printed_beside_a_bar_goes_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = watching(monkeypatch)
    with bars.steps("predicting") as advance:
        rows = csv.writer(sys.stdout)
        rows.writerow([1, 2])
        advance("")
    assert capsys.readouterr().out == "1,2\r\n"
    assert "1,2" not in terminal.getvalue()
