"""The store: checkpoints and models as files of a local folder or of any fsspec URL (s3://, gs://, memory://, …).

A file appears whole or not at all. Paths are relative, "{job}/{attempt}/last.safetensors".
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

import fsspec
from fsspec.asyn import AsyncFileSystem

from jobs.errors import StoreError, did_you_mean
from jobs.urls import masked

# Backends whose put shows nothing before its end.
PUTS_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "memory"})
LONGEST = 512  # characters of a path
MEETINGS = 1000  # with another who removes the same folder
TRIED = ".tried"  # folder of what is written for a try

_NUMBER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_OURS = re.compile(r"[1-9][0-9]{0,18}/[1-9][0-9]{0,18}/[^/]+", re.ASCII)


class StoredFile(NamedTuple):
    """A file of the store."""

    path: str  # "{job}/{attempt}/{name}"
    size: int  # bytes

    @property
    def job(self) -> int:
        return int(self.path.split("/")[0])

    @property
    def attempt(self) -> int:
        return int(self.path.split("/")[1])


class Store:
    """The files under one URL. Any method may raise StoreError: a wrong path, a missing file, a failing backend."""

    def __init__(self, url: str) -> None:
        self.url = url  # with its password, so never in a message
        if why := lacks(url):
            raise StoreError(f"store {masked(url)}: {why}")
        with self._errors("open", ""):
            self._files, self._root = fsspec.core.url_to_fs(url)
        self.is_local = "file" in self._files.protocol

    @property
    def folder(self) -> Path:
        """Where a local store lies."""
        return Path(self._root)

    def read(self, path: str) -> bytes:
        full = self._full(path)
        with self._errors("read", path):
            content: bytes = self._files.cat_file(full)
        return content

    def write(self, path: str, content: bytes) -> None:
        """Whole or not at all: a reader sees the old file or the new one."""
        full = self._full(path)
        with self._errors("write", path):
            if self.is_local:
                replace(Path(full), content)
            elif self._renames:
                self._put_and_move(full, content)
            else:
                self._files.pipe_file(full, content)

    @property
    def _renames(self) -> bool:
        """Whether a file is written under another name first. Object stores show nothing of a put before its end."""
        protocols = {self._files.protocol} if isinstance(self._files.protocol, str) else set(self._files.protocol)
        copies = type(self._files).mv is fsspec.AbstractFileSystem.mv  # as slow as a second put, and no more whole
        return not (copies or PUTS_WHOLE & protocols)

    def _put_and_move(self, full: str, content: bytes) -> None:
        folder, _, _ = full.rpartition("/")
        temporary = f"{folder}/.tmp-{uuid4().hex}"
        self._files.makedirs(folder, exist_ok=True)
        try:
            self._files.pipe_file(temporary, content)
            if (written := self._files.size(temporary)) not in (None, len(content)):  # full, and silent about it
                raise OSError(errno.ENOSPC, f"{written} of {len(content)} bytes were written")
            self._replace(temporary, full)
        except BaseException:
            with contextlib.suppress(Exception):  # a backend that is away
                self._files.rm_file(temporary)
            raise

    def _replace(self, temporary: str, full: str) -> None:
        try:
            self._files.mv(temporary, full)
        except Exception:  # some, such as HDFS, move onto no file that is there
            if not self._files.exists(full):
                raise
            self._files.rm_file(full)
            self._files.mv(temporary, full)

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is none to remove."""
        full = self._full(path)
        with self._errors("remove", path), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(full)

    def exists(self, path: str) -> bool:
        full = self._full(path)
        with self._errors("look for", path):
            return bool(self._files.isfile(full))

    def try_out(self) -> None:
        """Write, read and remove a small file, and leave nothing.

        Raises:
            StoreError: one of these fails, or what was read is not what was written.
        """
        name = f"{TRIED}/{uuid4().hex}"
        content = name.encode()
        self.write(name, content)
        found = self.read(name)
        self.remove(name)
        if self.is_local:
            with contextlib.suppress(OSError):  # others are at it, too
                (self.folder / TRIED).rmdir()
        if found != content:
            raise StoreError(f"store {masked(self.url)}: what was read is not what was written")

    def remove_jobs(self, jobs: Iterable[int]) -> None:
        """Remove all files of these jobs; of objects, those of jobs that had any when it was first asked."""
        for job in jobs:
            if self._has(job):
                with self._errors("remove", str(job)):
                    self._remove_folder(f"{self._root.rstrip('/')}/{job}")

    def remove_attempts(self, job: int, attempt: int, keep: str | None = None) -> None:
        """Remove the files of a job's attempts up to this one, but for one that is kept; of later attempts, none."""
        if self.is_local and not self._has(job):  # as of most jobs that are over in a second
            return
        for file in self.files(job):
            if file.attempt <= attempt and file.path != keep:
                self.remove(file.path)
        self.prune(job)

    def prune(self, job: int) -> None:
        """Remove the folders of a job that are empty; object stores have none."""
        if not self.is_local:
            return
        folder = Path(self._root) / str(job)
        for path in [*folder.glob("[0-9]*"), folder]:
            with contextlib.suppress(OSError):  # not empty, or gone
                path.rmdir()

    def files(self, job: int | None = None) -> Iterator[StoredFile]:
        """The files of a job, or of all jobs; what is called otherwise than `{job}/{attempt}/{name}` is not ours."""
        with self._errors("list", "" if job is None else str(job)):
            yield from self._walk(job) if self.is_local else self._find(job)

    def _walk(self, job: int | None) -> Iterator[StoredFile]:
        for folder in _numbered(Path(self._root)) if job is None else [Path(self._root) / str(job)]:
            for tried in _numbered(folder):
                for entry in _entries(tried):
                    if not entry.is_dir(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            size = entry.stat(follow_symlinks=False).st_size
                            yield StoredFile(f"{folder.name}/{tried.name}/{entry.name}", size)

    def _find(self, job: int | None) -> Iterator[StoredFile]:
        self._files.invalidate_cache()
        root = self._root.rstrip("/")
        for facts in self._below(root if job is None else f"{root}/{job}"):
            path = str(facts.get("name", ""))
            relative = path[len(root) + 1 :]
            if path.startswith(f"{root}/") and _OURS.fullmatch(relative):
                yield StoredFile(relative, int(facts.get("size") or 0))

    def _below(self, folder: str) -> Iterator[dict[str, Any]]:
        """What lies in a folder and in those of it that are called by a number."""
        if self._finds:
            with contextlib.suppress(FileNotFoundError):
                yield from self._files.find(folder, detail=True).values()
            return
        for facts in self._ls(folder):
            below = str(facts["name"]).rstrip("/")
            if facts["type"] != "directory":
                yield facts
            elif below != folder and _NUMBER.fullmatch(below.rpartition("/")[2]):
                yield from self._below(below)

    @property
    def _finds(self) -> bool:
        """Whether the backend has a `find` of its own, which needs fewer requests, such as one for 1000 objects.

        fsspec's leaves out every folder that cannot be listed: a backend that is away would seem empty.
        """
        kind = type(self._files)
        if isinstance(self._files, AsyncFileSystem):
            return kind._find is not AsyncFileSystem._find
        return kind.find is not fsspec.AbstractFileSystem.find

    def _ls(self, folder: str, *, detail: bool = True) -> list[Any]:
        """What lies in a folder; nothing in one that is not there. fsspec's `exists` says so of any that is away."""
        try:
            return list(self._files.ls(folder, detail=detail))
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno == errno.ENOENT:  # SMB has a kind of its own
                return []
            raise

    def free_bytes(self) -> int | None:
        """Room that is left; None where that cannot be known."""
        if not self.is_local:
            return None
        with self._errors("look at", ""):
            return shutil.disk_usage(existing(self.folder)).free

    def _has(self, job: int) -> bool:
        """Whether there is a folder of this job; of objects, whether there was any when it was first asked."""
        if not self.is_local:
            return job in self._listed
        with self._errors("look for", str(job)):
            return _is_there(f"{self._root}/{job}")

    @cached_property
    def _listed(self) -> set[int]:
        return self.jobs()

    def jobs(self) -> set[int]:
        """Jobs that have files. One list, for a look per job would be a request to the backend each."""
        with self._errors("list", ""):
            self._files.invalidate_cache()  # of this process: others have written since
            names = (str(path).rstrip("/").rpartition("/")[2] for path in self._ls(self._root, detail=False))
            return {int(name) for name in names if _NUMBER.fullmatch(name)}

    def _remove_folder(self, full: str) -> None:
        if self.is_local and Path(full).is_symlink():
            Path(full).unlink()  # where it leads to is not ours
        elif self.is_local:
            _remove_tree(full)
        else:
            try:
                self._files.rm(full, recursive=True)
            except FileNotFoundError:  # all of it went since it was listed; or fsspec could not look
                self._files.invalidate_cache()
                if left := self._ls(full):
                    raise OSError(errno.ENOTEMPTY, f"{len(left)} of what was in it could not be removed") from None

    def _full(self, path: str) -> str:
        parts = path.split("/")
        drive = re.match(r"[A-Za-z]:", path)
        if not path.isprintable() or len(path) > LONGEST or "\\" in path or drive or {"", ".", ".."} & set(parts):
            told = "give a relative path like '7/1/last.safetensors', without '..'"
            raise StoreError(f"store path {path[:LONGEST]!r}: {told}")
        full = f"{self._root.rstrip('/')}/{path}"
        if self.is_local and not Path(full).resolve().is_relative_to(Path(self._root).resolve()):
            raise StoreError(f"store path {path!r}: a link leads out of the store {masked(self.url)}")
        return full

    @contextmanager
    def _errors(self, action: str, path: str) -> Iterator[None]:
        place = f"store {masked(self.url)}: could not {action} {path!r}"
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(f"{place}: there is no such file") from error
        except Exception as error:  # each backend raises its own kinds
            raise StoreError(f"{place}: {type(error).__name__}: {masked(str(error))}") from error


def lacks(url: str) -> str | None:
    """Why no store of this URL can be reached from this Python; None: it can, as far as packages go, or is a folder."""
    for part in url.split("::"):  # of one file system before another, such as simplecache::s3://…
        protocol, given, _ = part.partition("://")
        try:
            if given:
                fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            return f"the package of {protocol}:// is not installed here. {error}"
        except ValueError:
            near = did_you_mean(protocol, fsspec.available_protocols())
            return f"fsspec knows no {protocol}://{near} Allowed are a folder, and URLs such as s3://…, gs://… and abfs://…"
    return None


def best_path(job: int, attempt: int) -> str:
    """Where an attempt keeps its best model."""
    return f"{job}/{attempt}/best.safetensors"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _is_there(path: str) -> bool:
    """Whether a local path is there; unlike `os.path.exists`, which takes a file system that is away for an empty one.

    Raises:
        OSError: nobody can say.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _remove_tree(path: str) -> None:
    """Remove a local folder, and the links in it, of which none is followed. Others may be at it, too."""
    for _ in range(MEETINGS):
        try:
            shutil.rmtree(path)
            return
        except FileNotFoundError:  # what another has just removed ends it: the rest is still there
            if not _is_there(path):
                return
    shutil.rmtree(path)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    """What lies in a folder; nothing in one that is gone."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _numbered(folder: Path) -> Iterator[Path]:
    """The folders in it that are called by a number; a link is not ours."""
    for entry in _entries(folder):
        if _NUMBER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)


def replace(path: Path, content: bytes) -> None:
    """Write a local file whole or not at all. A kill leaves at most a `.tmp-…` file, which nobody reads."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A local file to write, which is there when the block has ended without an error, and not before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid4().hex}")  # not tempfile's: only its owner could read those
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # on a read-only file system not even a look for it is allowed
            temporary.unlink(missing_ok=True)
        raise
