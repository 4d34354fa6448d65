"""Data sets that are kept on this machine."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jobs import data
from jobs.errors import SettingsError

ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files(cache: Path) -> list[str]:
    """Of a cache folder, without its locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_a_decoded_copy_is_made_once_for_each_key(cache: Path) -> None:
    made: list[str] = []

    def make(path: Path) -> None:
        made.append(path.suffix)
        path.write_text(str(len(made)))

    texts = [data.cached("photos", key, make).read_text() for key in ("64px.bin", "64px.bin", "180px.bin")]
    assert (texts, made) == (["1", "1", "2"], [".bin", ".bin"])
    assert files(cache) == ["photos-180px.bin", "photos-64px.bin"]


def test_a_decoded_copy_that_could_not_be_made_leaves_nothing(cache: Path) -> None:
    def make(path: Path) -> None:
        path.write_text("half")
        raise ValueError("a broken photo")

    with pytest.raises(ValueError, match="a broken photo"):
        data.cached("photos", "64px.bin", make)
    assert files(cache) == []


KILLED = """
import os, signal
from jobs import data
def make(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
data.cached("photos", "64px.bin", make)
"""


def test_after_a_kill_a_decoded_copy_is_made_whole(cache: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT).returncode < 0
    assert not (cache / "photos-64px.bin").exists()
    assert data.cached("photos", "64px.bin", lambda path: path.write_text("whole")).read_text() == "whole"
    assert files(cache) == ["photos-64px.bin"]


@pytest.mark.parametrize("key", ["../../escape", "/etc/passwd", "a/b", "..", "x" * 1000, "é.bin"])
def test_no_key_leads_out_of_the_cache_folder(cache: Path, key: str) -> None:
    path = data.cached("photos", key, Path.touch)
    assert path.parent == cache
    assert files(cache) == [path.name]


def test_a_cache_folder_that_cannot_be_written_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRIDYARD_CACHE", str(tmp_path / "file"))
    with pytest.raises(SettingsError, match=r"GRIDYARD_CACHE = .*Let it name a folder that can be written"):
        data.cached("photos", "64px", Path.touch)


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_cache(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        data.cached("photos", "64px", lambda path: path.write_bytes((tmp_path / "gone").read_bytes()))


def test_importing_the_package_loads_neither_torch_nor_what_only_a_fetch_needs() -> None:
    loaded = "import jobs.data, jobs.data.sets, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    answer = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "sklearn", "pandas", "numpy", "huggingface_hub", "tqdm"} & set(
        answer.stdout.split()
    )
