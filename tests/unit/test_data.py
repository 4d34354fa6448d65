"""Data sets that are kept on this machine."""

from pathlib import Path

import numpy as np
import pytest

from jobs import data


def test_a_table_is_kept_and_read_again_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path))
    made = data.bundled("iris")
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    read = data.bundled("iris")
    assert file.stat().st_mtime_ns == written
    assert (read.features, read.classes, read.fingerprint) == (made.features, made.classes, made.fingerprint)
    assert np.array_equal(read.rows, made.rows)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\0\0\0\0\0\0\0[]      "])
def test_a_kept_table_that_cannot_be_read_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path))
    made = data.bundled("iris")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(content)
    assert data.bundled("iris").fingerprint == made.fingerprint
    assert file.read_bytes() == whole


def test_without_a_folder_to_keep_it_in_a_table_is_loaded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "file"))
    assert data.bundled("iris").rows.shape == (150, 4)
