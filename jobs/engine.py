"""The training engine: one loop for every task. A laptop, a test and a worker call the same function."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from jobs import devices, ends
from jobs.checkpoint import Writer
from jobs.ends import guarded
from jobs.forward import try_compiling
from jobs.generation import Generation
from jobs.hall import Hall
from jobs.pack import Pack
from jobs.spec import Answer, Assignment, EpochReport, Failure, Outcome, Stopped
from jobs.store import Store

# The epoch of every row of a pack, and how many more of its jobs would train along at little cost -> an answer to each.
Report = Callable[[Sequence[EpochReport], int], Sequence[Answer]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a trainer works; none changes a result, but for the last digits by device and threads."""

    device: str = "auto"  # "auto", "cpu", "mps", "cuda", "cuda:1"
    threads: int = 1  # CPU threads
    compile: bool = False  # networks of jobs that train alone
    checkpoint_seconds: float = 2.0  # at least this long between two checkpoints of a job; 0: each epoch
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
) -> Iterator[Outcome]:
    """Train jobs to their ends; yields the outcome of each as it ends.

        while there are jobs:
            those that join become rows, fresh or from their newest `last` checkpoint; rows of one shape are a pack
            for each pack:
                train an epoch of every row, evaluate it on validation data, keep the weights of those at their best
                report
                each row: stop? the answer says so · a loss is not finite · nothing improves or all epochs are done
                checkpoint

    A job that fails leaves its siblings alone. What `report` raises is not caught: its caller is gone.

    Args:
        joining: asked before each round for jobs that join.

    Raises:
        SettingsError: this machine has no such device; see `check`.
    """
    torch.set_num_threads(options.threads)
    hall = Hall(devices.choose(options.device), store, compiles=options.compile)
    writer = Writer(store)
    arriving = list(assignments)
    try:
        while True:
            yield from hall.admit([*arriving, *joining()])
            if not hall.busy:
                return
            arriving = []
            for generation in hall.take_texts():
                yield write(generation, store, options, report)
            for pack in tuple(hall.packs):
                yield from turn(pack, hall, writer, options, report)
            hall.sweep_out()
            save(hall, writer, options)
    finally:
        writer.close()


def turn(pack: Pack, hall: Hall, writer: Writer, options: Options, report: Report) -> Iterator[Outcome]:
    """One epoch of a pack; the outcomes of the rows whose last that was."""
    # Train, evaluate, best?
    failure = None
    try:
        reports = pack.advance()
    except Exception as raised:  # whatever a task or a library raises, in one row of them
        failure = raised
    if failure is not None:
        yield from hall.scatter(pack, failure)
        return

    # Report.
    answers = report(reports, pack.room)

    # Stop?
    left = []
    for outcome in settle(pack, answers, hall.store, writer, options):
        left.append(outcome.job)
        yield outcome
    pack.drop(left)


def save(hall: Hall, writer: Writer, options: Options) -> None:
    """Write the checkpoints of all jobs, if it is time: one clock for all packs, so that none is left out."""
    if hall.packs and writer.due(options.checkpoint_seconds):
        states = [state for pack in hall.packs for state in pack.states()]
        trained = [(row, state) for row, state in states if row.best is not None]
        writer.save(trained, wait=options.checkpoint_seconds == 0)


def settle(pack: Pack, answers: Sequence[Answer], store: Store, writer: Writer, options: Options) -> Iterator[Outcome]:
    """The outcomes of the rows that stop after this epoch."""
    done, given_back = [], []
    for place, (row, answer) in enumerate(zip(pack.rows, answers, strict=True)):
        if (outcome := ends.unfinished(row, answer)) is not None:
            yield outcome
        elif row.done:  # also when it should be given back: what is left takes less than a checkpoint
            done.append(place)
        elif answer is Answer.GIVE_BACK:
            given_back.append((row, pack.state(place)))
    if given_back:
        writer.save(given_back, wait=True)
    for row, _ in given_back:
        yield Stopped(job=row.spec.job, answer=Answer.GIVE_BACK, epoch=row.epoch)
    for place, test in zip(done, ends.tested(pack, done) if done else (), strict=True):
        row = pack.rows[place]
        if isinstance(test, Failure):
            yield test
        else:
            finish = partial(ends.result, pack, place, test, store, options.small_model_bytes)
            yield guarded(row.assignment, row.epoch, finish)


def write(generation: Generation, store: Store, options: Options, report: Report) -> Outcome:
    """The one epoch of a job that writes texts, and its end."""
    entry = guarded(generation.assignment, 0, generation.advance)
    if isinstance(entry, Failure):
        return entry
    (answer,) = report([entry], 0)
    if answer in (Answer.CANCELLED, Answer.CLAIM_LOST):
        return Stopped(job=generation.spec.job, answer=answer, epoch=1)
    return guarded(generation.assignment, 1, partial(ends.written, generation, store, options.small_model_bytes))
