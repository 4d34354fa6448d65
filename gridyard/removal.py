"""Deleting a sweep: the archive first, whole or not at all, then its files and rows."""

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db import archive, removal
from gridyard import bars
from jobs.errors import InputError
from jobs.states import SweepState
from jobs.store import Store, replacing

if TYPE_CHECKING:
    from gridyard.sweep import Sweep


def delete(sweep: "Sweep", file: Path | None) -> None:
    """See `Sweep.delete`."""
    database, status = sweep.yard.database, sweep.status()
    with database.reading() as session:
        removal.check_deletable(session, sweep.id)
    if file is not None:
        if status.state == SweepState.DELETING:
            raise InputError(f"part of sweep {sweep.id} is deleted already: it cannot be archived any more")
        _write_archive(sweep, file, status.total)
    with database.writing() as session:
        removal.mark(session, sweep.id, status.finished_at if file else None)
    with bars.counted(f"deleting sweep {sweep.id}, job", sum(status.jobs.values())) as advance:
        removal.remove(database, sweep.id, Store(sweep.yard.settings.store_url), advance)


def _write_archive(sweep: "Sweep", file: Path, jobs: int) -> None:
    if file.exists():
        raise InputError(f"{file} is there already; name another file for the archive")
    if not file.parent.is_dir():  # it may be a backup disk that is not mounted: nothing may land in its place
        told = f"there is no folder {file.parent}; make or mount it, or name another file"
        raise InputError(f"cannot write the archive {file}: {told}. Nothing was deleted")
    try:
        with (
            bars.counted(f"archiving sweep {sweep.id}, job", jobs) as advance,
            replacing(file) as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        ):
            for number, record in enumerate(archive.records(sweep.yard.database, sweep.id)):
                packed.write(json.dumps(record, default=_plain, ensure_ascii=False, allow_nan=False).encode() + b"\n")
                advance(min(number, 1))  # the first is the sweep
    except OSError as error:
        raise InputError(f"cannot write the archive {file}: {error.strerror}; nothing was deleted") from None


def _plain(value: Any) -> Any:
    """What JSON does not have: times, and the facts inside a job's."""
    return value.isoformat() if isinstance(value, datetime) else vars(value)
