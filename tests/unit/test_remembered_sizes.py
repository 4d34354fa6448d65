"""How many jobs train together: measured once for a shape and machine, and remembered."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jobs import remembered, sizing
from jobs.forward import Mode
from jobs.row import Row
from jobs.sizing import Choice, Sizes
from jobs.spec import JobSpec
from tests.training import row_of

MakeSpec = Callable[..., JobSpec]
MEASURED = Choice(Mode.STACKED, 32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packs"


@pytest.fixture
def row(make_spec: MakeSpec) -> Row:
    return row_of(make_spec())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shapes that are measured, from here on."""
    shapes = []

    def measure(row: Row, modes: list[Mode]) -> Choice:
        shapes.append(row.shape)
        return MEASURED

    monkeypatch.setattr(sizing, "measure", measure)
    return shapes


class TestSizesAreRemembered:
    def test_over_processes_a_shape_is_measured_once(self, cache: Path, row: Row, measured: list[str]) -> None:
        """Each `Sizes` is what one process knows."""
        assert [Sizes().of(row, 100) for _ in range(3)] == [MEASURED] * 3
        assert len(measured) == 1
        assert len(list(cache.iterdir())) == 1

    def test_another_shape_or_number_of_threads_is_measured_itself(
        self, cache: Path, make_spec: MakeSpec, row: Row, measured: list[str]
    ) -> None:
        Sizes().of(row, 100)
        Sizes().of(row_of(make_spec(hidden=[5])), 100)
        before = torch.get_num_threads()
        torch.set_num_threads(before + 1)
        try:
            Sizes().of(row, 100)
        finally:
            torch.set_num_threads(before)
        assert len(measured) == 3

    def test_on_another_processor_or_torch_it_is_measured_again(
        self, cache: Path, row: Row, measured: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Sizes().of(row, 100)
        monkeypatch.setattr(remembered, "processor", lambda: "another one")
        Sizes().of(row, 100)
        monkeypatch.setattr(torch, "__version__", "99.0")
        Sizes().of(row, 100)
        assert len(measured) == 3

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b'{"of": "',
            b"\xff\x00",
            b"[]",
            b'{"of": "another", "mode": "stacked", "size": 512}',
            b'{"of": KEY, "mode": "stacked", "size": 0}',
            b'{"of": KEY, "mode": "stacked", "size": "512"}',
            b'{"of": KEY, "mode": "sideways", "size": 512}',
            b'{"of": KEY, "mode": "mapped", "size": 512}',  # a mode this shape was found not to train in
            b'{"of": KEY, "mode": "stacked", "size": 100000000}',  # there is no memory for so many
        ],
    )
    def test_a_file_that_is_damaged_or_does_not_fit_is_measured_anew(
        self, cache: Path, row: Row, measured: list[str], content: bytes
    ) -> None:
        Sizes().of(row, 100)
        (file,) = cache.iterdir()
        whole = file.read_bytes()
        key = whole[len(b'{"of":') : whole.index(b',"mode"')]
        file.write_bytes(content.replace(b"KEY", key))
        assert Sizes().of(row, 100) == MEASURED
        assert len(measured) == 2
        assert file.read_bytes() == whole

    def test_where_nothing_can_be_written_each_process_measures(
        self, cache: Path, row: Row, measured: list[str]
    ) -> None:
        cache.parent.write_text("a file where the folder should be")
        assert [Sizes().of(row, 100) for _ in range(2)] == [MEASURED] * 2
        assert len(measured) == 2

    def test_a_size_that_found_no_room_is_forgotten_by_this_process_alone(
        self, cache: Path, row: Row, measured: list[str]
    ) -> None:
        sizes = Sizes()
        sizes.of(row, 100)
        sizes.limit(row, 4)
        assert sizes.of(row, 100) == replace(MEASURED, size=4)
        assert Sizes().of(row, 100) == MEASURED
