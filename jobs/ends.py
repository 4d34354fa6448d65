"""How a job ends: its result, or why there is none."""

import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from jobs import artifact, environment
from jobs.errors import InputError
from jobs.generation import Generation
from jobs.history import History
from jobs.memory import out_of_memory
from jobs.pack import Pack
from jobs.row import Row
from jobs.spec import Answer, Assignment, Failure, Json, Outcome, Stopped, TrainResult
from jobs.states import FailureReason
from jobs.store import Store, best_path
from jobs.urls import masked

T = TypeVar("T")


def unfinished(row: Row, answer: Answer) -> Outcome | None:
    """The end of a job that is not finished; None where it is, or goes on."""
    # Stop, because nobody wants the job any more?
    if answer in (Answer.CANCELLED, Answer.CLAIM_LOST):
        return Stopped(job=row.spec.job, answer=answer, epoch=row.epoch)

    # Stop, because it diverged? A checkpoint of that would only diverge again.
    if row.diverged is not None:
        wider = ", or precision: bfloat16" if row.params.precision == "float16" else ""
        error = f"{row.diverged} was not finite in epoch {row.epoch}; try a smaller lr or clip_norm{wider}"
        return Failure(job=row.spec.job, reason=FailureReason.DIVERGED, error=error, epoch=row.epoch)
    return None


def tested(pack: Pack, places: Sequence[int]) -> list[dict[str, float] | Failure]:
    """The metrics of the test parts of these rows; together, or where that goes wrong each for itself."""
    try:
        return [*pack.test(places)]
    except Exception:  # of one of them: it is to fail alone
        rows = [pack.rows[place] for place in places]
        return [
            guarded(row.assignment, row.epoch, lambda place=place: pack.test([place])[0])  # type: ignore[misc]
            for row, place in zip(rows, places, strict=True)
        ]


def result(pack: Pack, place: int, test: dict[str, float], store: Store, small_model_bytes: int) -> TrainResult:
    """What a row has come to, with its best weights."""
    row = pack.rows[place]
    best = row.best
    assert best is not None  # an epoch that did not diverge has a best
    pack.bind_best(place)
    content = artifact.dump(row.problem.model, row.spec)
    return TrainResult(
        job=row.spec.job,
        score=best.metrics[row.spec.objective.metric],
        metrics={name: value for name, value in best.metrics.items() if name != "lr"} | test,
        best_epoch=best.epoch,
        epochs=row.epoch,
        seconds=sum(entry.seconds for entry in row.history),
        history=History.of(row.history),
        environment={
            **environment.record(pack.device),
            **row.facts(),
            "pack": {"jobs": row.together, "mode": pack.mode.value},
        },
        best=artifact.keep(content, store, _path(row.assignment), small_model_bytes),
        samples=row.write(),
        resumed_from=row.resumed_from,
    )


def written(generation: Generation, store: Store, small_model_bytes: int) -> TrainResult:
    """What a job has come to that wrote texts."""
    best = generation.best
    assert best is not None  # it has had its epoch
    content = artifact.dump(generation.problem.model, generation.spec)
    facts: Json = generation.facts()
    return TrainResult(
        job=generation.spec.job,
        score=best.metrics[generation.spec.objective.metric],
        metrics=best.metrics,
        best_epoch=1,
        epochs=1,
        seconds=generation.history[0].seconds,
        history=History.of(generation.history),
        environment={**environment.record(generation.device), **facts},
        best=artifact.keep(content, store, _path(generation.assignment), small_model_bytes),
        samples=generation.samples,
    )


def _path(assignment: Assignment) -> str:
    return best_path(assignment.spec.job, assignment.attempt)


def guarded(assignment: Assignment, epoch: int, action: Callable[[], T]) -> T | Failure:
    """The action's result, or the failure of its job."""
    try:
        return action()
    except Exception as raised:  # whatever a task or a library raises must not take the siblings along
        return failed(assignment, epoch, raised)


def failed(assignment: Assignment, epoch: int, raised: Exception) -> Failure:
    """The failure of a job that raised this."""
    reason = FailureReason.OUT_OF_MEMORY if out_of_memory(raised) else FailureReason.ERROR
    if isinstance(raised, InputError):  # the message is for the user, and says all
        error, again = masked(str(raised)), raised.elsewhere
    else:
        error, again = told(raised), True
    return Failure(job=assignment.spec.job, reason=reason, error=error, epoch=epoch, again=again)


def told(error: Exception) -> str:
    """The message first, then the traceback, as text that every database takes: no NUL, no half of a character."""
    message = f"{type(error).__name__}: {error}".removesuffix(": ")
    text = f"{message}\n\n{''.join(traceback.format_exception(error))}"
    return masked(text).replace("\0", "").encode(errors="backslashreplace").decode()
