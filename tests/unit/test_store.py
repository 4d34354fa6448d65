"""The store: whole files under one root, local or by fsspec."""

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem

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


class Plain(MemoryFileSystem):  # type: ignore[misc]
    """A backend with no more of its own than fsspec asks for, such as sftp. It may be away."""

    protocol = "plain"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    away: Callable[[str], bool] = staticmethod(lambda path: False)  # whether what lies at this path cannot be listed
    exists, find = fsspec.AbstractFileSystem.exists, fsspec.AbstractFileSystem.find

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("plain://", "memory://")))

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        self._ask(path)
        return super().ls(path, detail=detail)

    def info(self, path: str, **_: Any) -> Any:
        self._ask(path)
        return super().info(path)

    def _ask(self, path: str) -> None:
        if type(self).away(path):
            raise OSError(errno.EHOSTUNREACH, "no route to host")


class Concurrent(AsyncFileSystem):  # type: ignore[misc]
    """The same, of the kind that asks for much at a time, such as http."""

    protocol, cachable = "concurrent", False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return Plain._strip_protocol(path.replace("concurrent://", "plain://"))

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        return Plain().ls(path, detail)

    async def _info(self, path: str, **_: Any) -> Any:
        return Plain().info(path)

    async def _pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        Plain().pipe_file(path, value)

    async def _rm_file(self, path: str, **_: Any) -> None:
        Plain().rm_file(path)

    async def _rm(self, path: str, recursive: bool = False, **_: Any) -> None:
        Plain().rm(path, recursive)


@pytest.fixture(params=["plain", "concurrent"])
def remote(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Files of the jobs 7 and 8 on a backend whose `find` and `exists` are fsspec's own."""
    fsspec.register_implementation("plain", Plain, clobber=True)
    fsspec.register_implementation("concurrent", Concurrent, clobber=True)
    store = Store(f"{request.param}://yard")
    for path in ("7/1/a", "7/2/bb", "8/1/a", "8/notes/1/a", "8/1/2/a", "x/7/a", "7.txt"):
        store.write(path, b"x" * len(path.rpartition("/")[2]))
    yield store
    Plain.store.clear()


OURS = [("7/1/a", 1), ("7/2/bb", 2), ("8/1/a", 1)]


def test_a_backend_that_only_lists_folders_shows_what_is_ours(remote: Store) -> None:
    assert sorted(remote.files()) == OURS
    assert sorted(remote.files(7)) == OURS[:2]
    assert (list(remote.files(9)), remote.jobs()) == ([], {7, 8})
    assert Store(f"{remote.url}/nothing").jobs() == set()
    remote.remove_attempts(7, 1)
    remote.remove_jobs([8, 9])
    assert sorted(remote.files()) == OURS[1:2]
    assert sorted(Plain.store) == ["/yard/7.txt", "/yard/7/2/bb", "/yard/x/7/a"]


ASK: dict[str, Callable[[Store], object]] = {
    "jobs": Store.jobs,
    "all files": lambda store: list(store.files()),
    "a job's": lambda store: list(store.files(7)),
    "attempts": lambda store: store.remove_attempts(7, 2),
    "remove": lambda store: store.remove_jobs([7]),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_backend_that_is_away_is_not_taken_for_an_empty_store(
    remote: Store, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Store], object]
) -> None:
    monkeypatch.setattr(Plain, "away", staticmethod(lambda path: True))
    with pytest.raises(StoreError, match="no route to host"):
        ask(remote)


@pytest.mark.parametrize("ask", [ask for name, ask in ASK.items() if name != "jobs"])
def test_nor_is_a_folder_that_cannot_be_listed_taken_for_an_empty_one(
    remote: Store, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Store], object]
) -> None:
    """It goes away when the store, and which jobs have files, were listed."""
    assert remote._has(7)
    monkeypatch.setattr(Plain, "away", staticmethod(lambda path: "/7" in path))
    with pytest.raises(StoreError, match="no route to host"):
        ask(remote)


@pytest.mark.parametrize("left", [True, False])
def test_two_who_remove_the_same_folder_are_no_trouble_to_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """The other one is quicker by a file, or by all of them."""
    store = Store(str(tmp_path / "store"))
    for name in "abc":
        store.write(f"7/1/{name}", b"x")
    unlink, seen = os.unlink, list[str]()

    def meet(path: str, **where: Any) -> None:
        seen.append(path)
        if len(seen) == 1:
            other = sorted((tmp_path / "store/7/1").iterdir())
            for file in [one for one in other if one.name == path] if left else other:
                file.unlink()
            if not left:
                (tmp_path / "store/7/1").rmdir()
                (tmp_path / "store/7").rmdir()
        unlink(path, **where)

    monkeypatch.setattr("shutil.os.unlink", meet)
    store.remove_jobs([7])
    assert not (tmp_path / "store/7").exists()
    assert seen


def test_files_that_cannot_be_removed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "store"))
    store.write("7/1/a", b"x")

    def refuse(*_: object) -> None:
        raise PermissionError("it is not yours")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(StoreError, match="could not remove '7': PermissionError: it is not yours"):
        store.remove_jobs([7])
