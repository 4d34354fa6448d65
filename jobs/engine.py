"""The training engine: one loop for every task. A laptop, a test and a worker call the same function."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar

import torch

from jobs import artifact, checkpoint, devices, environment, tasks
from jobs.errors import InputError
from jobs.generation import Generation
from jobs.problem import Problem
from jobs.randomness import Purpose, drawn_from
from jobs.row import Row, numbers
from jobs.spec import Answer, Assignment, EpochReport, Failure, Outcome, Stopped, TrainResult
from jobs.states import FailureReason
from jobs.store import Store
from jobs.urls import masked

Report = Callable[[EpochReport], Answer]
T = TypeVar("T")
SAVING = 10  # a checkpoint that took a second is followed by ten of training, or large networks would mostly be written


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a trainer works; none changes a result, but for the last digits by device and threads."""

    device: str = "auto"  # "auto", "cpu", "mps", "cuda", "cuda:1"
    threads: int = 1  # CPU threads
    checkpoint_seconds: float = 2.0  # at least this long between two checkpoints of a job; 0: each epoch
    small_model_bytes: int = 1 << 20  # best models up to this size come with the result, others go to the store


def check(options: Options) -> None:
    """Try the device: `train` takes it for granted, and what it raises ends the process that called it.

    Raises:
        SettingsError: this machine has no such device, or it does not work; the message lists those there are.
    """
    devices.try_out(devices.choose(options.device))


def train(assignments: Sequence[Assignment], *, store: Store, options: Options, report: Report) -> Iterator[Outcome]:
    """Train jobs to their ends; yields the outcome of each as it ends.

        rows = every job, fresh or from its newest `last` checkpoint
        while rows:
            for each row, for itself alone:
                train an epoch
                evaluate it on validation data
                best? keep the weights
                report
                stop? the answer says so · the loss is not finite · nothing improves or all epochs are done
                checkpoint

    A job that fails leaves its siblings alone. What `report` raises is not caught: its caller is gone.

    Raises:
        SettingsError: this machine has no such device; see `check`.
    """
    torch.set_num_threads(options.threads)
    device = devices.choose(options.device)
    rows: list[Row | Generation] = []
    for assignment in assignments:
        row = guarded(assignment, 0, partial(start, assignment, device, store))
        if isinstance(row, Failure):
            yield row
        else:
            rows.append(row)
    while rows:
        for row in tuple(rows):
            outcome = turn(row, store, options, report)
            if outcome is not None:
                rows.remove(row)
                yield outcome


def start(assignment: Assignment, device: torch.device, store: Store) -> Row | Generation:
    row = fresh(assignment, device)
    if isinstance(row, Row):
        checkpoint.resume(row, store)
    return row


def fresh(assignment: Assignment, device: torch.device) -> Row | Generation:
    """The job before its first epoch."""
    spec = assignment.spec
    module, params = tasks.load(spec.task, spec.params)
    with drawn_from(spec.seed, Purpose.INIT):
        built = module.build(params, spec.seed)
    return Row(assignment, device, built) if isinstance(built, Problem) else Generation(assignment, device, built)


def turn(row: Row | Generation, store: Store, options: Options, report: Report) -> Outcome | None:
    """One epoch of one job; its outcome, if that was its last."""
    # Train, evaluate, best?
    entry = guarded(row.assignment, row.epoch, row.advance)
    if isinstance(entry, Failure):
        return entry

    # Report.
    answer = report(entry)

    # Stop? Checkpoint.
    return guarded(row.assignment, row.epoch, partial(settle, row, answer, store, options))


def settle(row: Row | Generation, answer: Answer, store: Store, options: Options) -> Outcome | None:
    """What follows from an epoch and the answer to its report."""
    # Stop, because nobody wants the job any more?
    if answer in (Answer.CANCELLED, Answer.CLAIM_LOST):
        return Stopped(job=row.spec.job, answer=answer, epoch=row.epoch)

    # Stop, because it diverged? A checkpoint of that would only diverge again.
    if row.diverged is not None:
        error = f"{row.diverged} was not finite in epoch {row.epoch}; try a smaller lr or clip_norm"
        return Failure(job=row.spec.job, reason=FailureReason.DIVERGED, error=error, epoch=row.epoch)

    # Stop, because it is at its end? Also when it should be given back: what is left takes less than a checkpoint.
    if row.done:
        return finish(row, store, options)

    assert isinstance(row, Row)  # the other has one epoch
    # Checkpoint: before it is given back, and now and then.
    if answer is Answer.GIVE_BACK:
        checkpoint.save(row, store)
        return Stopped(job=row.spec.job, answer=answer, epoch=row.epoch)
    pause = options.checkpoint_seconds and max(options.checkpoint_seconds, SAVING * row.saving_seconds)
    if monotonic() - row.saved_at >= pause:
        checkpoint.save(row, store)
    return None


def finish(row: Row | Generation, store: Store, options: Options) -> TrainResult:
    """Test the best weights, once, and pack them up."""
    best = row.best
    assert best is not None  # an epoch that did not diverge has a best
    tested = numbers({"test": row.test()})
    path = f"{row.spec.job}/{row.assignment.attempt}/best.safetensors"
    content = artifact.dump(row.problem.model, row.spec)
    return TrainResult(
        job=row.spec.job,
        score=best.metrics[row.spec.objective.metric],
        metrics={name: value for name, value in best.metrics.items() if name != "lr"} | tested,
        best_epoch=best.epoch,
        epochs=row.epoch,
        seconds=sum(entry.seconds for entry in row.history),
        history=row.history,
        environment={**environment.record(row.device), **row.facts()},
        best=artifact.keep(content, store, path, options.small_model_bytes),
        samples=row.write(),
        resumed_from=row.resumed_from,
    )


def guarded(assignment: Assignment, epoch: int, action: Callable[[], T]) -> T | Failure:
    """The action's result, or the failure of its job."""
    try:
        return action()
    except InputError as wrong:  # the message is for the user, and says all
        error, again = masked(str(wrong)), wrong.elsewhere
    except Exception as raised:  # whatever a task or a library raises must not take the siblings along
        error, again = told(raised), True
    return Failure(job=assignment.spec.job, reason=FailureReason.ERROR, error=error, epoch=epoch, again=again)


def told(error: Exception) -> str:
    """The message first, then the traceback, as text that every database takes: no NUL, no half of a character."""
    message = f"{type(error).__name__}: {error}".removesuffix(": ")
    text = f"{message}\n\n{''.join(traceback.format_exception(error))}"
    return masked(text).replace("\0", "").encode(errors="backslashreplace").decode()
