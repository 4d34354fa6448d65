"""What the slots of a worker hold, and what they were told to do with it: the one thing its threads share."""

import threading
import time

from db.leases import Held
from jobs.spec import Answer, Claim
from workers.isolation import Isolation
from workers.outcomes import Outcomes
from workers.troubles import Troubles, WaitingEnds


class Holdings:
    """The attempts a worker holds, each with the answer that its reports get. Safe to use from every thread.

    It may hold two attempts at one job: the earlier one without knowing yet that it is lost.
    """

    def __init__(self) -> None:
        self.draining = threading.Event()  # the worker stops: claim nothing more, give back what is held
        self.isolation = Isolation()
        self.drained_at = float("inf")  # since when, by the monotonic clock
        self.outcomes = Outcomes()  # of all that was held and let go
        self.troubles = Troubles()
        self.ends = WaitingEnds(self.troubles)  # that are let go, or held still
        self._lock = threading.Lock()
        self._answers: dict[Held, Answer] = {}
        self._heard = time.monotonic()

    def heard(self) -> None:
        """The database has answered a heartbeat."""
        self._heard = time.monotonic()

    def silence(self) -> float:
        """Seconds since the database has answered a heartbeat."""
        return time.monotonic() - self._heard

    def drain(self) -> None:
        """The worker stops."""
        self.drained_at = min(self.drained_at, time.monotonic())
        self.draining.set()

    def hold(self, claim: Claim) -> None:
        """A slot has claimed this job."""
        with self._lock:
            self._answers[claim.job, claim.attempt] = Answer.GO_ON

    def let_go(self, claim: Claim) -> None:
        """A slot is done with this attempt."""
        with self._lock:
            del self._answers[claim.job, claim.attempt]

    def attempts(self) -> set[Held]:
        """All that is held."""
        with self._lock:
            return set(self._answers)

    def given_up(self) -> set[Held]:
        """What is held still, though its trainer is told that the claim is lost."""
        with self._lock:
            return {held for held, answer in self._answers.items() if answer is Answer.CLAIM_LOST}

    def tell(self, answers: dict[Held, Answer]) -> None:
        """Take in what a heartbeat learnt; what has ended meanwhile is left out."""
        with self._lock:
            self._answers.update({held: answer for held, answer in answers.items() if held in self._answers})

    def answer(self, claim: Claim) -> Answer:
        """How to go on with an attempt that is held."""
        with self._lock:
            answer = self._answers[claim.job, claim.attempt]
        return Answer.GIVE_BACK if answer is Answer.GO_ON and self.draining.is_set() else answer
