"""One slot: a supervising thread and its warm trainer. Claim, train, record, and again."""

import logging
import time
from collections.abc import Callable, Iterable

from db.session import Database
from jobs import logs
from jobs.settings import Settings
from jobs.spec import Answer, Assignment, Claim
from workers import wire
from workers.claimer import Claimer, Sizes
from workers.devices import trainer_device
from workers.gpu import Gpu
from workers.holdings import Holdings
from workers.pack import Pack
from workers.recorder import Recorder
from workers.spool import Spool
from workers.supervisor import Trainer, TrainerDied
from workers.watch import Watch

logger = logging.getLogger(__name__)

STARTS = 3  # of trainers that somebody kills before they are ready
LISTEN_SECONDS = 0.2  # how long a supervisor listens to its trainer before it looks around
CANCEL_SECONDS = 10.0  # from a cancel to the end of what runs, at most
MARGIN_SECONDS = 2.0  # of it, for the look around, the kill, and writing down the end


class Slot:
    """One place in a worker where training runs."""

    def __init__(
        self,
        worker: str,
        queue: str,
        database: Database,
        settings: Settings,
        holdings: Holdings,
        sizes: Sizes,
        visible_devices: str | None,
        first: int | None = None,
        number: int = 0,
        *,
        shared: bool = False,
    ) -> None:
        """
        Args:
            worker: the worker's id, which fences its claims.
            sizes: shared by the slots of a worker.
            first: the sweep whose jobs are claimed before all others.
            visible_devices: CUDA_VISIBLE_DEVICES of the trainer; None leaves it as it is.
            number: of the slot in its worker, from 0.
            shared: other slots of the worker have the same GPU.
        """
        self._queue, self._settings, self._holdings, self._sizes = queue, settings, holdings, sizes
        self._visible_devices = visible_devices
        self.gpu = Gpu(visible_devices, shared=shared) if visible_devices else None
        self.fault: str | None = None  # why no job can be trained here
        self._claimer = Claimer(worker, queue, database, settings, sizes, first, number)
        self._recorder = Recorder(database, settings, holdings, Spool(settings.spool_folder))
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

    def work(self, asked: Callable[[], object] = lambda: None) -> None:
        """Claim and train until nothing is ready, or the worker stops.

        Args:
            asked: called each time that the database has answered what there is to claim.

        Raises:
            TrainerDied: no trainer can be started.
            DatabaseError: the database cannot be used.
        """
        isolation = self._holdings.isolation

        def claim(alone: bool) -> list[Claim]:
            claims = self._claimer.claim(alone)
            asked()
            return claims

        try:
            while self._wait_for_the_trainer() and (claims := isolation.claim(claim)):
                try:
                    with logs.about(sweep=claims[0].spec.sweep):
                        self._train(claims)
                finally:
                    isolation.leave()
        except Exception:
            self.close()  # it may still be training what we do not follow any more
            raise

    def _wait_for_the_trainer(self) -> bool:
        """Whether there is a trainer to claim for; false when the worker stops. No job is claimed to wait for torch.

        A trainer that starts on a GPU which cannot be used would only cost a job its time.
        """
        killed = 0
        while True:
            try:
                return self._is_ready()
            except TrainerDied as death:
                self.close()
                killed += 1
                if killed == STARTS or not death.by_chance:
                    raise
                logger.warning("another trainer is started: %s", death)

    def _is_ready(self) -> bool:
        if self._holdings.draining.is_set():
            return False
        if self.gpu and (self._trainer is None or not self._trainer.alive):
            self.fault = self.gpu.trouble()
        if self.fault:
            return False
        trainer = self.warm_up()
        while not trainer.ready and not self._holdings.draining.is_set():
            trainer.receive(LISTEN_SECONDS)
        return not self._holdings.draining.is_set()

    def _train(self, claims: list[Claim]) -> None:
        """Train a pack until the end of its last job, and of those that joined it, is recorded."""
        pack, trainer = Pack(self._holdings, claims), self.warm_up()
        looked = time.monotonic()
        try:
            trainer.train(_assignments(claims))
            while not pack.over:
                self._listen(trainer, pack)
                self._suspect_the_gpu(pack)
                pack.let_go(self._recorder.record(pack.ended, at_once=not pack.running))
                self._recorder.flush(pack.running.values())
                if time.monotonic() - looked >= LISTEN_SECONDS:
                    looked = time.monotonic()
                    self._stop(trainer, pack)
                self._let_join(trainer, pack)
        finally:
            pack.close()

    def _listen(self, trainer: Trainer, pack: Pack) -> None:
        """Take in what the trainer has said, or that it died."""
        if not pack.running:  # ends wait for the database to come back
            time.sleep(LISTEN_SECONDS)
            return
        try:
            for message in trainer.receive(LISTEN_SECONDS):
                pack.hear(message)
        except TrainerDied as death:
            self.close()
            pack.crash(str(death), death.reason)
        if pack.size:
            self._sizes.note(pack.key, pack.size)

    def _suspect_the_gpu(self, pack: Pack) -> None:
        """Give back what failed because the GPU is gone or full, which is none of the jobs' doing, and claim no more.

        After an error of CUDA a trainer is of no more use. One that ran out of memory may train the others on.
        """
        if self.gpu is None or not (suspects := pack.suspects(self.gpu)):
            return
        if pack.running and all(watch.ran_out_of_memory for watch in suspects):
            return
        self.close()
        pack.cut_off()
        self.fault = self.gpu.trouble()
        for watch in suspects:
            watch.asked_gpu = True
        if self.fault:
            logger.error("%d jobs are given back: %s", len(suspects), self.fault)
            pack.acquit(suspects)

    def _stop(self, trainer: Trainer, pack: Pack) -> None:
        """Tell the trainer which jobs to stop at their next batch; kill it when one of those does not in time."""
        now = time.monotonic()
        for job, watch in pack.running.items():
            if watch.told is None and (answer := self._wish(watch, now)) is not Answer.GO_ON:
                watch.told = (now, answer)
                watch.preempted = answer is Answer.GIVE_BACK and self._holdings.draining.is_set()
                trainer.answer(job, answer)
                logger.info("job %d is told to stop: %s", job, "its time is over" if watch.late else _WHY[answer])
        if any(now - self._told_at(watch) >= self._patience(watch) for watch in pack.running.values()):
            logger.warning("%d jobs: the trainer did not stop one of them in time and is killed", len(pack.running))
            self.close()
            pack.cut_off()

    def _told_at(self, watch: Watch) -> float:
        """When it was told to stop, or should have been: a stopping worker's grace time begins with the signal."""
        return min(watch.told[0], self._holdings.drained_at) if watch.told else float("inf")

    def _patience(self, watch: Watch) -> float:
        """Seconds a trainer has for stopping; nothing of a cancelled job is to be saved, and its end is promised."""
        grace, heartbeat = self._settings.trainer_grace_seconds, self._settings.heartbeat_seconds
        is_unwanted = watch.told is not None and watch.told[1] is Answer.CANCELLED and not watch.late
        return min(grace, max(0.0, CANCEL_SECONDS - heartbeat - MARGIN_SECONDS)) if is_unwanted else grace

    def _wish(self, watch: Watch, now: float) -> Answer:
        """How the job is to go on. One whose time is over stops as if it were cancelled."""
        answer = self._holdings.answer(watch.claim)
        watch.late = answer is Answer.GO_ON and watch.overdue(now)
        return Answer.CANCELLED if watch.late else answer

    def _let_join(self, trainer: Trainer, pack: Pack) -> None:
        """Fill up a pack that trains, as far as there are jobs for it."""
        if pack.running and pack.room and not self.fault and not self._holdings.draining.is_set():
            claims = pack.hold(self._claimer.join(pack.key, pack.room))
            if claims:
                trainer.train(_assignments(claims))


_WHY = {
    Answer.GIVE_BACK: "it is given back",
    Answer.CANCELLED: "cancelled",
    Answer.CLAIM_LOST: "its claim is lost",
}


def _assignments(claims: Iterable[Claim]) -> list[Assignment]:
    return [Assignment(spec=claim.spec, attempt=claim.attempt, most=claim.most, more=claim.more) for claim in claims]


def _setup(settings: Settings, queue: str) -> wire.Setup:
    return wire.Setup(
        store=settings.store_url,
        data=str(settings.data),
        cache=str(settings.cache),
        files=settings.readable,
        tasks=settings.tasks,
        device=trainer_device(queue, settings.device),
        threads=settings.threads,
        compile=settings.compile,
        checkpoint_seconds=settings.checkpoint_seconds,
        small_model_bytes=settings.small_model_bytes,
    )
