"""The spool: ends of attempts that wait on disk while the database is away, for whichever worker finds it back.

A file appears whole or not at all, `{sweep's uid}.{job}.{attempt}.json`, of two lines of JSON:

    {"format": 1, "size": …, "sha256": …}      of the second line
    {"claim": …, "reports": …, "result": …}    an `End`

What is read is not trusted: it is checked against the database before anything of it is written there.
"""

import hashlib
import json
import logging
import os
import re
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from jobs.spec import AS_JSON, Answer, Claim, EpochReport, Failure, Stopped, TrainResult
from jobs.store import best_path, replace
from workers.watch import Watch

FORMAT = 1  # to be raised with every change that makes older files unreadable
LARGEST_BYTES = 256 << 20  # of a file that is read; a model in it takes at most `small_model_bytes`
BROKEN = ".broken"  # what the name of a file that is of no use ends with from then on
NAME = re.compile(r"(?P<uid>[A-Za-z0-9-]{1,64})\.(?P<job>[1-9][0-9]{0,18})\.(?P<attempt>[1-9][0-9]{0,9})\.json")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class End:
    """How an attempt ended; without a result and without a failure it was stopped, and is given back."""

    __pydantic_config__: ClassVar[ConfigDict] = AS_JSON

    claim: Claim
    reports: list[EpochReport] = field(default_factory=list)  # not yet in the database
    result: TrainResult | None = None
    failure: Failure | None = None
    preempted: bool = False  # it was stopped because its worker was

    @property
    def told(self) -> str:
        """What it is, in words."""
        if self.result:
            return f"its result ({self.result.score:.6g} after {self.result.epochs} epochs)"
        return f"its failure ({self.failure.reason})" if self.failure else "that it was given back"

    def watch(self) -> Watch:
        """As its slot had it."""
        job = self.claim.job
        stopped = Stopped(job=job, answer=Answer.GIVE_BACK, epoch=0)
        outcome = self.result or self.failure or stopped
        return Watch(self.claim, reports=list(self.reports), outcome=outcome, preempted=self.preempted)


_END = TypeAdapter(End)


@dataclass(frozen=True, order=True)
class Waiting:
    """A file of the spool, by its name."""

    path: Path
    uid: str  # of the sweep, over all databases
    job: int
    attempt: int


class Spool:
    """The files of one folder. Several workers may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, watch: Watch) -> Path:
        """Keep how this attempt ended.

        Raises:
            OSError: the folder cannot be written.
            ValueError: nobody would read it: it is too large, or of a sweep without a proper uid.
        """
        claim, outcome = watch.claim, watch.outcome
        end = End(
            claim=claim,
            reports=watch.reports,
            result=outcome if isinstance(outcome, TrainResult) else None,
            failure=outcome if isinstance(outcome, Failure) else None,
            preempted=watch.preempted,
        )
        body = _END.dump_json(end)
        head = {"format": FORMAT, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        content = json.dumps(head).encode() + b"\n" + body + b"\n"
        if len(content) > LARGEST_BYTES:
            raise ValueError(f"{len(content)} bytes are more than the {LARGEST_BYTES} of the largest file")
        path = self._path(claim)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(path, content)
        _sync(self.folder)
        return path

    def remove(self, claim: Claim) -> bool:
        """This end is recorded, or never will be; false if it is no longer here: another worker was quicker."""
        try:
            self._path(claim).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            logger.warning("spool: %s stays, though it is recorded: %s", self._path(claim), error)
        return True

    def _path(self, claim: Claim) -> Path:
        name = f"{claim.spec.sweep_uid}.{claim.job}.{claim.attempt}.json"
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an end")
        return self.folder / name

    def waiting(self) -> list[Waiting]:
        """All files that look like ends, by name; none is opened.

        Raises:
            OSError: the folder cannot be read.
        """
        try:
            names = [entry.name for entry in os.scandir(self.folder) if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        found = [(name, match) for name in names if (match := NAME.fullmatch(name))]
        return sorted(
            Waiting(self.folder / name, match["uid"], int(match["job"]), int(match["attempt"])) for name, match in found
        )

    def read(self, waiting: Waiting) -> End:
        """What a file says.

        Raises:
            FileNotFoundError: it is no longer there: another worker was quicker.
            OSError: it cannot be read.
            ValueError: it is not whole, or not what its name says.
        """
        head_line, _, rest = _content(waiting.path).partition(b"\n")
        body = rest.removesuffix(b"\n")
        head = json.loads(head_line)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            written = head.get("format") if isinstance(head, dict) else None
            raise ValueError(f"its format is {written!r}; this version reads {FORMAT}")
        if head.get("size") != len(body) or head.get("sha256") != hashlib.sha256(body).hexdigest():
            raise ValueError("it is not whole: its checksum does not fit")
        end = _END.validate_json(body)
        _check(end, waiting)
        return end

    def set_aside(self, waiting: Waiting, why: object) -> None:
        """A file that is of no use stays for a look, under a name that no worker reads."""
        aside = waiting.path.with_name(waiting.path.name + BROKEN)
        logger.warning("spool: %s is of no use and is now %s: %s", waiting.path, aside.name, why)
        waiting.path.replace(aside)


def age_seconds(path: Path) -> float:
    """Since the file was written.

    Raises:
        OSError: it is not there.
    """
    return time.time() - path.stat(follow_symlinks=False).st_mtime


def _content(path: Path) -> bytes:
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(opened, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no file")
        if facts.st_size > LARGEST_BYTES:
            raise ValueError(f"its {facts.st_size} bytes are more than the {LARGEST_BYTES} of the largest file")
        return file.read(LARGEST_BYTES + 1)


def _check(end: End, waiting: Waiting) -> None:
    claim, result = end.claim, end.result
    if (claim.spec.sweep_uid, claim.job, claim.attempt) != (waiting.uid, waiting.job, waiting.attempt):
        raise ValueError("it tells of another attempt than its name")
    told = [one.job for one in (result, end.failure, *end.reports) if one is not None]
    if set(told) - {claim.job} or (result and end.failure):
        raise ValueError("it tells of several jobs or ends")
    best = result.best if result else None
    if best is None:
        return
    if (best.content is None) == (best.path is None):
        raise ValueError("its model has two places, or none")
    if best.path is not None and best.path != best_path(claim.job, claim.attempt):
        raise ValueError(f"its model lies in {best.path!r}, which is not the attempt's")
    if best.content is not None and (best.size, best.sha256) != (
        len(best.content),
        hashlib.sha256(best.content).hexdigest(),
    ):
        raise ValueError("its model is not whole")


def _sync(folder: Path) -> None:
    """Make the new name last, should the machine lose its power."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
