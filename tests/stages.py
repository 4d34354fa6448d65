"""A slot on a stage: its trainers say what a test wants them to say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from db import claiming
from db.models import Job
from db.session import Database
from jobs.settings import Settings
from jobs.spec import Answer, Assignment, EpochReport, Failure, Stopped, TrainResult
from jobs.states import JobState
from workers import pace, recorder, slot, wire
from workers.claimer import Sizes
from workers.holdings import Holdings
from workers.slot import Slot

Script = Callable[["Puppet"], list[wire.Message]]
Row = Callable[[int], dict[str, Any]]


class Puppet:
    """A trainer that is played by the script of a test."""

    def __init__(self, script: Script) -> None:
        self.alive, self.ready, self._script = True, True, script
        self.packs: list[list[int]] = []  # the jobs of each Train
        self.has: list[int] = []  # jobs without an outcome
        self.told: dict[int, Answer] = {}
        self.looks = 0

    def train(self, assignments: list[Assignment]) -> None:
        self.packs.append([assignment.spec.job for assignment in assignments])
        self.has += self.packs[-1]

    def answer(self, job: int, answer: Answer) -> None:
        self.told[job] = answer

    def receive(self, timeout: float) -> list[wire.Message]:
        self.looks += 1
        assert self.looks < 100_000, "the script does not end"
        messages = self._script(self)
        for message in messages:
            if isinstance(message, TrainResult | Stopped | Failure):
                self.has.remove(message.job)
        return messages

    def kill(self) -> None:
        self.alive = False

    def epochs(self, number: int = 1, room: int = 0) -> wire.Epochs:
        """An epoch of every job it has."""
        metrics = {"val_accuracy": 0.5}
        reports = [EpochReport(job=job, epoch=number, metrics=metrics, seconds=0.1) for job in self.has]
        return wire.Epochs(reports=reports, room=room)


class Stage:
    """A slot on a database, and the trainers it has started."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch, home: Path, **settings: Any) -> None:
        self.settings = Settings(**{"home": home, "look_seconds": 0.001, "grace_seconds": 0.05, **settings})
        self.holdings, self.sizes, self.puppets = Holdings(), Sizes(), list[Puppet]()
        self.scripts: list[Script] = []
        monkeypatch.setattr(slot, "LISTEN_SECONDS", 0.0)
        monkeypatch.setattr(slot, "Trainer", lambda *_: self._start())
        monkeypatch.setattr(pace, "SHARE", 0)
        monkeypatch.setattr(recorder, "FLUSH_SECONDS", 0.0)
        monkeypatch.setattr(recorder, "AGAIN_SECONDS", 0.0)
        self.slot = Slot("w1", "cpu", database, self.settings, self.holdings, self.sizes, None)

    def _start(self) -> Puppet:
        self.puppets.append(Puppet(self.scripts[min(len(self.puppets), len(self.scripts) - 1)]))
        return self.puppets[-1]

    def work(self, *scripts: Script) -> list[Puppet]:
        """Let the slot work until nothing is ready; each script plays one trainer, the last one all further ones."""
        self.scripts += scripts
        self.slot.work()
        assert self.holdings.attempts() == set()
        return self.puppets


def after(count: int, then: Script, room: int = 0) -> Script:
    """So many epochs of the jobs it has by then, with room for more; then another script."""

    def script(puppet: Puppet) -> list[wire.Message]:
        return [puppet.epochs(puppet.looks, room - len(puppet.has))] if puppet.looks <= count else then(puppet)

    return script


def take_back(database: Database, job: int) -> None:
    """The job is ready again, though a worker holds it and does not know."""
    with database.writing() as session:
        session.execute(
            update(Job).where(Job.id == job).values(state=JobState.READY, worker=None, lease_expires_at=None)
        )


def give_to_another_worker(database: Database, job: int) -> None:
    take_back(database, job)
    with database.writing() as session:
        (claim,) = claiming.claim(session, "cpu", "w2", 20.0)
    assert (claim.job, claim.attempt) == (job, 2)
