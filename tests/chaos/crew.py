"""Workers and a scheduler that are started again when they end, as a container's restart policy would."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

AGAIN_SECONDS = 0.5  # between an end and the next start
TEND_SECONDS = 0.1
LEFT_SECONDS = 10.0  # what a process started must be gone so long after it
STOPPED = (0, -signal.SIGTERM)  # exit codes after SIGTERM; the latter of one that had only just begun to start
MARK = "CHAOS_YARD"  # in the environment of all that belongs to a crew


@dataclass(frozen=True, kw_only=True)
class End:
    """A process of the crew ended."""

    who: str
    at: float  # seconds since the epoch
    code: int  # negative: the signal
    asked: float | None  # when it was told to stop


class Member:
    """A command that shall always run."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self._command, self._environment = command, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0  # not before, by the monotonic clock
        self.starts = 0
        self.asked: float | None = None
        self.frozen: set[psutil.Process] = set()

    def tend(self) -> End | None:
        """Start it where it does not run; how it ended, if it has."""
        if self._process is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return None
        return self.reap()

    def reap(self) -> End | None:
        """How it ended, if it has."""
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return None
        end = End(who=self.name, at=time.time(), code=code, asked=self.asked)
        self._process, self.asked, self._start_at = None, None, time.monotonic() + AGAIN_SECONDS
        self.frozen.clear()
        return end

    def _start(self) -> None:
        self.starts += 1
        # The name that PostgreSQL knows its sessions by: so the database itself sees who writes.
        environment = {**self._environment, "PGAPPNAME": f"{self.name}/{self.starts}"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, cwd=self.log.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def runs(self) -> bool:
        return self.main() is not None

    def main(self) -> psutil.Process | None:
        """The process that was started; None while it is down."""
        process = self._process  # the tending thread may take it away
        if process is None or process.poll() is not None:
            return None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(process.pid)
        return None

    def tree(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """Its own processes, the first one first; and its trainers."""
        main = self.main()
        if main is None:
            return [], []
        try:
            below = main.children(recursive=True)
        except psutil.NoSuchProcess:
            return [], []
        trainers = [process for process in below if is_trainer(process)]
        return [main, *(process for process in below if process not in trainers)], trainers

    def stop(self) -> None:
        """SIGTERM, once."""
        if self._process is not None and self.runs:
            self.asked = time.time()
            self._process.terminate()


def is_trainer(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "workers.trainer" in process.cmdline()
    return False


class Crew:
    """Members, and a thread that tends them until `close`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = {**environment, MARK: self.mark}
        self.members: dict[str, Member] = {}
        self.ends: list[End] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="crew", daemon=True)

    def add(self, name: str, *arguments: str, **settings: object) -> None:
        """A `gridyard` command that shall always run, with settings of its own."""
        own = {f"GRIDYARD_{key.upper()}": str(value) for key, value in settings.items()}
        command = [sys.executable, "-P", "-m", "gridyard", *arguments]
        self.members[name] = Member(name, command, {**self._environment, **own}, self.folder / f"{name}.log")

    def start(self) -> None:
        self._thread.start()

    def _tend(self) -> None:
        while not self._stopping.wait(TEND_SECONDS):
            for member in self.members.values():
                if (end := member.tend()) is not None:
                    self.ends.append(end)

    def close(self, grace: float) -> list[str]:
        """Stop all in order; what was wrong with that, in words. Kills what is left."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for member in self.members.values():
            for process in member.frozen:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
            member.stop()
        trouble = []
        deadline = time.monotonic() + grace
        for member in self.members.values():
            while member.runs and time.monotonic() < deadline:
                time.sleep(TEND_SECONDS)
            end = member.reap()
            if member.runs:
                trouble.append(f"{member.name} did not stop within {grace:g} s of SIGTERM")
            elif end is not None and end.code not in STOPPED:
                trouble.append(f"{member.name} was told to stop, and ended with exit code {end.code}")
        left = self._left(LEFT_SECONDS if not trouble else 0.0)
        trouble += [f"left behind: process {process.pid}, {_told(process)}" for process in left]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=10)
        for member in self.members.values():
            member.reap()
        return trouble

    def _left(self, patience: float) -> list[psutil.Process]:
        """Processes of this crew that are still there after a while."""
        deadline = time.monotonic() + patience
        while (left := marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(TEND_SECONDS)
        return left

    def orphans(self) -> list[psutil.Process]:
        """Processes of the crew that belong to no member any more."""
        with_parents = {process.pid for member in self.members.values() for part in member.tree() for process in part}
        return [process for process in marked(self.mark) if process.pid not in with_parents]


def marked(mark: str) -> list[psutil.Process]:
    """All processes that were started with this mark in their environment, and have not ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _told(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "gone"


def environment(**settings: object) -> dict[str, str]:
    """This process's environment without settings of its own, but for where data sets lie; and these settings."""
    kept = {"GRIDYARD_DATA"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRIDYARD_") or name in kept}
    return inherited | {f"GRIDYARD_{name.upper()}": str(value) for name, value in settings.items()}
