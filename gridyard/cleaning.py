"""What could be freed, by kind, and freeing it: `gridyard clean`.

Files are listed first, and then the database is asked whose they are: so a job that is there by the time its file is
found is never missed. Nothing is touched but files that are called as Gridyard calls its own.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from db import retention, workers
from db.retention import Owner, Retention
from gridyard import bars
from jobs import catalogue
from jobs.data.sets import SETS
from jobs.errors import InputError
from jobs.store import Store, StoredFile
from workers import spool

if TYPE_CHECKING:
    from gridyard.client import Yard

AT_ONCE = 500  # files of which the database is asked together
STALE_SECONDS = 3_600.0  # a file that is being written is younger
KINDS = {
    "checkpoints": "last checkpoints of jobs that have ended",
    "models": "models ranked below those that their sweeps keep",
    "orphans": "files of jobs that are in no sweep any more",
    "cache": "decoded data sets and measured sizes, made again when they are needed",
    "spool": "ends of attempts that waited for the database and count no more",
}
T = TypeVar("T")
_PACKS = re.compile(r"[0-9a-f]{64}\.json")


@dataclass(kw_only=True)
class Freeable:
    """What of one kind could be freed, or was."""

    kind: str  # one of KINDS
    what: str
    files: int = 0  # of `models`: models, which may lie in the database
    bytes: int = 0
    note: str = ""  # why some or all of it stays

    def add(self, size: int) -> None:
        self.files, self.bytes = self.files + 1, self.bytes + size


@dataclass(kw_only=True)
class Cleaned:
    """What could be freed, and whether it was."""

    sweep: int | None  # None: of all
    freed: bool
    kinds: list[Freeable] = field(default_factory=list)

    @property
    def files(self) -> int:
        return sum(kind.files for kind in self.kinds)

    @property
    def bytes(self) -> int:
        return sum(kind.bytes for kind in self.kinds)


def clean(yard: "Yard", sweep: int | None = None, *, best: int | None = None, yes: bool = False) -> Cleaned:
    """What could be freed; with `yes`, free it.

    Args:
        sweep: only of this sweep: its checkpoints and models.
        best: keep the models of so many jobs of the sweep, whatever its file says.

    Raises:
        InputError: `best` is given without a sweep, or is negative.
        StoreError: the store cannot be listed, or a file cannot be removed. Whoever calls it again goes on.
    """
    if best is not None and (sweep is None or best < 0):
        raise InputError("--best is a number from 0 on, of one sweep: gridyard clean SWEEP --best N")
    cleaner = _Cleaner(yard, sweep, best)
    found = cleaner.look()
    if yes and found.files:
        with bars.counted("freeing, file", found.files) as advance:
            cleaner.free(advance)
    found.freed = yes
    return found


class _Cleaner:
    def __init__(self, yard: "Yard", sweep: int | None, best: int | None) -> None:
        self._database, self._settings = yard.database, yard.settings
        self._store = Store(yard.settings.store_url)
        self._sweep, self._best = sweep, best
        self._foreign = ""  # why no orphan is to go; once found, it holds for whatever comes after

    def look(self) -> Cleaned:
        kinds = {kind: Freeable(kind=kind, what=what) for kind, what in KINDS.items()}
        for kind, file in self._files():
            kinds[kind].add(file.size)
        for sweep, keep in self._sweeps():
            with self._database.reading() as session:
                number, size = retention.below(session, sweep, keep)
            kinds["models"].files, kinds["models"].bytes = kinds["models"].files + number, kinds["models"].bytes + size
        if self._sweep is not None:
            return Cleaned(sweep=self._sweep, freed=False, kinds=[kinds["checkpoints"], kinds["models"]])
        if self._foreign:
            kinds["orphans"] = Freeable(kind="orphans", what=KINDS["orphans"], note=self._foreign)
        for kind, path in self._local():
            kinds[kind].add(_size(path))
        if self._is_used():
            kinds["cache"] = Freeable(kind="cache", what=KINDS["cache"], note="stays while a worker runs")
        return Cleaned(sweep=None, freed=False, kinds=list(kinds.values()))

    def free(self, advance: Callable[[int], None]) -> None:
        retained = Retention(self._database, self._store)
        for sweep, keep in self._sweeps():
            while freed := retained.free(sweep, keep):
                advance(freed)
        while retained.step():
            pass
        for job, files in groupby(self._files(), key=lambda found: found[1].job):
            for kind, file in files:
                if kind != "orphans" or not self._foreign:
                    self._store.remove(file.path)
                    advance(1)
            self._store.prune(job)
        if self._sweep is None:
            keep_cache = self._is_used()
            for kind, path in self._local():
                if kind != "cache" or not keep_cache:
                    path.unlink(missing_ok=True)
                    advance(1)

    def _sweeps(self) -> Iterator[tuple[int, int]]:
        """The sweeps whose models may go, and how many each keeps."""
        with self._database.reading() as session:
            sweeps = retention.sweeps_with_models(session) if self._sweep is None else [self._sweep]
            keeps = {sweep: retention.keep_of(session, sweep).best for sweep in sweeps}
        for sweep, keep in keeps.items():
            wanted = keep if self._best is None else self._best
            if wanted is not None:
                yield sweep, wanted

    def _files(self) -> Iterator[tuple[str, StoredFile]]:
        """The files of the store that nobody needs, with their kinds."""
        for files in _batched(self._store.files()):
            with self._database.reading() as session:
                found = retention.owners(session, sorted({file.job for file in files}))
                keeps = {sweep: retention.keep_of(session, sweep) for sweep in {one.sweep for one in found.values()}}
                greatest = retention.greatest_job(session)
            for file in files:
                owner = found.get(file.job)
                if owner is None and self._sweep is None:
                    if file.job > greatest:
                        self._foreign = (
                            f"all stay: job {file.job} was never in this database, so the store may be another's"
                        )
                    yield "orphans", file
                elif owner is not None and self._is_over(file, owner, keeps[owner.sweep].last):
                    yield "checkpoints", file

    def _is_over(self, file: StoredFile, owner: Owner, keeps_last: bool) -> bool:
        if self._sweep not in (None, owner.sweep) or owner.deleting or not owner.ended:
            return False
        kept = keeps_last and owner.succeeded and file.path.endswith("/last.safetensors")
        return file.attempt <= owner.attempt and file.path != owner.model and not kept

    def _local(self) -> Iterator[tuple[str, Path]]:
        """Files beside the store that can go, with their kinds."""
        yield from (("cache", path) for path in _cached(Path(self._settings.cache)))
        yield from (("spool", path) for path in self._spooled(self._settings.spool_folder))

    def _spooled(self, folder: Path) -> Iterator[Path]:
        named = {path: found for path in _plain_files(folder) if (found := spool.NAME.fullmatch(path.name))}
        waiting = {path: (found["uid"], int(found["job"]), int(found["attempt"])) for path, found in named.items()}
        for some in _batched(waiting.items()):
            with self._database.reading() as session:
                over = retention.counts_no_more(session, [one for _, one in some])
            yield from (path for path, one in some if one in over)
        for path in _plain_files(folder):
            broken = path.name.endswith(spool.BROKEN) and spool.NAME.fullmatch(path.name.removesuffix(spool.BROKEN))
            if broken or (path.name.startswith(".tmp-") and _is_stale(path)):
                yield path

    def _is_used(self) -> bool:
        """Whether a worker may use the cache. Its host's name tells nothing: containers share a folder, not a name."""
        with self._database.reading() as session:
            return workers.any_alive(session)


def _cached(folder: Path) -> Iterator[Path]:
    """What Gridyard has put into its cache folder; whatever else lies there is not ours."""
    names = sorted({*catalogue.tasks(), *SETS})
    ours = re.compile(rf"(\.tmp-)?({'|'.join(map(re.escape, names))})-.+\.(npy|npz|safetensors)")
    for path in _plain_files(folder):
        locks = path.name.startswith(".") and ours.fullmatch(path.name[1:].removesuffix(".lock"))
        if ours.fullmatch(path.name) or (locks and path.name.endswith(".lock")):
            yield path
    yield from (path for path in _plain_files(folder / "packs") if _PACKS.fullmatch(path.name))


def _batched(found: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(found)
    while some := list(islice(rest, AT_ONCE)):
        yield some


def _plain_files(folder: Path) -> Iterable[Path]:
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return False
