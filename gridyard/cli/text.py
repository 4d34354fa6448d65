"""What the reading commands print for people."""

import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from db.results import FREED, JobDetails
from db.retention import Models
from db.status import SweepStatus
from gridyard.cli.common import counted
from gridyard.report import facts, texts
from gridyard.sizes import readable
from gridyard.tables import WIDTH, number, parameter, table
from jobs.plain import printable
from jobs.states import FailureReason, JobState, SweepState
from jobs.urls import masked

if TYPE_CHECKING:
    from gridyard.client import Yard
    from gridyard.usage import Disk

EPOCHS = 10  # last epochs of a job that are shown
APART = ("notes", "pack")  # of the environment, shown elsewhere


def sweeps(found: Sequence[SweepStatus], models: Mapping[int, Models]) -> str:
    """A table with one sweep per line."""
    if not found:
        return "no sweeps yet; submit one with: gridyard run GRID.yaml"
    # States that no job is in take no space, but for those that everybody looks for.
    looked_for = (JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED)
    states = [state.value for state in JobState if state in looked_for or any(one.jobs[state] for one in found)]
    steered = [name for name in ("priority", "max_running") if any(getattr(one, name) for one in found)]
    headers = ["sweep", "name", "task", "state", "jobs", *states, "best", "models", "workers", *steered]
    rows = [
        [
            *(str(one.sweep), one.name, one.task, _state(one), str(one.total)),
            *(str(one.jobs[state]) for state in states),
            *(number(one.best), _models(models[one.sweep]), str(one.workers)),
            *(str(getattr(one, name)) if getattr(one, name) is not None else "" for name in steered),
        ]
        for one in found
    ]
    failed = [f"sweep {one.sweep}: {reasons(one)}" for one in found if one.reasons]
    return "\n".join([table(headers, rows), *failed])


def reasons(status: SweepStatus) -> str:
    """3 failed: 2 diverged, 1 crashed."""
    named = ", ".join(f"{number} {reason}" for reason, number in status.reasons.items())
    return f"{status.jobs[JobState.FAILED]} failed: {named}"


def unattended(found: Sequence[SweepStatus]) -> list[str]:
    """A line for each queue of which jobs of these sweeps are ready, and no worker gave a sign of life lately."""
    waiting = [one for one in found if one.state == SweepState.OPEN and one.jobs[JobState.READY] and not one.workers]
    ready: Counter[str] = Counter()
    for one in waiting:
        ready[one.queue] += one.jobs[JobState.READY]
    return [
        f"{counted(number, 'job')} of queue {queue} {'is' if number == 1 else 'are'} ready, and no worker is there; "
        f"start one: gridyard worker --queue {queue}"
        for queue, number in ready.items()
    ]


def _state(one: SweepStatus) -> str:
    """Its state, and what it is about to be."""
    if one.halting and one.jobs[JobState.RUNNING]:
        return f"{one.state}, stopping"
    return f"{one.state}, extending" if one.extending else one.state


def _models(models: Models) -> str:
    """How many a sweep keeps, and what they take."""
    if not models.kept:
        return "0"
    more = ">" if models.more else ""
    return f"{more}{models.kept}, {more}{readable(models.bytes)}"


def disk(found: "Disk", yard: "Yard") -> str:
    """What the database and the store take."""
    store = found.note
    if found.store_bytes is not None and found.store_files is not None:
        least = "at least " if found.store_more else ""
        counted = f"{least}{readable(found.store_bytes)} in {found.store_files} files"
        store = f"{counted}, {found.note}" if found.note else counted
    pairs = [
        ("database", f"{readable(found.database_bytes)}  {yard.database}"),
        ("store", f"{store}  {masked(yard.settings.store_url)}"),
        ("as of", _moment(found.measured_at)),
    ]
    return _pairs(pairs)


def job(details: JobDetails) -> str:
    """A job's story in paragraphs."""
    blocks = [
        _pairs(_facts(details)),
        "parameters\n" + _pairs([(name, parameter(value)) for name, value in details.params.items()]),
    ]
    if details.metrics:
        blocks.append(f"metrics at epoch {details.best_epoch}, the best\n" + _metrics(details))
    if details.samples:
        blocks.append("texts\n" + texts.for_terminal(texts.samples(details), columns()))
    if details.attempts:
        blocks.append("attempts\n" + _attempts(details))
    if details.history:
        blocks.append(f"last epochs of {len(details.history)}\n" + _history(details.history[-EPOCHS:]))
    if notes := details.environment.get("notes"):
        blocks.append("notes on the data\n" + "\n".join(f"- {note}" for note in notes))
    if details.environment:
        environment = [(name, parameter(value)) for name, value in details.environment.items() if name not in APART]
        blocks.append("environment\n" + _pairs(environment))
    if details.artifacts:
        files = [
            (one.name, f"{one.size} bytes {_place(one.place, details.job)}, sha256 {one.sha256}")
            for one in details.artifacts
        ]
        blocks.append("artifacts\n" + _pairs(files))
    if details.error:
        reason = "" if details.reason in (None, FailureReason.ERROR) else f" ({details.reason})"
        blocks.append(f"error{reason}\n{details.error}")
    return printable("\n\n".join(blocks))


def _place(place: str, job: int) -> str:
    if place == FREED:
        return f"that were freed: its sweep keeps better ones; `gridyard repeat {job}` trains it again"
    return f"in {place}"


def _facts(details: JobDetails) -> list[tuple[str, str]]:
    story: dict[str, Any] = {
        "job": f"{details.job} of sweep {details.sweep}: {details.task}, cell {details.cell}, seed {details.seed}",
        "state": details.state,
        details.metric: details.score,
        "epochs": details.epochs or details.epoch,
        "seconds": details.seconds,
        "parameters": facts.whole(details.environment["parameters"]) if "parameters" in details.environment else None,
        "pack": _pack(details.environment.get("pack")),
        "worker": details.worker,
        "finished": details.finished_at and _moment(details.finished_at),
    }
    return [(name, number(value)) for name, value in story.items() if value is not None]


def _pack(pack: dict[str, Any] | None) -> str | None:
    """How many jobs it trained with; None of a job that trained nothing, or by an older version."""
    if pack is None:
        return None
    if pack["mode"] == "compiled":
        return "alone, compiled"
    return "alone" if pack["jobs"] == 1 else f"one of {pack['jobs']} jobs, {pack['mode']}"


def _metrics(details: JobDetails) -> str:
    """A line per metric: on training, validation and test rows."""
    rows = [[name, *map(number, values)] for name, values in facts.metric_rows(details.metrics)]
    return table(["metric", "training", "validation", "test"], rows)


def columns() -> int:
    """Of the terminal, else as many as a leaderboard has."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH


def _attempts(details: JobDetails) -> str:
    """A line per attempt; below, what went wrong in each, by the first line of its error."""
    rows = [
        [
            *(str(one.attempt), one.outcome or "running"),
            *(_moment(one.started_at), _moment(one.finished_at)),
            *(number(one.resumed_from), number(one.epoch), one.worker),
        ]
        for one in details.attempts
    ]
    headers = ["attempt", "outcome", "started", "ended", "from epoch", "to epoch", "worker"]
    errors = [
        f"attempt {one.attempt}, {one.outcome}: {_first_line(one.error)}" for one in details.attempts if one.error
    ]
    return "\n".join([table(headers, rows), *errors])


def _history(epochs: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    return table(names, [[number(epoch.get(name)) for name in names] for epoch in epochs])


def tasks(described: Sequence[dict[str, Any]]) -> str:
    """A table with one task per line; where they come from, if some are the user's own."""
    rows = [
        [one["name"], one["summary"], f"{one['objective']['metric']} ({one['objective']['mode']})", one["source"]]
        for one in described
    ]
    columns = 4 if len({one["source"] for one in described}) > 1 else 3
    return table(["task", "description", "objective", "source"][:columns], [row[:columns] for row in rows])


def task(described: dict[str, Any]) -> str:
    """A task and the table of its parameters."""
    head = [
        ("task", f"{described['name']}: {described['summary']}"),
        ("source", described["source"]),
        ("metrics", ", ".join([*(["loss"] if described["trains"] else []), *described["metrics"]])),
        ("objective", f"{described['objective']['metric']} ({described['objective']['mode']})"),
        ("epochs", str(described["epochs"])),
    ]
    columns = ("name", "default", "allowed", "description")  # what is allowed names the type
    rows = [
        [one["name"], parameter(one["default"]), one["allowed"], one["description"]] for one in described["parameters"]
    ]
    return f"{_pairs(head)}\n\n{table(columns, rows)}"


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in pairs), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in pairs)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _moment(moment: datetime | None) -> str:
    return number(None) if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")
