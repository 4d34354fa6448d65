"""A trainer process, seen from the worker: start it, talk to it, see it die."""

import collections
import contextlib
import logging
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from typing import Any

from jobs import cgroup, logs
from jobs.spec import Answer, Assignment, Failure, Stopped, TrainResult
from jobs.states import FailureReason
from workers import wire

logger = logging.getLogger(__name__)
STDERR_LINES = 40  # kept for the message when it dies
END_SECONDS = 2.0  # for a trainer whose pipe has closed to be gone, and for what it left in its pipes to be read
_LEVELLED = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.DOTALL)  # as the trainer's logging writes


class TrainerDied(Exception):
    """The trainer process ended; the message tells how and what it last wrote to stderr."""

    def __init__(self, message: str, reason: FailureReason = FailureReason.CRASHED, *, killed: bool = False) -> None:
        """
        Args:
            reason: CRASHED, or OUT_OF_MEMORY where that is known.
            killed: by a signal; it has not ended by itself.
        """
        super().__init__(message)
        self.reason = reason
        self.by_chance = killed or reason is FailureReason.OUT_OF_MEMORY  # another one may start well


class Trainer:
    """A warm trainer process and the pipes to it."""

    def __init__(self, setup: wire.Setup, visible_devices: str | None) -> None:
        """Start the process; it loads torch while we go on.

        Args:
            visible_devices: CUDA_VISIBLE_DEVICES of the trainer; None leaves it as it is.
        """
        environment = {name: value for name, value in os.environ.items() if name not in _SECRET}
        environment |= {"OMP_NUM_THREADS": str(setup.threads), "MKL_NUM_THREADS": str(setup.threads)}
        if visible_devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = visible_devices
            environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # a number means what it means to nvidia-smi
        self._process = subprocess.Popen(
            # -P: a folder called `jobs` or `workers` where the user happens to stand is not ours
            [sys.executable, "-P", "-m", "workers.trainer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            process_group=0,  # of its own: Ctrl-C in a terminal is the worker's to answer; a kill takes its children
        )
        self.pid = self._process.pid
        self.ready = False  # it has loaded what it trains with
        self._oom_kills = cgroup.oom_kills()  # when it was last given something to do
        self._messages: queue.SimpleQueue[wire.Message | None] = queue.SimpleQueue()
        self._held: dict[int, Assignment] = {}  # job → what it trains
        self._stderr: collections.deque[str] = collections.deque(maxlen=STDERR_LINES)
        self._readers = [
            threading.Thread(target=self._read_messages, name=f"trainer {self.pid} stdout", daemon=True),
            threading.Thread(target=self._read_stderr, name=f"trainer {self.pid} stderr", daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._send(setup)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def train(self, assignments: list[Assignment]) -> None:
        """Hand over jobs that train together; their reports and outcomes come by `receive`."""
        self._oom_kills = cgroup.oom_kills()
        self._held |= {assignment.spec.job: assignment for assignment in assignments}
        self._send(wire.Train(assignments=assignments))

    def answer(self, job: int, answer: Answer) -> None:
        """Say how the job is to go on: heard before its next batch."""
        self._send(wire.Reply(job=job, answer=answer))

    def receive(self, timeout: float) -> list[wire.Message]:
        """All messages that have come; waits up to timeout seconds for the first.

        Raises:
            TrainerDied: there will be no more messages.
        """
        try:
            heard = [self._messages.get(timeout=max(timeout, 0.0))]
        except queue.Empty:
            return []
        heard += [self._messages.get_nowait() for _ in range(self._messages.qsize())]  # nobody else takes any
        if heard[0] is None:
            raise self._death()
        if heard[-1] is None:  # what it said before it died comes first
            self._messages.put(None)
        messages = [message for message in heard if message is not None]
        for message in messages:
            if isinstance(message, TrainResult | Stopped | Failure):
                self._held.pop(message.job, None)
        self.ready = self.ready or any(isinstance(message, wire.Ready) for message in messages)
        return messages

    def kill(self) -> None:
        """End the process and its children at once, and wait until it is gone."""
        self._end()
        if any(reader.is_alive() for reader in self._readers):  # a child that left the group still has our pipes
            return
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # what was not yet written cannot be
                pipe.close()

    def _end(self) -> int:
        """Its exit code, after a kill should it still be there."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        for reader in self._readers:
            reader.join(timeout=END_SECONDS)
        return code

    def _send(self, message: wire.Message) -> None:
        assert self._process.stdin is not None
        try:
            wire.send(self._process.stdin, message)
        except OSError:  # it died: `receive` will say so
            logger.debug("trainer %d is gone", self.pid)

    def _read_messages(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._messages.put(wire.decode(line))
        except ValueError as error:  # cut off: it died while it wrote; or something else wrote to its pipe
            logger.warning("trainer %d: %s", self.pid, error)
        self._messages.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            self._stderr.append(text)
            level, said = _levelled(text)
            logger.log(level, "trainer %d: %s", self.pid, said, extra=logs.extra(trainer=self.pid, **self._about()))

    def _about(self) -> dict[str, Any]:
        """What a line it writes may be about: its one job, or all of its pack."""
        held = list(self._held.values())
        if not held:
            return {}
        one = {"job": held[0].spec.job, "attempt": held[0].attempt}
        return {"sweep": held[0].spec.sweep, **(one if len(held) == 1 else {"jobs": [each.spec.job for each in held]})}

    def _death(self) -> TrainerDied:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its pipe may close a moment before it is gone
            self._process.wait(timeout=END_SECONDS)
        died = self._process.poll() is not None  # or its pipe is of no more use, and it must go
        code = self._end()
        reason = self._reason(code) if died else FailureReason.CRASHED
        told = f"the trainer process died ({_how(code)})" if died else "the trainer process closed or garbled its pipe"
        if reason is FailureReason.OUT_OF_MEMORY and code < 0:
            told += ": the kernel ended it for want of memory"
        if self._stderr:
            told += f"; its last line: {self._stderr[-1]}" if code >= 0 else ""  # which has nothing to do with a signal
            told += "\n" + "\n".join(self._stderr)
        return TrainerDied(told, reason, killed=died and code < 0)

    def _reason(self, code: int) -> FailureReason:
        """Memory, if it said so itself, or was killed and the kernel has killed for want of memory since it began."""
        before, killed = self._oom_kills, cgroup.oom_kills()
        by_the_kernel = code == -signal.SIGKILL and before is not None and killed is not None and killed > before
        memory = by_the_kernel or code == wire.OUT_OF_MEMORY
        return FailureReason.OUT_OF_MEMORY if memory else FailureReason.CRASHED


def _levelled(line: str) -> tuple[int, str]:
    """The level of a line of stderr, and what it says; INFO of what a library prints."""
    found = _LEVELLED.fullmatch(line)
    return (logging.getLevelNamesMapping()[found[1]], found[2]) if found else (logging.INFO, line)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"signal {-code}" + (f", {known[-code]}" if -code in known else "")


# A trainer needs no way to the database or the broker, so it gets none; the store it needs, with its credentials.
_SECRET = {
    *("GRIDYARD_DB", "GRIDYARD_BROKER", "DATABASE_URL", "REDIS_URL"),
    *("PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "REDISCLI_AUTH"),
}
