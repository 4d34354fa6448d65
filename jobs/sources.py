"""The user's own files and folders as parameters: found and fingerprinted at submission, checked where they train."""

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from jobs import data
from jobs.catalogue.task import Unfit
from jobs.errors import DataMissing, InputError

BLOCK = 1 << 20  # bytes read at a time
LONG = 64 << 20  # bytes from which a fingerprint takes long enough for a progress bar
logger = logging.getLogger(__name__)


def locate(param: str, given: str | None) -> Path:
    """The file or folder of this name, from the current folder, else from the data folder.

    Raises:
        Unfit: none was given, it is at neither place, or it cannot be looked at.
    """
    if not given:
        raise Unfit(param, "is missing; give the path of your data")
    try:
        places = dict.fromkeys((Path(given).expanduser().absolute(), data.folder().absolute() / given))
        found = next((place for place in places if place.exists()), None)
    except (OSError, RuntimeError) as error:  # no right to look there, too long a name, no home of such a user
        raise Unfit(param, f'was given "{given}", which cannot be looked for: {error}') from None
    if found is None:
        looked = f"neither {' nor '.join(map(str, places))}" if len(places) > 1 else f"no {given}"
        raise Unfit(param, f'was given "{given}", but there is {looked}')
    if not (found.is_file() or found.is_dir()):  # reading a pipe would wait for ever
        raise Unfit(param, f"was given {found}, which is neither a file nor a folder")
    return found


def portable(path: Path) -> str:
    """The path as a job keeps it: relative where it lies in the data folder, which other machines have elsewhere.

    A link in the data folder keeps its own name: it may lead elsewhere on other machines. Whoever submits a path that
    these settings let no job read is told so; the workers have settings of their own.
    """
    stored = _portable(path)
    try:
        data.contained(stored)
    except InputError as error:
        logger.warning(
            "WARNING: workers with these settings refuse to read this file, and all jobs of the sweep fail. %s. "
            "The sweep is stored all the same, for the workers' settings may allow what these do not: let "
            "GRIDYARD_FILES here be what it is there, and this is said only where it is so",
            error,
        )
    return stored


def _portable(path: Path) -> str:
    folder = data.folder().absolute()
    plain = path if ".." not in path.parts else path.resolve()
    for lies, root in ((plain, folder), (path.resolve(), folder.resolve())):  # the data folder may be a link itself
        if lies.is_relative_to(root):
            return lies.relative_to(root).as_posix()
    return str(plain)


def opened(stored: str) -> Path:
    """The file or folder on this machine.

    Raises:
        InputError: it leads out of the folders that jobs may read.
        DataMissing: it is not here.
    """
    path = data.contained(stored)
    try:
        there = path.exists()
    except OSError as error:
        raise InputError(f"{path}: cannot be looked at: {error.strerror}") from None
    if not there:
        raise DataMissing(f"{path} is not on this machine; put it there, or into the data folder of all workers")
    return path


def check(path: Path, recorded: str | None) -> str:
    """The fingerprint of a file or folder, if it is that of its submission, or none was recorded.

    Raises:
        InputError: it is not what it was at submission.
    """
    found = fingerprint(path)
    if recorded not in (None, found):
        raise InputError(f"{path} has changed since the sweep was submitted; submit again to train on it as it is now")
    return found


def fingerprint(path: Path) -> str:
    """sha256 of a file; of a folder, that of the names and contents of all its files but hidden ones.

    Links are followed.

    Raises:
        InputError: one of them cannot be read, or a link in a folder leads back to it.
    """
    try:
        files = sorted(_files(path)) if path.is_dir() else [path]
        blocks = _shown(_blocks(files, path), sum(file.stat().st_size for file in files), path.name)
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(block)
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Not by `rglob`: it is silent about folders that it may not read, and does not enter those that are links."""
    real = folder.resolve()
    if real in above:
        raise InputError(f"{folder} is a link back to {real}, in which it lies; remove it")
    with os.scandir(folder) as found:
        seen = [entry for entry in found if not entry.name.startswith(".")]
    for entry in seen:
        if entry.is_dir():
            yield from _files(Path(entry.path), (*above, real))
        elif entry.is_file():
            yield Path(entry.path)


def _blocks(files: list[Path], root: Path) -> Iterator[bytes]:
    for file in files:
        if file != root:  # of a folder: where one file ends and the next begins
            yield b"\0" + os.fsencode(file.relative_to(root).as_posix()) + f"\0{file.stat().st_size}\0".encode()
        with file.open("rb") as content:
            while block := content.read(BLOCK):
                yield block


def _shown(blocks: Iterator[bytes], size: int, name: str) -> Iterator[bytes]:
    """The same blocks, with a progress bar on a terminal where there are many."""
    if size < LONG or not sys.stderr.isatty():
        yield from blocks
        return
    from tqdm import tqdm

    with tqdm(total=size, unit="B", unit_scale=True, desc=f"reading {name}", leave=False) as bar:
        for block in blocks:
            bar.update(len(block))
            yield block
