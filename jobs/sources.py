"""The user's own files and folders as parameters: found and fingerprinted at submission, checked where they train."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from jobs import data
from jobs.catalogue.task import Unfit
from jobs.errors import InputError

BLOCK = 1 << 20  # bytes read at a time
LONG = 64 << 20  # bytes from which a fingerprint takes long enough for a progress bar


def locate(param: str, given: str | None) -> Path:
    """The file or folder of this name, from the current folder, else from the data folder.

    Raises:
        Unfit: none was given, or it is at neither place.
    """
    if not given:
        raise Unfit(param, "is missing; give the path of your data")
    places = [Path(given).expanduser().absolute(), data.folder().absolute() / given]
    for place in places:
        if place.exists():
            return place
    looked = " nor ".join(dict.fromkeys(map(str, places)))
    raise Unfit(param, f'was given "{given}", but there is neither {looked}')


def portable(path: Path) -> str:
    """The path as a job keeps it: relative where it lies in the data folder, which other machines have elsewhere."""
    folder = data.folder().absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def opened(stored: str) -> Path:
    """The file or folder on this machine.

    Raises:
        InputError: it is not here.
    """
    path = data.folder() / stored  # an absolute one stays as it is
    if not path.exists():
        raise InputError(f"{path} is not on this machine; put it there, or into the data folder that all workers share")
    return path


def check(path: Path, recorded: str | None) -> None:
    """Raises:
    InputError: the file or folder is not what it was at submission.
    """
    if recorded is not None and fingerprint(path) != recorded:
        raise InputError(f"{path} has changed since the sweep was submitted; submit again to train on it as it is now")


def fingerprint(path: Path) -> str:
    """sha256 of a file; of a folder, that of the names and contents of all its files but hidden ones.

    Raises:
        InputError: one of them cannot be read.
    """
    try:
        files = sorted(found for found in path.rglob("*") if _counts(found, path)) if path.is_dir() else [path]
        blocks = _shown(_blocks(files, path), sum(file.stat().st_size for file in files), path.name)
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(block)
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def _counts(file: Path, root: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(root).parts)


def _blocks(files: list[Path], root: Path) -> Iterator[bytes]:
    for file in files:
        if file != root:  # of a folder: where one file ends and the next begins
            yield f"\0{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode()
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
