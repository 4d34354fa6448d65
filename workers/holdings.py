"""What the slots of a worker hold, and what they were told to do with it: the one thing its threads share."""

import threading

from jobs.spec import Answer, Claim


class Holdings:
    """The jobs a worker holds, each with the answer that its reports get. Safe to use from every thread."""

    def __init__(self) -> None:
        self.draining = threading.Event()  # the worker stops: claim nothing more, give back what is held
        self._lock = threading.Lock()
        self._answers: dict[int, tuple[int, Answer]] = {}  # job -> its attempt, and how to go on

    def __len__(self) -> int:
        return len(self._answers)

    def hold(self, claim: Claim) -> None:
        """A slot has claimed this job."""
        with self._lock:
            self._answers[claim.job] = claim.attempt, Answer.GO_ON

    def let_go(self, claim: Claim) -> None:
        """A slot is done with this job."""
        with self._lock:
            del self._answers[claim.job]

    def attempts(self) -> dict[int, int]:
        """Job → attempt, of all that is held."""
        with self._lock:
            return {job: attempt for job, (attempt, _) in self._answers.items()}

    def tell(self, asked: dict[int, int], answers: dict[int, Answer]) -> None:
        """Take in what a heartbeat learnt of the attempts it asked for; one that has ended meanwhile is left out."""
        with self._lock:
            for job, attempt in asked.items():
                if self._answers.get(job, (0,))[0] == attempt:
                    self._answers[job] = attempt, answers[job]

    def answer(self, claim: Claim) -> Answer:
        """How to go on with a job that is held."""
        with self._lock:
            answer = self._answers[claim.job][1]
        return Answer.GIVE_BACK if answer is Answer.GO_ON and self.draining.is_set() else answer
