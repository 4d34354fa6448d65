"""A yard on one machine: a worker process and a scheduler thread beside whoever waits for a sweep."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from db import upkeep
from db import workers as register
from db.session import Database
from jobs import catalogue, data
from jobs.errors import DatabaseError, GridyardError, InputError, SettingsError
from jobs.settings import PREFIX, Settings
from workers.signals import heard_by
from workers.tally import Tally

if TYPE_CHECKING:
    from gridyard.sweep import Sweep
    from scheduler.service import Service

DEATHS = 5  # so many deaths of the worker …
DEATHS_SECONDS = 60.0  # … in this time, and we give up
KILL_SECONDS = 10.0  # a worker that is still there so long after its grace is killed
LOG_TAIL = 2_000  # characters of its log that are shown when we give up
WRONG_INPUT, SAYS = 2, "gridyard: "  # how a command ends that could not do what was asked, and begins to say why


def is_needed(sweep: "Sweep") -> bool:
    """Whether nobody else would work on this sweep: no broker is set and no worker of its queue is there."""
    return not sweep.yard.settings.broker and count_workers(sweep) == 0


def count_workers(sweep: "Sweep") -> int:
    """The living workers of a sweep's queue, without those of this machine whose processes are gone."""
    queue_name = sweep.status().queue
    with sweep.yard.database.reading() as session:
        found = register.alive(session, queue_name)
    return sum(not (worker.host == socket.gethostname() and _is_gone(worker.pid)) for worker in found)


def _is_gone(pid: int | None) -> bool:
    try:
        os.kill(pid or os.getpid(), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's
        return False
    return False


@contextmanager
def workers(sweep: "Sweep", slots: int | None) -> Iterator[Callable[[], None]]:
    """Work on this sweep's queue here until the block ends.

    Yields a function to be called about every second: it starts a worker again that died.

    Raises:
        DataMissing: its task needs a data set that is not here and could not be fetched.
        GridyardError: the worker dies again and again, or the scheduler has ended with an error.
    """
    yard = sweep.yard
    fetch_data(sweep.status().task)
    worker = LocalWorker(sweep, slots)
    scheduler = SchedulerThread(yard.database, yard.settings)

    def tend() -> None:
        worker.tend()
        scheduler.tend()

    with _second_interrupt(worker.hurry):
        try:
            scheduler.start()
            worker.start()
            yield tend
        finally:
            worker.stop()
            scheduler.stop()


def fetch_data(task: str) -> None:
    """Fetch the data sets of a task that are not here: once, with a progress bar, before its first job asks for them.

    Raises:
        DataMissing: one could not be fetched.
    """
    known = catalogue.get(task)
    for name in known.data if known else ():
        data.get(name)


@contextmanager
def _second_interrupt(hurry: Callable[[bool], bool]) -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt, as ever; each that comes while the worker stops calls `hurry`.

    SIGTERM is heard as Ctrl-C is.

    By a signal handler and not by a second KeyboardInterrupt: that could come between two lines of the stopping itself.

    Args:
        hurry: whether it took the Ctrl-C upon itself.
    """
    interrupted = False

    def handle(*_: object) -> None:
        nonlocal interrupted
        if not hurry(interrupted):
            interrupted = True
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread hears signals
        yield
        return
    with heard_by(handle):
        yield


def log_file(settings: Settings) -> Path:
    """Where local workers write."""
    return settings.home.resolve() / "logs" / "worker.log"


class LocalWorker:
    """`gridyard worker` as a process of its own, which trains this sweep before any other of its queue."""

    def __init__(self, sweep: "Sweep", slots: int | None) -> None:
        yard = sweep.yard
        self._database = yard.database
        # -P: a folder called `jobs` where the user happens to stand is not ours
        self._command = [sys.executable, "-P", "-m", "gridyard", "worker", "--until-stdin-closes"]
        self._command += ["--queue", sweep.status().queue, "--first", str(sweep.id)]
        self._command += [] if slots is None else ["--slots", str(slots)]
        self._environment = os.environ | {PREFIX + name.upper(): value for name, value in yard.overrides.items()}
        self._log = log_file(yard.settings)
        self._grace, self._most_lost = yard.settings.grace_seconds, yard.settings.most_lost
        self._log_start = 0  # bytes of the log that earlier workers wrote
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._deaths = Tally(DEATHS, DEATHS_SECONDS)

    def start(self) -> None:
        """Raises:
        InputError: its log cannot be written.
        """
        with self._opened() as log:
            self._log_start = log.tell()
            # A session of its own: Ctrl-C in the terminal reaches only us, and we stop it in order. Its stdin closes
            # when we end in whatever way, so it never outlives us.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def _opened(self) -> BinaryIO:
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            return self._log.open("ab")
        except OSError as error:
            raise InputError(
                f"{self._log.parent}: the log of the worker cannot be written there: {error.strerror}. "
                f"Let {PREFIX}HOME name a folder that can be written"
            ) from None

    def tend(self) -> None:
        """Start it again if it has died.

        Raises:
            InputError: it has ended because of a setting, or of this machine.
            GridyardError: it has died DEATHS times in DEATHS_SECONDS.
        """
        if self._process is None or self._process.poll() is None:
            return
        if self._process.returncode == WRONG_INPUT:
            raise InputError(self._last_words())
        if self._deaths.full():
            tail = self._log.read_text(errors="replace")[-LOG_TAIL:].strip()
            raise GridyardError(f"the worker died {DEATHS} times in a minute; the end of {self._log}:\n{tail}")
        print(f"the worker died ({_how(self._process.returncode)}); starting it again", file=sys.stderr)
        self._rescue(self._process.pid)
        self.start()

    def _last_words(self) -> str:
        """The message by which it ended."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        said = [line.removeprefix(SAYS) for line in lines if line.startswith(SAYS)]
        return said[-1] if said else f"the worker has stopped; see {self._log}"

    def _rescue(self, pid: int) -> None:
        """Take back what a dead worker held, now: we have seen it die, so its leases need not run out."""
        # Should the database be away, the scheduler does it later.
        with contextlib.suppress(DatabaseError), self._database.writing() as session:
            for worker in register.of_process(session, socket.gethostname(), pid):
                upkeep.rescue(session, worker, most_lost=self._most_lost)
                register.stop(session, worker)

    def stop(self) -> None:
        """SIGTERM: its trainers write their last checkpoints and their jobs are given back; killed when it hangs."""
        self._stopping = True
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._grace + KILL_SECONDS)
        self._kill()
        if self._process.wait() != 0:
            self._rescue(self._process.pid)

    def hurry(self, at_once: bool) -> bool:
        """Kill it with its trainers if it is being stopped, or if `at_once`; whether it was."""
        if at_once or self._stopping:
            self._kill()
        return at_once or self._stopping

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}; see its log"


class SchedulerThread:
    """The scheduler's loop in a thread of this process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        from scheduler.service import Service

        try:
            service = Service(self._database, self._settings)
            try:
                with self.serving(service):
                    service.run(self._stop)
                service.tick()  # what ended since the last round: the sweep we waited for is closed, not left open
            finally:
                service.close()
        except Exception as error:  # handed to the thread that waits
            self._error = error

    @contextmanager
    def serving(self, service: "Service") -> Iterator[None]:
        """Answer at GRIDYARD_MONITOR, unless somebody does already: a scheduler of its own, or another `run`."""
        from scheduler import monitor

        with contextlib.ExitStack() as stack:
            try:
                count = stack.enter_context(monitor.serving(self._settings, self._database, service.pulse))
                count()
            except SettingsError as error:
                print(f"{error}. This goes on without /metrics", file=sys.stderr)
            yield

    def tend(self) -> None:
        """Raises:
        Exception: what ended the scheduler.
        """
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
