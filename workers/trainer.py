"""The trainer: a process that trains what its supervisor hands it, one pack after the other.

It stays warm between jobs: torch is imported once, data sets are loaded once. It knows no database and no broker.
"""

import contextlib
import ctypes
import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from jobs.errors import GridyardError
from jobs.spec import Answer, Assignment, EpochReport
from workers import wire

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Inbox:
    """What the supervisor has said: a thread reads it, so that a word like "stop" is heard in the middle of a job."""

    def __init__(self, pipe: BinaryIO) -> None:
        self.packs: queue.SimpleQueue[wire.Train | wire.Setup] = queue.SimpleQueue()
        self.answers: dict[int, Answer] = {}  # job -> what its next report is answered
        # Those that are to stop before. Replaced, never changed: it is read before each batch, without a lock.
        self.wishes: Mapping[int, Answer] = {}
        self._pipe, self._changing = pipe, threading.Lock()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def joining(self) -> list[Assignment]:
        """What has come since the training began, to train along."""
        packs = [self.packs.get_nowait() for _ in range(self.packs.qsize())]  # nobody else takes any meanwhile
        return [assignment for pack in packs if isinstance(pack, wire.Train) for assignment in pack.assignments]

    def forget(self, job: int) -> None:
        """The job has ended."""
        with self._changing:
            del self.answers[job]
            if job in self.wishes:
                self._wish()

    def _wish(self) -> None:
        self.wishes = {job: answer for job, answer in self.answers.items() if answer is not Answer.GO_ON}

    def _read(self) -> None:
        with contextlib.suppress(ValueError):  # a line that was cut off: the supervisor died while it wrote
            for line in self._pipe:
                message = wire.decode(line)
                if isinstance(message, wire.Reply):
                    with self._changing:
                        if message.job in self.answers:  # it has not ended
                            self.answers[message.job] = message.answer
                            self._wish()
                elif isinstance(message, wire.Train):
                    with self._changing:
                        for assignment in message.assignments:
                            self.answers[assignment.spec.job] = Answer.GO_ON  # whatever an earlier attempt was told
                        self._wish()
                    self.packs.put(message)
                elif isinstance(message, wire.Setup):
                    self.packs.put(message)
        os._exit(0)  # stdin is closed: the supervisor is gone, and so must we be, even from the middle of a batch


def main() -> None:
    outbox = _private_stdout()
    faulthandler.enable(all_threads=False)  # where a segmentation fault was is then among our last words
    _die_with_the_worker()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    inbox = Inbox(sys.stdin.buffer)
    setup = inbox.packs.get()
    assert isinstance(setup, wire.Setup)
    os.environ["GRIDYARD_DATA"], os.environ["GRIDYARD_CACHE"] = setup.data, setup.cache
    os.environ["GRIDYARD_FILES"], os.environ["GRIDYARD_TASKS"] = setup.files, setup.tasks

    from jobs import catalogue, engine  # imports torch: seconds
    from jobs.store import Store

    for trouble in catalogue.own_tasks().troubles:  # two tasks of one name end the trainer, before a job is claimed
        logging.warning("%s", trouble)

    options = engine.Options(
        device=setup.device,
        threads=setup.threads,
        compile=setup.compile,
        checkpoint_seconds=setup.checkpoint_seconds,
        small_model_bytes=setup.small_model_bytes,
    )
    engine.check(options)
    store = Store(setup.store)
    wire.send(outbox, wire.Ready())

    def report(epochs: Sequence[EpochReport], room: int) -> list[Answer]:
        wire.send(outbox, wire.Epochs(reports=list(epochs), room=room))
        return [inbox.answers[epoch.job] for epoch in epochs]

    while True:
        pack = inbox.packs.get()
        assert isinstance(pack, wire.Train)
        trained = engine.train(
            pack.assignments,
            store=store,
            options=options,
            report=report,
            joining=inbox.joining,
            wishes=lambda: inbox.wishes,
        )
        for outcome in trained:
            inbox.forget(outcome.job)
            wire.send(outbox, outcome)


def _private_stdout() -> BinaryIO:
    """Our way to the supervisor; whatever a library prints goes to stderr instead."""
    outbox = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return outbox


def _die_with_the_worker() -> None:
    # A signal to the whole group, such as Ctrl-C, is the worker's to answer: it tells us to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        # The closed pipe ends us too, but not while a long call holds the interpreter's lock.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _told(error: Exception) -> int:
    """Say on stderr what ended us; the exit code."""
    if isinstance(error, GridyardError):  # the message is for the user, and says all
        print(error, file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    if "torch" in sys.modules:
        from jobs.memory import out_of_memory

        return wire.OUT_OF_MEMORY if out_of_memory(error) else 1
    return 1


if __name__ == "__main__":
    code = 1
    try:
        main()
    except Exception as error:
        code = _told(error)
    os._exit(code)  # an orderly end would stumble over the thread that waits for stdin
