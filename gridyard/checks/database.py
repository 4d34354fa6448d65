"""Of the database: whether it answers, its version and clock, and where an SQLite file lies."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from db import diagnosis, migrate
from db.session import Database, missing_file, reading, sqlite_file
from gridyard.checks.finding import Finding, ok, short, warning, wrong
from jobs.errors import DatabaseError, DatabaseOutdated, InputError
from jobs.settings import Settings
from jobs.urls import masked

SAFE_SQLITE = (3, 51, 3)  # queue.md, 5.1: before it, two connections could spoil a file in WAL mode
SKEW_SECONDS = 5.0  # more than that and times in logs and tables cannot be compared
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "lustre"}
MOUNTS = Path("/proc/self/mounts")


def is_there(settings: Settings) -> bool:
    """Whether there is a database at all; an SQLite file is made by the first command that writes."""
    return missing_file(settings.db_url) is None


def reachable(settings: Settings) -> Iterator[Finding]:
    if not is_there(settings):
        yield ok(f"none yet at {masked(settings.db_url)}; `gridyard run` or `submit` makes it")
        return
    try:
        with closing(Database(settings.db_url)) as database:
            migrate.check(database)
            with database.reading() as session:
                version = diagnosis.version(session)
            yield _writable(database) or ok(f"{database}: {database.dialect} {version}, schema {migrate.NEWEST}")
    except DatabaseOutdated as error:
        yield wrong(short(error), "run `gridyard db upgrade` with the newest Gridyard")
    except InputError as error:
        yield wrong(short(error), "correct GRIDYARD_DB")
    except DatabaseError as error:
        yield wrong(short(error), "start it, or correct GRIDYARD_DB; workers train on for a while meanwhile")


def _writable(database: Database) -> Finding | None:
    """What keeps us from writing, by a try that is rolled back."""
    try:
        with database.writing() as session:
            diagnosis.try_writing(session)
            session.rollback()
    except DatabaseError as error:
        return wrong(
            f"it answers, and cannot be written: {short(error)}",
            "let its user write all tables, or look into the disk and the log of the server",
        )
    return None


def sqlite(settings: Settings) -> Iterator[Finding]:
    file = sqlite_file(settings.db_url)
    if file is None:
        yield ok("not used")
        return
    version = sqlite3.sqlite_version
    fine = sqlite3.sqlite_version_info >= SAFE_SQLITE
    if fine:
        yield ok(f"version {version}")
    else:
        safe = ".".join(map(str, SAFE_SQLITE))
        yield warning(
            f"version {version}: before {safe} a file could, very rarely, be damaged when several processes write",
            f"use a Python with SQLite {safe} or newer, or PostgreSQL; keep a backup of {file}",
        )
    kind = network_file_system(file)
    if kind is not None:
        yield warning(
            f"{file} lies on a network file system ({kind}): locks there do not hold, and it will be damaged",
            "put GRIDYARD_HOME on a local disk, or use PostgreSQL (GRIDYARD_DB)",
        )


def network_file_system(path: Path) -> str | None:
    """The kind of network file system on which a path lies; None: it is local, or that cannot be told."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:  # not Linux
        return None
    mounts = [(Path(place.encode().decode("unicode_escape")), kind) for _, place, kind, *_ in map(str.split, lines)]
    over = [(len(place.parts), kind) for place, kind in mounts if path.resolve().is_relative_to(place)]
    kind = max(over, default=(0, ""))[1]
    return kind if kind in NETWORK else None


def clock(settings: Settings) -> Iterator[Finding]:
    with reading(settings.db_url) as session:
        began = time.time()
        theirs = diagnosis.clock(session).timestamp()
        ours = (began + time.time()) / 2
        seen = diagnosis.workers(session)
    yield _skew(ours - theirs, "this machine")
    for worker in seen:
        if worker.alive and worker.ahead is not None and abs(worker.ahead) > SKEW_SECONDS:
            yield _skew(worker.ahead, f"worker {worker.worker}")


def _skew(ahead: float, who: str) -> Finding:
    if abs(ahead) <= SKEW_SECONDS:
        return ok(f"{who} and the database differ by {abs(ahead):.1f} s")
    way = "ahead of" if ahead > 0 else "behind"
    return warning(
        f"the clock of {who} is {abs(ahead):.0f} s {way} the database's",
        "let NTP set the clocks. Leases are on the database's clock and do not suffer; times in logs and tables do",
    )
