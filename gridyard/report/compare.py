"""Several jobs side by side: what differs, what came out, and their curves over each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db.results import JobDetails
from gridyard.report import facts, texts
from gridyard.tables import number, parameter, table
from jobs.errors import InputError
from jobs.plain import printable
from jobs.spec import Json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gridyard.client import Yard
    from gridyard.report.drawing import Panel

WIDEST = 32  # letters of a value in a terminal
MOST_CURVES = 10  # jobs drawn over each other: so many colors can be told apart


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One of the jobs; its object in `gridyard compare --json`."""

    job: int
    sweep: int
    task: str
    state: str
    params: Json  # every parameter
    differs: list[str]  # parameters that are not the same in all jobs that are compared
    seed: int
    metric: str
    mode: str  # "max" or "min"
    score: float | None
    metrics: dict[str, float | None]  # at the best epoch
    best_epoch: int | None
    epochs: int  # trained so far
    seconds: float | None  # of training, over all attempts
    parameters: int | None  # weights of the network
    samples: list[Json]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Jobs in the order they were given."""

    jobs: list[Compared]
    details: list[JobDetails]

    @property
    def differs(self) -> list[str]:
        """Parameters that are not the same in all jobs."""
        return self.jobs[0].differs

    @property
    def labels(self) -> list[str]:
        """job 3: lr=0.01, seed=1"""
        if len({one.task for one in self.jobs}) > 1:  # then most parameters differ
            return [f"job {one.job}: {one.task}" for one in self.jobs]
        seeds = len({one.seed for one in self.jobs}) > 1
        return [_label(one, with_seed=seeds) for one in self.jobs]

    @property
    def panels(self) -> "list[Panel]":
        """Curves over each other, or bars where jobs have one epoch; of what at least two jobs have."""
        return _curves(self.labels, self.details) if self.is_curved else _bars(self.jobs)

    @property
    def is_curved(self) -> bool:
        """Whether a job has two epochs."""
        return any(len(details.history) > 1 for details in self.details)


def compare(yard: "Yard", jobs: Sequence[int]) -> Comparison:
    """
    Raises:
        NotFound: there is no such job.
        InputError: they are fewer than two, or one is given twice.
    """
    if len(jobs) < 2:
        raise InputError(f"given was {len(jobs)} job; a comparison takes two or more: gridyard compare JOB JOB …")
    twice = [job for place, job in enumerate(jobs) if job in jobs[:place]]
    if twice:
        raise InputError(f"job {twice[0]} is given twice; give each job once")
    details = [yard.job(job).details() for job in jobs]
    differs = facts.differing([one.params for one in details])
    return Comparison(jobs=[_compared(one, differs) for one in details], details=details)


def _compared(details: JobDetails, differs: list[str]) -> Compared:
    same = ("job", "sweep", "task", "state", "params", "seed", "metric", "mode", "score", "metrics", "best_epoch")
    return Compared(
        **{name: getattr(details, name) for name in (*same, "seconds", "samples")},
        differs=differs,
        epochs=details.epochs or details.epoch,
        parameters=details.environment.get("parameters"),
    )


def _label(one: Compared, *, with_seed: bool) -> str:
    given = [f"{name}={parameter(one.params[name])}" for name in one.differs if name in one.params]
    given += [f"seed={one.seed}"] if with_seed else []
    return f"job {one.job}: {', '.join(given)}" if given else f"job {one.job}"


def rows(found: Comparison) -> list[tuple[str, list[str]]]:
    """What the jobs are and came to: a name, and a value of each job, as text."""
    jobs = found.jobs
    made: list[tuple[str, list[str]]] = []
    for name in ("task", "sweep", "state"):
        values = [str(getattr(one, name)) for one in jobs]
        made += [(name, values)] if len(set(values)) > 1 else []
    made += [(name, [_param(one, name) for one in jobs]) for name in found.differs]
    made.append(("seed", [str(one.seed) for one in jobs]))
    names = {(one.metric, one.mode) for one in jobs}
    ranked = [number(one.score) for one in jobs]
    if len(names) == 1:
        made.append((f"score: {jobs[0].metric} ({jobs[0].mode})", ranked))
    else:
        made += [("score", ranked), ("score is", [f"{one.metric} ({one.mode})" for one in jobs])]
    made += [(name, [number(one.metrics.get(name)) for one in jobs]) for name in _metric_names(jobs)]
    made += [(name.replace("_", " "), [facts.whole(getattr(one, name)) for one in jobs]) for name in COUNTS]
    made.append(("time", [facts.seconds(one.seconds) for one in jobs]))
    return [(name, values) for name, values in made if set(values) != {"–"}]


COUNTS = ("best_epoch", "epochs", "parameters")


def _param(one: Compared, name: str) -> str:
    return parameter(one.params[name]) if name in one.params else "–"


def _metric_names(jobs: Sequence[Compared]) -> list[str]:
    """Test and validation values: what was measured on training rows compares nothing."""
    of_all = facts.metric_rows({name: 0.0 for one in jobs for name in one.metrics})
    named = [f"{part}_{name}" for name, _ in of_all for part in ("test", "val")]
    return [name for name in named if any(name in one.metrics for one in jobs)]


def as_text(found: Comparison, columns: int) -> str:
    """A table with a column per job, and below it the texts of language models."""
    heads = ["", *(f"job {one.job}" for one in found.jobs)]
    blocks = [table(heads, [[name, *map(_narrow, values)] for name, values in rows(found)])]
    for prompt, of_jobs in texts.side_by_side(found.details):
        lines = ["\n".join(texts.folded(f'"{prompt}"', columns))]
        for label, details, written in zip(found.labels, found.details, of_jobs, strict=True):
            settings = "" if found.differs else texts.settings(details)
            for one in written:
                told = ", ".join(filter(None, (settings, one.facts)))
                lines += texts.folded(f"  {label}" + (f" ({told})" if told else ""), columns)
                lines += [f"    {line}" for line in texts.folded(one.text, columns - 4)]
        blocks.append("\n".join(lines))
    return printable("\n\n".join(blocks))


def _narrow(value: str) -> str:
    """Its beginning and its end, if it is long: a list of prompts, or a path, would make its whole column as wide."""
    return value if len(value) <= WIDEST else f"{value[: WIDEST // 2]}…{value[1 - WIDEST // 2 :]}"


def flat(found: Comparison) -> list[dict[str, Any]]:
    """One dict per job: job, task, sweep, state, what differs, seed, score, metrics, epochs, seconds, parameters."""
    names = _metric_names(found.jobs)
    return [
        {
            **{name: getattr(one, name) for name in ("job", "task", "sweep", "state")},
            **{name: one.params.get(name) for name in found.differs},
            **{name: getattr(one, name) for name in ("seed", "metric", "score")},
            **{name: one.metrics.get(name) for name in names},
            **{name: getattr(one, name) for name in ("best_epoch", "epochs", "seconds", "parameters")},
        }
        for one in found.jobs
    ]


def _curves(labels: Sequence[str], details: Sequence[JobDetails]) -> "list[Panel]":
    from gridyard.report import curves

    names = dict.fromkeys(name for one in details for epoch in one.history for name in epoch if name[:4] == "val_")
    shared = [name for name in names if sum(any(name in epoch for epoch in one.history) for one in details) > 1]
    return [_overlay(labels, details, name, curves.name_of(name[4:])) for name in shared]


def _overlay(labels: Sequence[str], details: Sequence[JobDetails], name: str, title: str) -> "Panel":
    from gridyard.report import curves
    from gridyard.report.drawing import COLORS, Panel, legend, shown

    drawn = list(zip(COLORS, labels, details, strict=False))[:MOST_CURVES]
    all_units = {facts.units(one).get(name[4:], "") for one in details}
    unit = all_units.pop() if len(all_units) == 1 else "each job in its own unit"

    def draw(axes: "Axes") -> None:
        values: list[float] = []
        for color, label, one in drawn:
            line = curves.series(one.history, name)
            values += [value for value in line if math.isfinite(value)]
            axes.plot([epoch["epoch"] for epoch in one.history], line, color=color, label=shown(label, 64))
            if one.best_epoch is not None and one.best_epoch <= len(line):
                axes.plot(one.best_epoch, line[one.best_epoch - 1], "o", color=color, ms=5)
        curves.scale(axes, values, name[4:])
        curves.epoch_axis(axes)
        axes.set_ylabel(f"{title} ({unit})" if unit else title)
        legend(axes, columns=1)

    few = f"the first {len(drawn)} of {len(labels)} jobs; " if len(drawn) < len(labels) else ""
    note = f"{few}points: best epochs"
    return Panel(title=f"{title} on validation data", draw=draw, height=3.3 + 0.17 * len(drawn), note=note)


def _bars(jobs: Sequence[Compared]) -> "list[Panel]":
    from gridyard.report import curves
    from gridyard.report.drawing import COLORS, Panel

    drawn = list(jobs)[:MOST_CURVES]
    names = [name for name in _metric_names(drawn) if sum(one.metrics.get(name) is not None for one in drawn) > 1]

    def panel(name: str) -> Panel:
        values = [one.metrics.get(name) for one in drawn]

        def draw(axes: "Axes") -> None:
            axes.bar(range(len(drawn)), [math.nan if value is None else value for value in values], color=COLORS)
            axes.set_xticks(range(len(drawn)), [str(one.job) for one in drawn])
            axes.set(xlabel="job", ylabel=curves.name_of(name.partition("_")[2]))

        few = f"the first {len(drawn)} of {len(jobs)} jobs" if len(drawn) < len(jobs) else ""
        return Panel(title=curves.name_of(name.partition("_")[2]), draw=draw, note=few)

    return [panel(name) for name in names]
