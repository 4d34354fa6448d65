"""The training engine: one loop for every task. A laptop, a test and a worker call the same function."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from jobs import checkpoint, devices, ends, pausing
from jobs.ends import guarded
from jobs.forward import try_compiling
from jobs.generation import Generation
from jobs.hall import Hall
from jobs.pack import Pack
from jobs.pausing import Paused
from jobs.spec import Answer, Assignment, EpochReport, Failure, Outcome, Stopped
from jobs.store import Store

# The epoch of every row of a pack, and how many more of its jobs would train along at little cost -> an answer to each.
Report = Callable[[Sequence[EpochReport], int], Sequence[Answer]]

# The jobs that are to stop at the next batch, and how. Asked before each, so it must cost next to nothing.
Wishes = Callable[[], Mapping[int, Answer]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a trainer works; none changes a result, but for the last digits by device and threads."""

    device: str = "auto"  # "auto", "cpu", "mps", "cuda", "cuda:1"
    threads: int = 1  # CPU threads
    compile: bool = False  # networks of jobs that train alone
    checkpoint_seconds: float = 2.0  # at least this long between two checkpoints of a job; 0: after each epoch
    small_model_bytes: int = 1 << 20  # best models up to this size come with the result, others go to the store


def check(options: Options) -> None:
    """Try the device: `train` takes it for granted, and what it raises ends the process that called it.

    Raises:
        SettingsError: this machine has no such device, or it does not work; the message lists those there are.
            Networks are to be compiled, and that does not work.
    """
    device = devices.choose(options.device)
    devices.try_out(device)
    if options.compile:
        try_compiling(device)


def train(
    assignments: Sequence[Assignment],
    *,
    store: Store,
    options: Options,
    report: Report,
    joining: Callable[[], Iterable[Assignment]] = tuple,
    wishes: Wishes = dict,
) -> Iterator[Outcome]:
    """Train jobs to their ends; yields the outcome of each as it ends.

        while there are jobs:
            those that join become rows, fresh or from their newest `last` checkpoint; rows of one shape are a pack
            for each pack:
                train an epoch of every row, evaluate it on validation data, keep the weights of those at their best
                    before each batch: stop? there is a wish · checkpoint? the epoch is long
                report
                each row: stop? the answer says so · a loss is not finite · nothing improves or all epochs are done
                checkpoint

    A job that fails leaves its siblings alone. What `report` raises is not caught: its caller is gone.

    Args:
        joining: asked before each round for jobs that join.
        wishes: asked before each batch for jobs that are to stop there.

    Raises:
        SettingsError: this machine has no such device; see `check`.
    """
    torch.set_num_threads(options.threads)
    hall = Hall(devices.choose(options.device), store, compiles=options.compile)
    training = Training(hall, store, options, report, joining, wishes)
    training.arriving = list(assignments)
    try:
        while True:
            yield from training.admit()
            if not hall.busy:
                return
            for generation in hall.take_texts():
                yield training.write(generation)
            for pack in tuple(hall.packs):
                yield from training.turn(pack)
            hall.sweep_out()
            yield from hall.gather()
            training.save()
    finally:
        training.writer.close()


class Training:
    """The steps of `train`, and what they share."""

    def __init__(
        self,
        hall: Hall,
        store: Store,
        options: Options,
        report: Report,
        joining: Callable[[], Iterable[Assignment]],
        wishes: Wishes,
    ) -> None:
        self.hall, self.store, self.options = hall, store, options
        self.report, self.joining, self.wishes = report, joining, wishes
        self.writer = checkpoint.Writer(store)
        self.arriving: list[Assignment] = []  # to join in the next round
        self.looked = 0.0  # when an epoch began, or was last left to look around, by the monotonic clock
        self.asked = 0  # so often since then

    def admit(self) -> Iterator[Outcome]:
        """Let those join that wait; the outcomes of those that cannot begin, or need not any more."""
        self.arriving += self.joining()
        yield from self._turn_away()
        arriving, self.arriving = self.arriving, []
        yield from self.hall.admit(arriving)

    def _turn_away(self) -> Iterator[Outcome]:
        wanted = self.wishes()
        unwanted = [one.spec.job for one in self.arriving if one.spec.job in wanted]
        self.arriving = [one for one in self.arriving if one.spec.job not in unwanted]
        for job in unwanted:
            yield Stopped(job=job, answer=wanted[job], epoch=0)

    def turn(self, pack: Pack) -> Iterator[Outcome]:
        """One epoch of a pack, or what is left of it; the outcomes of the rows whose last that was."""
        while pack.rows:
            self.looked, self.asked = time.monotonic(), 0
            reports = self._epoch(pack)
            if isinstance(reports, Exception):
                yield from self.hall.scatter(pack, reports)
                return
            if reports is not None:
                break
            yield from self._stop()
            if self.options.checkpoint_seconds:
                self.save()
        else:
            return

        # Report.
        answers = self.report(reports, pack.room) if reports else [Answer.GO_ON] * len(pack.rows)

        # Stop?
        left = []
        for outcome in self._settle(pack, answers):
            left.append(outcome.job)
            yield outcome
        pack.drop(left)

    def _epoch(self, pack: Pack) -> list[EpochReport] | Exception | None:
        """Train, evaluate, best? None: somebody is to stop, or checkpoints are due."""
        try:
            with pausing.heeding(self._pause):
                return [] if pack.done else pack.advance()
        except Paused:
            return None
        except Exception as raised:  # whatever a task or a library raises, in one row of them
            return raised

    def _pause(self) -> bool:
        """Whether to leave an epoch before its next batch."""
        wanted = self.wishes()
        if wanted and self._concerns_us(wanted):
            return True
        seconds = self.options.checkpoint_seconds
        self.asked += 1
        if not seconds or self.asked == 1:  # at least one batch lies between two checkpoints
            return False
        return time.monotonic() - self.looked >= seconds and self.writer.due(seconds)

    def _concerns_us(self, wanted: Mapping[int, Answer]) -> bool:
        """Whether any of them is here, or was about to join."""
        self.arriving += self.joining()
        return not wanted.keys().isdisjoint({*self.hall.jobs, *(one.spec.job for one in self.arriving)})

    def _stop(self) -> Iterator[Outcome]:
        """In the middle of an epoch: the outcomes of all rows that are to stop; the others go on without them."""
        yield from self._turn_away()
        for pack in self.hall.packs:
            leaving = self._wished(pack, range(len(pack.rows)))
            outcomes = list(self._let_go(pack, leaving))
            pack.drop([outcome.job for outcome in outcomes])
            yield from outcomes

    def _wished(self, pack: Pack, places: Iterable[int]) -> dict[int, Answer]:
        """Those of these rows that are to stop."""
        wanted = self.wishes()
        jobs = {place: pack.rows[place].spec.job for place in places}
        return {place: wanted[job] for place, job in jobs.items() if job in wanted}

    def _let_go(self, pack: Pack, leaving: Mapping[int, Answer]) -> Iterator[Stopped]:
        """The outcomes of rows that stop where they are; those that are given back write their checkpoints before."""
        rows = [(pack.rows[place], answer, pack.state(place)) for place, answer in leaving.items()]
        kept = [
            (row, state) for row, answer, state in rows if answer is Answer.GIVE_BACK and checkpoint.worth(row, state)
        ]
        if kept:
            self.writer.save(kept, wait=True)
        for row, answer, state in rows:
            batch = 0 if state.progress is None else state.progress.train.done
            yield Stopped(job=row.spec.job, answer=answer, epoch=row.epoch, batch=batch)

    def save(self) -> None:
        """Write the checkpoints of all jobs, if it is time: one clock for all packs, so that none is left out."""
        seconds = self.options.checkpoint_seconds
        if self.hall.packs and self.writer.due(seconds):
            states = [state for pack in self.hall.packs for state in pack.states()]
            self.writer.save([state for state in states if checkpoint.worth(*state)], wait=seconds == 0)

    def _settle(self, pack: Pack, answers: Sequence[Answer]) -> Iterator[Outcome]:
        """The outcomes of the rows that stop after this epoch."""
        done, given_back = [], {}
        for place, (row, answer) in enumerate(zip(pack.rows, answers, strict=True)):
            if (outcome := ends.unfinished(row, answer)) is not None:
                yield outcome
            elif row.done:  # also when it is to be given back: before its test is a place to stop, too
                done.append(place)
            elif answer is Answer.GIVE_BACK:
                given_back[place] = answer
        yield from self._let_go(pack, given_back)
        yield from self._finish(pack, done)

    def _finish(self, pack: Pack, done: list[int]) -> Iterator[Outcome]:
        """The ends of rows that have had all their epochs. Those that are to stop meanwhile are tested another time."""
        tests = self._tested(pack, done)
        while tests is None:
            leaving = self._wished(pack, done)
            yield from self._let_go(pack, leaving)
            done = [place for place in done if place not in leaving]
            tests = self._tested(pack, done)
        for place, test in zip(done, tests, strict=True):
            yield test if isinstance(test, Failure) else self._result(pack, place, test)

    def _tested(self, pack: Pack, done: Sequence[int]) -> list[dict[str, float] | Failure] | None:
        """None: one of them is to stop."""
        try:
            with pausing.heeding(lambda: bool(self._wished(pack, done))):
                return ends.tested(pack, done) if done else []
        except Paused:
            return None

    def _result(self, pack: Pack, place: int, test: dict[str, float]) -> Outcome:
        row = pack.rows[place]
        finish = partial(ends.result, pack, place, test, self.store, self.options.small_model_bytes)
        try:
            with pausing.heeding(lambda: row.spec.job in self.wishes()):
                return guarded(row.assignment, row.epoch, finish)
        except Paused:
            return next(self._let_go(pack, self._wished(pack, [place])))

    def write(self, generation: Generation) -> Outcome:
        """The one epoch of a job that writes texts, and its end. One that is to stop begins anew elsewhere."""
        job = generation.spec.job
        try:
            with pausing.heeding(lambda: job in self.wishes()):
                pausing.point()
                entry = guarded(generation.assignment, 0, generation.advance)
        except Paused:
            return Stopped(job=job, answer=self.wishes()[job], epoch=0)
        if isinstance(entry, Failure):
            return entry
        (answer,) = self.report([entry], 0)
        if answer in (Answer.CANCELLED, Answer.CLAIM_LOST):
            return Stopped(job=job, answer=answer, epoch=1)
        written = partial(ends.written, generation, self.store, self.options.small_model_bytes)
        return guarded(generation.assignment, 1, written)
