"""Where data sets lie, and where their decoded copies are kept."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from jobs import settings
from jobs.errors import InputError, SettingsError

logger = logging.getLogger(__name__)
_readable: ContextVar[str] = ContextVar("readable", default="")  # empty: as the settings of this process

LONGEST_KEY = 120  # file systems allow 255 bytes for a name


def folder() -> Path:
    """Where data sets lie: the setting `data`; a trainer has it from its worker, through the environment."""
    return Path(os.environ.get(f"{settings.PREFIX}DATA") or settings.load().data)


@contextmanager
def reading(readable: str) -> Iterator[None]:
    """Until the block ends, `contained` allows this: the `readable` of the settings that a yard has."""
    before = _readable.set(readable)
    try:
        yield
    finally:
        _readable.reset(before)


def contained(stored: str) -> Path:
    """The path of a file or folder that a job names: in the data folder, or where the setting `files` allows.

    A link in these folders was put there by whoever keeps the machine, and may lead elsewhere.

    Raises:
        InputError: it leads out of them.
    """
    if "\0" in stored:
        raise InputError(f"{stored[:200]!r} is no path of a file")
    root = folder().absolute()
    path = Path(os.path.normpath(root / stored))  # an absolute one stays as it is
    allowed = _readable.get() or os.environ.get(f"{settings.PREFIX}FILES") or settings.load().readable
    if Path(stored).is_absolute() and allowed == "*":
        return path
    others = [] if allowed == "*" else allowed.split(os.pathsep)
    roots = list(dict.fromkeys([root, *(Path(one).absolute() for one in others if one)]))
    if not any(path.is_relative_to(os.path.normpath(one)) for one in roots):
        raise InputError(
            f"{stored[:200]!r} lies in none of the folders that jobs may read: {', '.join(map(str, roots))}. "
            f"Put it there, or name its folder in {settings.PREFIX}FILES of the workers"
        )
    return path


def cache_folder() -> Path:
    """Where decoded copies are kept: the setting `cache`."""
    return Path(os.environ.get(f"{settings.PREFIX}CACHE") or settings.load().cache)


def cached(name: str, key: str, make: Callable[[Path], object]) -> Path:
    """A file of the cache folder, made once by whoever needs it first; it appears whole or not at all.

    Args:
        name: of the data set or task: letters, digits, `_` and `-`.
        key: all that the content depends on, such as "64px-9f3c.safetensors": another key is another file. Its ending
            becomes the file's.
        make: writes the content to the path it is given.

    Raises:
        SettingsError: the cache folder cannot be written.
    """
    path = cache_folder() / f"{name}-{_plain(key)}"
    if path.is_file():
        return path
    with _writing(path), locked(path):
        if not path.is_file():
            temporary = path.with_name(f".tmp-{path.name}")  # the lock's holder is the only one to use it
            temporary.unlink(missing_ok=True)  # left by a kill
            try:
                make(temporary)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time makes what is to lie at this path. The lock ends with its holder, also by a kill.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("%s is being made by another process; waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _plain(key: str) -> str:
    """The key as part of a file name: it leads to no other folder, and two keys never share a name."""
    plain = quote(key, safe="=,+")
    if len(plain) <= LONGEST_KEY:
        return plain
    return hashlib.sha256(key.encode()).hexdigest() + Path(plain).suffix[:20]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.filename and path.parent not in (Path(error.filename), *Path(error.filename).parents):
            raise  # it is the source that cannot be read
        place = f"GRIDYARD_CACHE = {path.parent}: {path.name} could not be made: {error}"
        raise SettingsError(f"{place}. Let it name a folder that can be written and has room") from error
