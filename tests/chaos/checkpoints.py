"""Watches the store: which attempt had which epoch in its checkpoint, and when."""

import contextlib
import glob
import json
import struct
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A whole checkpoint, as it lay in the store."""

    at: float  # when it was written, seconds since the epoch
    attempt: int
    epoch: int


class Checkpoints:
    """A thread that looks at `{job}/{attempt}/last.safetensors` again and again."""

    def __init__(self, store: Path) -> None:
        self.seen: dict[int, list[Seen]] = defaultdict(list)  # by job, as they were seen
        self.damaged: list[str] = []
        self._store = store
        self._times: dict[Path, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(LOOK_SECONDS):
                self._look()
        except Exception as error:  # whatever it is: what is not looked at is not judged
            self.damaged.append(f"nobody watched the store to the end: {error!r}")

    def _look(self) -> None:
        # Not pathlib's glob: it stumbles over a folder that goes while it looks.
        for found in glob.iglob("*/*/last.safetensors", root_dir=self._store):
            with contextlib.suppress(FileNotFoundError):  # removed, as its job has ended
                self._note(self._store / found)

    def _note(self, path: Path) -> None:
        written = path.stat().st_ctime_ns  # when it got its name, not when its first byte was written
        if self._times.get(path) == written:
            return
        self._times[path] = written
        try:
            epoch = epochs_in(path)
        except (ValueError, AssertionError, struct.error) as error:
            self.damaged.append(f"{path.relative_to(self._store)} is not whole: {error}")
            return
        job, attempt = int(path.parts[-3]), int(path.parts[-2])
        self.seen[job].append(Seen(at=written / 1e9, attempt=attempt, epoch=epoch))

    def newest(self, job: int, attempt: int, at: float) -> Seen | None:
        """What an attempt that began then should have gone on from."""
        before = [seen for seen in self.seen[job] if seen.attempt < attempt and seen.at < at]
        return max(before, key=lambda seen: (seen.attempt, seen.at), default=None)


def epochs_in(path: Path) -> int:
    """Whole epochs of a checkpoint: the length of its history, by the header of the file alone."""
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    assert "__metadata__" in header, f"{path} is no checkpoint"
    return int(header["history/seconds"]["shape"][0]) if "history/seconds" in header else 0  # left in its first epoch
