"""The store: whole files under one root, local or by fsspec."""

import errno
import os
import uuid
from pathlib import Path

import pytest

from jobs.errors import StoreError
from jobs.store import Store


@pytest.fixture(params=["local", "file url", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    urls = {
        "local": str(tmp_path / "store"),
        "file url": f"file://{tmp_path}/store",
        "memory": f"memory://{uuid.uuid4().hex}",
    }
    return Store(urls[request.param])


def test_what_is_written_is_read(any_store: Store) -> None:
    any_store.write("7/1/last.safetensors", b"one")
    any_store.write("7/1/last.safetensors", b"two\x00")
    assert any_store.read("7/1/last.safetensors") == b"two\x00"
    assert any_store.exists("7/1/last.safetensors")
    assert not any_store.exists("7/1"), "a folder is no file"
    assert not any_store.exists("7/2/last.safetensors")


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../a", "7/../../a", "7/./a", "7//a", "7/", "..", ".", "7\\a", "C:/a", "c:a", "7/a\0b"]
)
def test_a_path_that_could_leave_the_store_is_refused(any_store: Store, path: str) -> None:
    for action in (any_store.read, any_store.exists):
        with pytest.raises(StoreError, match="store path"):
            action(path)
    with pytest.raises(StoreError, match="store path"):
        any_store.write(path, b"x")


def test_a_link_that_leads_out_of_the_store_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.write("7/a", b"x")
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "store/7/link").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match="leads out"):
        store.read("7/link")


def test_a_missing_file_is_named(any_store: Store) -> None:
    with pytest.raises(StoreError, match="could not read '7/1/a': there is no such file"):
        any_store.read("7/1/a")


def test_an_unknown_backend_is_a_clear_error() -> None:
    with pytest.raises(StoreError, match="nonsense"):
        Store("nonsense://bucket")


def test_no_message_shows_a_password() -> None:
    """Neither that of the store's own words nor that of the backend, here one that repeats the URL."""
    with pytest.raises(StoreError) as raised:
        Store("nonsense://ana:pw@bucket?secret=pw")
    assert "pw" not in str(raised.value)
    assert "nonsense://ana:***@bucket?secret=***" in str(raised.value)
    store = Store("memory://ana:pw@host/folder")
    with pytest.raises(StoreError, match="no such file") as raised:
        store.read("7/1/a")
    assert "ana:***@host" in str(raised.value)


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    store.write("7/a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="could not write '7/a': OSError"):
        store.write("7/a", b"new")
    assert [path.name for path in (tmp_path / "7").iterdir()] == ["a"]
    assert store.read("7/a") == b"old"


def test_others_of_the_machine_may_read_a_file_as_the_umask_says(tmp_path: Path) -> None:
    """A file of mode 0600 in a shared volume would lock out workers that run as another user."""
    before = os.umask(0o022)
    try:
        Store(str(tmp_path)).write("7/a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "7/a").stat().st_mode & 0o777 == 0o644


def test_the_files_of_some_jobs_are_removed_and_no_others(any_store: Store) -> None:
    for path in ("7/1/last.safetensors", "7/2/best.safetensors", "70/1/a", "8/1/a", "7.txt", "07/1/a", "x/7/a"):
        any_store.write(path, b"x")
    any_store.remove_jobs([7, 9])
    assert not any_store.exists("7/1/last.safetensors")
    assert not any_store.exists("7/2/best.safetensors")
    assert all(any_store.exists(path) for path in ("70/1/a", "8/1/a", "7.txt", "07/1/a", "x/7/a"))


def test_of_a_store_that_was_never_written_nothing_is_removed(any_store: Store) -> None:
    any_store.remove_jobs([7])


def test_removing_the_files_of_a_job_follows_no_link(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    for path in ("outside/a", "store/8/1/a"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"x")
    (tmp_path / "store/7").symlink_to(tmp_path / "outside")
    (tmp_path / "store/8/1/link").symlink_to(tmp_path / "outside")
    store.remove_jobs([7, 8])
    assert list((tmp_path / "store").iterdir()) == []
    assert (tmp_path / "outside/a").read_bytes() == b"x"


def test_a_file_system_that_is_away_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what says that the files are to go would go, and they would stay for ever."""
    store = Store(str(tmp_path / "store"))
    store.write("7/1/a", b"x")

    def stale(path: str) -> None:
        raise OSError(errno.ESTALE, "stale file handle")

    monkeypatch.setattr("jobs.store.os.lstat", stale)
    for remove in (lambda: store.remove_jobs([7]), lambda: store.remove_attempts(7, 1)):
        with pytest.raises(StoreError, match=r"could not look for '7': OSError: .*stale file handle"):
            remove()


def test_files_that_cannot_be_removed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "store"))
    store.write("7/1/a", b"x")

    def refuse(*_: object) -> None:
        raise PermissionError("it is not yours")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(StoreError, match="could not remove '7': PermissionError: it is not yours"):
        store.remove_jobs([7])
