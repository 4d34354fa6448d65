"""Whether a disturbed yard kept its promises. Each complaint names the jobs it is about."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.audit import Change, Records
from tests.chaos.checkpoints import Checkpoints
from tests.chaos.sweeps import Came, Cell
from tests.chaos.timeline import FINAL, RUNNING, SUCCEEDED, Timeline

SHOWN = 5  # complaints of a kind


@dataclass(frozen=True, kw_only=True)
class Complaint:
    """A promise that was not kept."""

    text: str
    job: int | None = None


def of_results(
    undisturbed: Mapping[Cell, tuple[int, Came]], disturbed: Mapping[Cell, tuple[int, Came]]
) -> Iterator[Complaint]:
    """Each cell and seed has its result, and that of an undisturbed run to the last bit."""
    for cell in undisturbed.keys() - disturbed.keys():
        yield Complaint(text=f"missing: {_told(cell)}")
    for cell in disturbed.keys() - undisturbed.keys():
        yield Complaint(text=f"nobody wanted: {_told(cell)}", job=disturbed[cell][0])
    for cell in undisturbed.keys() & disturbed.keys():
        (_, wanted), (job, came) = undisturbed[cell], disturbed[cell]
        if came.state not in FINAL:
            yield Complaint(text=f"{_told(cell)} is {came.state}, not final", job=job)
        elif different := came.differences(wanted):
            yield Complaint(text=f"{_told(cell)} differs from an undisturbed run: {'; '.join(different)}", job=job)


def _told(cell: Cell) -> str:
    return f"cell {cell[1]}, seed {cell[2]} of {cell[0]!r}"


Delivered = Collection[tuple[int, int, str]]  # (job, attempt, member that delivered what another had left)
FROM_THE_SPOOL = re.compile(r"job (\d+): attempt (\d+), from the spool")


def deliveries(logs: Iterable[Path]) -> set[tuple[int, int, str]]:
    """What members say that they delivered from the spool: the one exception to "only who holds it writes"."""
    found = ((log.stem, FROM_THE_SPOOL.findall(log.read_text(errors="replace"))) for log in logs)
    return {(int(job), int(attempt), member) for member, lines in found for job, attempt in lines}


def of_record(timeline: Timeline, records: Records, delivered: Delivered = ()) -> Iterator[Complaint]:
    """By the record of the triggers: who wrote each result, and as which attempt."""
    succeeded = Counter(
        row["job_id"] for row in records.rows("SELECT job_id FROM attempts WHERE outcome = 'succeeded'")
    )
    for job, changes in timeline.by_job.items():
        yield from _of_job(job, changes, delivered)
        results = sum(change.state == SUCCEEDED for change in changes)
        if results > 1 or succeeded[job] != results:
            told = f"{results} results were written, {succeeded[job]} attempts succeeded"
            yield Complaint(text=told, job=job)
    holders = {(c.job, c.attempt): c.writer for found in timeline.by_job.values() for c in found if _is_claim(c)}
    for table, what in (("chaos_models", "a model"), ("chaos_epochs", "epochs")):
        for row in records.rows(f"SELECT DISTINCT job, attempt, writer FROM {table}"):
            holder = holders.get((row["job"], row["attempt"]), "nobody")
            if not _may_write(row["writer"], holder, row["job"], row["attempt"], delivered):
                told = f"{row['writer']} wrote {what} as attempt {row['attempt']}, which {holder} holds"
                yield Complaint(text=told, job=row["job"])
    models = Counter(row["job"] for row in records.rows("SELECT job FROM chaos_models"))
    for job in timeline.by_job:
        if models[job] != succeeded[job]:
            yield Complaint(text=f"{models[job]} models were written, {succeeded[job]} attempts succeeded", job=job)


def _may_write(writer: str | None, holder: str | None, job: int, attempt: int, delivered: Delivered) -> bool:
    return writer == holder or (job, attempt, str(writer).split("/")[0]) in delivered


def _is_claim(change: Change) -> bool:
    return change.state == RUNNING and change.old_state != RUNNING


def _of_job(job: int, changes: Sequence[Change], delivered: Delivered = ()) -> Iterator[Complaint]:
    """One job's row, change by change: nobody writes but who holds it, and what is final stays so."""
    holder: str | None = None  # the session that claimed it
    attempt = 0
    for before, change in zip([None, *changes], changes, strict=False):
        if before is not None and before.state != change.old_state:
            yield Complaint(text=f"the record has a gap: {before.state}, then {change.old_state}", job=job)
        if change.state == "deleted" or (change.old_state in FINAL and change.state == change.old_state):
            yield Complaint(text=f"its final row was changed by {change.writer}: {change}", job=job)
        if _is_claim(change):
            if change.attempt != attempt + 1:
                yield Complaint(text=f"attempt {change.attempt} follows attempt {attempt}", job=job)
            holder, attempt = change.writer, change.attempt
        elif change.attempt != attempt:
            yield Complaint(text=f"its attempt became {change.attempt} without a claim", job=job)
        elif (
            change.old_state == RUNNING
            and change.state in (RUNNING, SUCCEEDED)
            and not _may_write(change.writer, holder, job, attempt, delivered)
        ):
            told = f"{change.writer} wrote as attempt {attempt}, which {holder} holds"
            yield Complaint(text=told, job=job)


def of_checkpoints(timeline: Timeline, records: Records, checkpoints: Checkpoints) -> Iterator[Complaint]:
    """Each attempt went on from the newest checkpoint that was there when it began."""
    for text in checkpoints.damaged:
        yield Complaint(text=text)
    for (job, attempt), resumed in starts(records).items():
        (held,) = [held for held in timeline.held if (held.job, held.attempt) == (job, attempt)]
        there = checkpoints.newest(job, attempt, held.since)
        if there is not None and resumed < there.epoch:
            told = f"attempt {attempt} began at epoch {resumed}; attempt {there.attempt} had left a checkpoint of epoch"
            yield Complaint(text=f"{told} {there.epoch}, {held.since - there.at:.1f} s before", job=job)


def starts(records: Records) -> dict[tuple[int, int], int]:
    """(job, attempt) -> the epoch it went on from, of attempts that came as far as to tell an epoch."""
    told = records.rows("SELECT job, attempt, min(first_epoch) - 1 AS epoch FROM chaos_epochs GROUP BY job, attempt")
    found = {(row["job"], row["attempt"]): row["epoch"] for row in told}
    # An attempt that succeeded has put its whole history in the place of what it had told.
    ended = records.rows("SELECT job_id, attempt, resumed_from FROM attempts WHERE outcome = 'succeeded'")
    return found | {(row["job_id"], row["attempt"]): row["resumed_from"] or 0 for row in ended}


def of_models(records: Records, store: Path) -> Iterator[Complaint]:
    """Each best model lies where the row says, under its own attempt, and is the one that was recorded."""
    query = "SELECT m.job_id, m.attempt, m.sha256, m.content, m.path, j.attempt AS last FROM models m"
    for row in records.rows(f"{query} JOIN jobs j ON j.id = m.job_id"):
        job, path = row["job_id"], row["path"]
        if path is not None and not path.startswith(f"{job}/{row['attempt']}/"):
            yield Complaint(text=f"its model lies at {path}, which is not of attempt {row['attempt']}", job=job)
        elif path is not None and not (store / path).exists():
            yield Complaint(text=f"its model is not at {path}", job=job)
        else:
            content = row["content"] if path is None else (store / path).read_bytes()
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                yield Complaint(text="its model is not the one that was recorded", job=job)
        if row["attempt"] != row["last"]:
            yield Complaint(text=f"its model is of attempt {row['attempt']}, its row of {row['last']}", job=job)


TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(.*)")
FORBIDDEN = ("database is locked", "deadlock detected")


def of_logs(logs: Iterable[Path]) -> Iterator[Complaint]:
    """Nothing in a log that a user should not have to see: a traceback, a lock that was given up."""
    for log in logs:
        text = log.read_text(errors="replace")
        for last, times in Counter(TRACEBACK.findall(text)).items():
            yield Complaint(text=f"{log.name}: a traceback, {times} times: {last}")
        for words in FORBIDDEN:
            if times := text.count(words):
                yield Complaint(text=f"{log.name}: {words!r}, {times} times")
