"""One slot: a supervising thread and its warm trainer. Claim, train, record, and again."""

import logging
import time
from dataclasses import dataclass, field

from db import queue
from db.session import Database
from jobs.errors import DatabaseAway, DatabaseError
from jobs.settings import Settings
from jobs.spec import Answer, Assignment, Claim, EpochReport, Failure, Outcome, Stopped, TrainResult
from jobs.states import FailureReason, JobState
from workers import wire
from workers.devices import trainer_device
from workers.holdings import Holdings
from workers.supervisor import Trainer, TrainerDied

logger = logging.getLogger(__name__)

LISTEN_SECONDS = 0.2  # how long a supervisor listens to its trainer before it looks around
FLUSH_SECONDS = 1.0  # between two writes of epoch reports; a job that is shorter writes only its end
AGAIN_SECONDS = 1.0  # between two tries to record an outcome while the database is away


@dataclass
class Watch:
    """What a supervisor keeps in mind while a job trains. Times are of the monotonic clock."""

    claim: Claim
    started: float = field(default_factory=time.monotonic)
    flushed: float = field(default_factory=time.monotonic)
    told: float | None = None  # when the trainer was told to stop
    reports: list[EpochReport] = field(default_factory=list)  # not yet in the database


class Slot:
    """One place in a worker where training runs."""

    def __init__(
        self,
        worker: str,
        queue: str,
        database: Database,
        settings: Settings,
        holdings: Holdings,
        visible_devices: str | None,
        first: int | None = None,
    ) -> None:
        """
        Args:
            worker: the worker's id, which fences its claims.
            first: the sweep whose jobs are claimed before all others.
            visible_devices: CUDA_VISIBLE_DEVICES of the trainer; None leaves it as it is.
        """
        self._worker, self._queue = worker, queue
        self._database, self._settings, self._holdings = database, settings, holdings
        self._visible_devices, self._first = visible_devices, first
        self._trainer: Trainer | None = None

    def warm_up(self) -> Trainer:
        """The trainer, started if there is none alive."""
        if self._trainer is not None and not self._trainer.alive:
            self.close()
        if self._trainer is None:
            self._trainer = Trainer(_setup(self._settings, self._queue), self._visible_devices)
        return self._trainer

    def close(self) -> None:
        """End the trainer."""
        if self._trainer is not None:
            self._trainer.kill()
            self._trainer = None

    def work(self) -> None:
        """Claim and train until nothing is ready, or the worker stops.

        Raises:
            TrainerDied: no trainer can be started.
            DatabaseError: the database cannot be used.
        """
        try:
            while self._wait_for_the_trainer() and (claim := self._claim()):
                self._holdings.hold(claim)
                try:
                    watch = Watch(claim)
                    self._record(watch, self._train(watch))
                finally:
                    self._holdings.let_go(claim)
        except Exception:
            self.close()  # it may still be training what we do not follow any more
            raise

    def _wait_for_the_trainer(self) -> bool:
        """Whether there is a trainer to claim for; false when the worker stops. No job is claimed to wait for torch."""
        trainer = self.warm_up()
        while not trainer.ready and not self._holdings.draining.is_set():
            trainer.receive(LISTEN_SECONDS)
        return not self._holdings.draining.is_set()

    def _claim(self) -> Claim | None:
        with self._database.reading() as session:  # a look takes no write lock
            if not queue.has_ready(session, self._queue):
                return None
        with self._database.writing() as session:
            lease = self._settings.lease_seconds
            claims = queue.claim(session, self._queue, self._worker, lease, first=self._first)
        return claims[0] if claims else None

    def _train(self, watch: Watch) -> Outcome:
        claim = watch.claim
        logger.info("job %d: attempt %d begins", claim.job, claim.attempt)
        trainer = self.warm_up()
        trainer.train([Assignment(spec=claim.spec, attempt=claim.attempt)])
        try:
            return self._follow(trainer, watch)
        except TrainerDied as death:
            self.close()
            return Failure(job=claim.job, reason=FailureReason.CRASHED, error=str(death))

    def _follow(self, trainer: Trainer, watch: Watch) -> Outcome:
        """Listen to the trainer until the job has ended, passing on what the database wants of it."""
        while True:
            message = trainer.receive(LISTEN_SECONDS)
            if isinstance(message, EpochReport | TrainResult | Stopped | Failure) and message.job != watch.claim.job:
                raise RuntimeError(f"job {watch.claim.job}: the trainer speaks of job {message.job}")
            if isinstance(message, TrainResult | Stopped | Failure):
                return message
            if isinstance(message, EpochReport):
                watch.reports.append(message)
            self._flush(watch)
            stopped = self._stop_if_asked(trainer, watch) or self._stop_if_overdue(watch)
            if stopped:
                return stopped

    def _flush(self, watch: Watch) -> None:
        """Store the reports of the last second. Away, the database gets them later: training goes on."""
        now = time.monotonic()
        if not watch.reports or now - watch.flushed < FLUSH_SECONDS:
            return
        watch.flushed = now
        try:
            with self._database.writing() as session:  # if the claim is lost, the heartbeat says so
                queue.record_epochs(session, [(watch.claim, watch.reports)])  # of a lost claim the heartbeat tells
            watch.reports = []
        except DatabaseError as error:
            logger.warning("job %d trains on: %s", watch.claim.job, error)

    def _stop_if_asked(self, trainer: Trainer, watch: Watch) -> Outcome | None:
        """Tell the trainer to stop at its next report; kill it when that does not come."""
        answer = self._holdings.answer(watch.claim)
        if answer is Answer.GO_ON:
            return None
        now = time.monotonic()
        if watch.told is None:
            watch.told = now
            trainer.answer(watch.claim.job, answer)
        if now - watch.told < self._settings.grace_seconds:
            return None
        logger.warning("job %d: the trainer did not stop in time and is killed", watch.claim.job)
        self.close()
        return Stopped(job=watch.claim.job, answer=answer, epoch=0)

    def _stop_if_overdue(self, watch: Watch) -> Outcome | None:
        limit = watch.claim.time_limit
        if limit is None or time.monotonic() - watch.started < limit:
            return None
        self.close()
        error = f"attempt {watch.claim.attempt} took longer than the time limit of {limit:g} s"
        return Failure(job=watch.claim.job, reason=FailureReason.TIMEOUT, error=error)

    def _record(self, watch: Watch, outcome: Outcome) -> None:
        """Write how the attempt ended, however long the database is away; the fence says whether it still counts.

        Raises:
            DatabaseError: the database refuses even to write that it refused.
        """
        deadline = time.monotonic() + self._settings.offline_seconds
        while True:
            try:
                ended = _write(self._database, watch, outcome)
                break
            except DatabaseAway as error:
                if time.monotonic() > deadline or self._holdings.draining.is_set():
                    logger.error("job %d: its end could not be recorded, it will be rescued: %s", outcome.job, error)
                    return
                logger.warning("job %d has ended; recording it again: %s", outcome.job, error)
                time.sleep(AGAIN_SECONDS)
            except DatabaseError as error:  # it would refuse the same again
                if isinstance(outcome, Failure):
                    raise
                outcome = Failure(job=outcome.job, reason=FailureReason.ERROR, error=f"its end was refused: {error}")
        logger.info("job %d: attempt %d %s", outcome.job, watch.claim.attempt, ended or "lost its claim")


def _write(database: Database, watch: Watch, outcome: Outcome) -> str | None:
    """One transaction: the last reports, and the job's move. What became of the job, or None when the claim is lost."""
    claim = watch.claim
    if isinstance(outcome, Stopped) and outcome.answer is Answer.CLAIM_LOST:
        return None
    with database.writing() as session:
        if isinstance(outcome, TrainResult):  # brings the whole history along
            return JobState.SUCCEEDED if queue.finish(session, [(claim, outcome)]) else None
        if watch.reports and not queue.record_epochs(session, [(claim, watch.reports)]):
            return None
        if isinstance(outcome, Failure):
            state = queue.fail(session, claim, outcome)
            return None if state is None else f"failed ({outcome.reason}); the job is now {state}"
        released = queue.release(session, claim)
        return None if released is None else f"stopped; the job is now {released}"


def _setup(settings: Settings, queue: str) -> wire.Setup:
    return wire.Setup(
        store=settings.store_url,
        data=str(settings.data),
        cache=str(settings.cache),
        tasks=settings.tasks,
        device=trainer_device(queue, settings.device),
        threads=settings.threads,
        checkpoint_seconds=settings.checkpoint_seconds,
        small_model_bytes=settings.small_model_bytes,
    )
