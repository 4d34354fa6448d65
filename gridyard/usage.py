"""What a yard takes on disk: as much as can be seen at once, and said to be no more than that."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from db import retention, status
from db.retention import Models
from jobs.errors import StoreError
from jobs.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridyard.client import Yard

SECONDS = 0.3  # for which a store is looked through


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What the database and the store take."""

    database_bytes: int
    store_files: int | None  # None: not counted
    store_bytes: int | None
    store_more: bool  # the store has more than was counted
    note: str  # why the store was not counted, or not to its end
    measured_at: datetime


def disk(yard: "Yard", seconds: float = SECONDS) -> Disk:
    """What the database and the store take; the store is looked through for so long at most."""
    with yard.database.reading() as session:
        database = status.database_bytes(session)
    files, size, note = _store(yard, seconds)
    more = bool(note) and files is not None
    return Disk(
        database_bytes=database,
        store_files=files,
        store_bytes=size,
        store_more=more,
        note=note,
        measured_at=datetime.now(UTC),
    )


def _store(yard: "Yard", seconds: float) -> tuple[int | None, int | None, str]:
    try:
        store = Store(yard.settings.store_url)
        if not store.is_local:
            return None, None, "not counted: listing it takes requests; `gridyard clean` does that"
        files = size = 0
        deadline = time.monotonic() + seconds
        for file in store.files():
            files, size = files + 1, size + file.size
            if time.monotonic() > deadline:
                return files, size, f"counted for {seconds:g} s, there is more; `gridyard clean` lists all"
        return files, size, ""
    except StoreError as error:
        return None, None, str(error)


def models(yard: "Yard", sweeps: "Sequence[int]") -> dict[int, Models]:
    """The models that each of these sweeps keeps."""
    with yard.database.reading() as session:
        return {sweep: retention.models(session, sweep) for sweep in sweeps}
