"""What a supervisor keeps in mind of a job from its claim until its end is recorded."""

import time
from dataclasses import dataclass, field

from jobs.spec import Answer, Claim, EpochReport, Failure, Outcome, Stopped, TrainResult
from jobs.states import FailureReason


@dataclass(eq=False)
class Watch:
    """One attempt at one job. Times are of the monotonic clock."""

    claim: Claim
    started: float = field(default_factory=time.monotonic)
    reports: list[EpochReport] = field(default_factory=list)  # not yet in the database
    told: tuple[float, Answer] | None = None  # when and how the trainer was told to stop
    late: bool = False  # it was told so because its time is over
    preempted: bool = False  # it was told so because the worker stops
    outcome: Outcome | None = None
    ended: float | None = None  # when its outcome came
    asked_gpu: bool = False  # whether its failure was the GPU's: an end that waits for the database asks once
    spooled: bool = False  # its end lies on disk, too
    became: str | None = None  # what the database made of the outcome; None: the claim was lost

    def overdue(self, now: float) -> bool:
        """Whether the attempt takes longer than it may."""
        limit = self.claim.time_limit
        return limit is not None and now - self.started >= limit

    def end(self, outcome: Outcome) -> None:
        """Take in how the attempt ended; one that stopped because its time was over has failed."""
        if self.late and isinstance(outcome, Stopped):
            limit = f"the time limit of {self.claim.time_limit:g} s"
            error = f"attempt {self.claim.attempt} took longer than {limit}"
            outcome = Failure(job=self.claim.job, reason=FailureReason.TIMEOUT, error=error, epoch=outcome.epoch)
        self.outcome, self.ended = outcome, time.monotonic()

    @property
    def ran_out_of_memory(self) -> bool:
        return isinstance(self.outcome, Failure) and self.outcome.reason is FailureReason.OUT_OF_MEMORY

    @property
    def came_to(self) -> str:
        """How the attempt ended, in a word, for those who count."""
        if self.became is None:
            return "claim lost"
        if isinstance(self.outcome, Failure):
            return self.outcome.reason
        if isinstance(self.outcome, Stopped):
            given_back = "preempted" if self.preempted else "given back"
            return "cancelled" if self.outcome.answer is Answer.CANCELLED else given_back
        return "succeeded"

    @property
    def in_words(self) -> str:
        """How the attempt ended, for the log."""
        if isinstance(self.outcome, TrainResult):
            return "succeeded"
        if isinstance(self.outcome, Failure):
            return f"failed ({self.outcome.reason})"
        return "was preempted" if self.preempted else "stopped"

    def cut_off(self) -> None:
        """The trainer was killed before it answered: what it was told holds, and nobody else has failed."""
        answer = self.told[1] if self.told else Answer.GIVE_BACK
        self.end(Stopped(job=self.claim.job, answer=answer, epoch=0))
