"""The jobs that one trainer trains at once: a slot's pack."""

import logging
from collections.abc import Collection, Iterable, Sequence

from jobs import logs
from jobs.spec import Answer, Claim, EpochReport, Failure, Outcome, Stopped, TrainResult
from jobs.states import FailureReason
from workers import wire
from workers.claimer import key
from workers.gpu import Gpu
from workers.holdings import Holdings
from workers.watch import Watch

logger = logging.getLogger(__name__)


class Pack:
    """Jobs come by `hold`, stop training by `hear`, `crash` or `cut_off`, and go by `let_go`, once they are recorded.

    It keeps reports only until they are in the database, and at most one of each epoch of each job that trains.
    """

    def __init__(self, holdings: Holdings, claims: Sequence[Claim]) -> None:
        """
        Args:
            claims: of one sweep and pack number, at least one.
        """
        self._holdings, self._most, self.key = holdings, claims[0].most, key(claims[0])
        self.running: dict[int, Watch] = {}  # job -> its watch, while the trainer has it
        self.ended: list[Watch] = []  # their outcomes are not in the database yet
        self.size = 0  # the most jobs it should have, as the trainer last said; 0: it has not said
        self.hold(claims)

    def hold(self, claims: Iterable[Claim]) -> list[Claim]:
        """Take claimed jobs in; those that are to be trained."""
        taken = []
        for claim in claims:
            logger.info("job %d: attempt %d begins", claim.job, claim.attempt, extra=logs.of(claim))
            self._holdings.hold(claim)
            earlier = self.running.get(claim.job)
            if earlier is None:
                self.running[claim.job] = Watch(claim)
                taken.append(claim)
            else:  # we froze, lost it and got it again: the trainer must be done with the earlier attempt first
                self._holdings.tell({(claim.job, earlier.claim.attempt): Answer.CLAIM_LOST})
                self._end(Watch(claim), Stopped(job=claim.job, answer=Answer.GIVE_BACK, epoch=0))
        return taken

    @property
    def over(self) -> bool:
        """Whether all that it held is recorded."""
        return not self.running and not self.ended

    @property
    def room(self) -> int:
        """How many more jobs may join."""
        size = min(self.size, self._most) if self._most else self.size
        return max(0, size - len(self.running))

    def hear(self, message: wire.Message) -> None:
        """Take in what the trainer says.

        Raises:
            RuntimeError: it speaks of a job that it was not given.
        """
        if isinstance(message, wire.Epochs):
            for report in message.reports:
                held = self._watch(report).reports
                while held and held[-1].epoch >= report.epoch:  # trained again, after its pack was scattered
                    held.pop()
                held.append(report)
            self.size = message.room + len(message.reports)
        elif isinstance(message, TrainResult | Stopped | Failure):
            watch = self._watch(message)
            del self.running[message.job]
            self._end(watch, message)

    def _watch(self, message: EpochReport | Outcome) -> Watch:
        watch = self.running.get(message.job)
        if watch is None:
            raise RuntimeError(f"the trainer speaks of job {message.job}; it was given {sorted(self.running)}")
        return watch

    def _end(self, watch: Watch, outcome: Outcome) -> None:
        if isinstance(outcome, TrainResult):
            watch.reports = []  # the result brings the whole history
        watch.end(outcome)
        self.ended.append(watch)

    def crash(self, error: str, reason: FailureReason) -> None:
        """The trainer has died: every job that it had has failed, if not by its own fault."""
        beside = len(self.running) > 1
        for job, watch in self.running.items():
            self._end(watch, Failure(job=job, reason=reason, error=error, beside=beside))
        self.running.clear()

    def suspects(self, gpu: Gpu) -> list[Watch]:
        """Those that ended by a failure which may be the GPU's, and of which it was not yet asked."""
        unasked = [watch for watch in self.ended if not watch.asked_gpu]
        return [watch for watch in unasked if isinstance(watch.outcome, Failure) and gpu.suspected(watch.outcome)]

    def acquit(self, watches: Iterable[Watch]) -> None:
        """Their failures were none of theirs: they are given back."""
        for watch in watches:
            watch.end(Stopped(job=watch.claim.job, answer=Answer.GIVE_BACK, epoch=0))

    def cut_off(self) -> None:
        """The trainer was killed because it did not stop in time: those that were not told to stop are given back."""
        for watch in self.running.values():
            watch.cut_off()
            self.ended.append(watch)
        self.running.clear()

    def let_go(self, watches: Collection[Watch]) -> None:
        """These are recorded, or never will be."""
        for watch in watches:
            self._holdings.let_go(watch.claim)
            if watch.became is not None or not watch.spooled:  # who records what waits on disk counts it
                self._holdings.outcomes.count(watch.came_to)
        gone = set(watches)
        self.ended = [watch for watch in self.ended if watch not in gone]

    def close(self) -> None:
        """Let go of all that is left: what is not recorded by now will be rescued."""
        self.let_go([*self.running.values(), *self.ended])
        self.running.clear()
