"""Find a data set on this machine, or fetch it from its home: whole or not at all, and by one process at a time."""

import errno
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.data.places import folder as data_folder
from jobs.data.places import locked
from jobs.data.sets import DataSet, Hub, Web, lookup
from jobs.errors import DataMissing, InputError, NotFetched

CHUNK = 1 << 16  # bytes of a download at a time


def find(name: str) -> Path:
    """The folder of a data set that lies in the data folder; nothing is downloaded.

    Raises:
        UnknownDataSet: there is no such set.
        InputError: it is a set without files.
        DataMissing: it does not lie there whole.
    """
    found = _with_files(name)
    target = data_folder().absolute() / found.folder
    if missing := found.missing(target):
        fetches = f"`gridyard data get {name}` fetches it"
        raise DataMissing(f"the data set {name} is not in {target}. {fetches}; {_by_hand(found, target, missing)}")
    return target


def get(name: str, folder: Path | None = None) -> Path:
    """The folder of a data set: used as it is where its files lie, else fetched from its home.

    Args:
        folder: instead of the data folder.

    Raises:
        UnknownDataSet: there is no such set.
        InputError: it is a set without files.
        NotFetched: it could not be fetched; the message says why, and what to put where.
    """
    found = _with_files(name)
    target = (folder or data_folder()).absolute() / found.folder
    if not found.missing(target):
        return target
    tried: list[str] = []
    try:
        with locked(target):
            if missing := found.missing(target):  # nobody fetched it while we waited
                _refuse_a_part(found, target, missing)
                _fetch(found, target, tried)
    except InputError:
        raise
    except Exception as error:  # each way to fetch raises its own kinds
        raise _not_fetched(found, target, tried or [_why(error)]) from error
    return target


def _with_files(name: str) -> DataSet:
    found = lookup(name)
    if not found.files:
        raise InputError(f"the data set {name} {found.home}: it has no files to find or to fetch")
    return found


def _refuse_a_part(found: DataSet, target: Path, missing: list[str]) -> None:
    """A folder with something in it is somebody's: it is neither replaced nor filled up."""
    if target.exists() and any(target.iterdir()):
        away = f"move that folder away and `gridyard data get {found.name}` fetches all of it"
        raise DataMissing(
            f"the data set {found.name} is not whole: {target} has files, but no {', '.join(missing)}; "
            f"{away}, or put what is missing into it"
        )


def _fetch(found: DataSet, target: Path, tried: list[str]) -> None:
    """Into a folder beside, which is renamed at the end. After a kill, the next fetch uses the whole files in it."""
    work = target.with_name(f".tmp-{target.name}")
    raw, whole = work / "raw", work / "whole"
    try:
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir(parents=True)
        for source in found.sources:
            _download(source, raw, tried)
        tried.clear()
        _keep_only(raw, found)
        found.convert(raw, whole)
        if missing := found.missing(whole):
            raise ValueError(f"what its home gives has no {', '.join(missing)}")
        _flush(whole)
        shutil.rmtree(raw)
        whole.replace(target)
    except Exception:
        shutil.rmtree(work, ignore_errors=True)
        raise
    work.rmdir()


def _download(source: Web | Hub, raw: Path, tried: list[str]) -> None:
    raw.mkdir(exist_ok=True)
    if isinstance(source, Hub):
        return _from_the_hub(source, raw, tried)
    for address in source.addresses:
        try:
            return _from_the_web(address, source, raw)
        except Exception as error:
            tried.append(f"{address}: {_why(error)}")
            last = error
    raise last


def _from_the_web(address: str, source: Web, raw: Path) -> None:
    import pooch
    from requests import HTTPError

    pooch.get_logger().setLevel("WARNING")
    path = raw / source.path
    get_it = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=CHUNK)
    try:
        pooch.retrieve(address, source.checksum, fname=path.name, path=path.parent, downloader=get_it)
    except HTTPError as error:
        if error.response is not None:
            error.response.close()  # pooch leaves it open
        raise


def _from_the_hub(source: Hub, raw: Path, tried: list[str]) -> None:
    """Through the hub's own cache, which may have the file without network."""
    import pooch
    from huggingface_hub import hf_hub_download

    path = raw / source.path
    try:
        with quiet_hub(bars=sys.stderr.isatty()):
            cached = hf_hub_download(source.repository, source.path, revision=source.revision)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached, path)
        algorithm, _, expected = (source.checksum or "").partition(":")
        if expected and (is_now := pooch.file_hash(str(path), algorithm)) != expected:
            raise ValueError(f"{algorithm.upper()} of the downloaded file: expected {expected} but got {is_now}")
    except Exception as error:
        tried.append(f"Hugging Face hub, {source.repository}, {source.path}: {_why(error)}")
        raise


@contextmanager
def quiet_hub(*, bars: bool) -> Iterator[None]:
    """The hub's library tells of errors only, and shows its progress bars or not; afterwards all is as before."""
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    verbosity, hidden = hub_logging.get_verbosity(), are_progress_bars_disabled()
    hub_logging.set_verbosity(logging.ERROR)  # not each of its tries: how they end is in our message
    if not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        if not hidden:
            enable_progress_bars()


def _keep_only(raw: Path, found: DataSet) -> None:
    """Without what a killed download left."""
    wanted = {raw / source.path for source in found.sources}
    for path in raw.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()


def _flush(whole: Path) -> None:
    """To the disk, so that the renamed folder is whole after a power cut too."""
    for path in whole.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _why(error: Exception) -> str:
    """In few words; some libraries tell their whole way."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError
    from requests import exceptions

    if isinstance(error, LocalEntryNotFoundError):
        offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub could not be reached"
        return f"{offline}, and its cache has no such file"
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {getattr(response, 'reason', '') or ''}".rstrip()
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, exceptions.ConnectionError):
        return "could not be reached"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room left on the disk ({error})"
    if isinstance(error, OSError) and error.errno is not None:
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())


def _not_fetched(found: DataSet, target: Path, tried: list[str]) -> NotFetched:
    lines = "".join(f"\n  - {line}" for line in tried)
    by_hand = _by_hand(found, target, [file.path for file in found.files])
    return NotFetched(
        f"the data set {found.name} is not in {target}, and could not be fetched; {by_hand}. Tried:{lines}"
    )


def _by_hand(found: DataSet, target: Path, missing: list[str]) -> str:
    they, lie = ("it", "lies") if len(missing) == 1 else ("they", "lie")
    other = f"set GRIDYARD_DATA to a folder in which {they} {lie} under {found.folder}/"
    return f"without network, put {', '.join(missing)} into {target}, or {other}"
