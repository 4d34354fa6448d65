"""Numbers and names as people read them, and the units they are in."""

from collections.abc import Iterable, Mapping
from typing import Any

from db.results import JobDetails
from gridyard.tables import number
from jobs import catalogue

PARTS = ("train", "val", "test")
OURS = "jobs.tasks."  # modules whose losses are known to us
LOSS_UNITS = {"mse": "squared standard deviations of the target", "l1": "standard deviations of the target"}
FIRST = ("accuracy", "r2", "perplexity", "rmse", "mae", "mse", "loss")  # of what a reader looks for


def is_language(task: str) -> bool:
    """Whether its jobs write texts; False where the task is not known here."""
    known = catalogue.get(task)
    return known is not None and "perplexity" in known.metrics


def summary(task: str) -> str:
    """The catalogue's line; "" where the task is not known here."""
    known = catalogue.get(task)
    return known.summary if known else ""


def units(details: JobDetails, unit: str = "") -> dict[str, str]:
    """The unit of each metric that has a known one.

    Args:
        unit: of the target; "" unknown or none.
    """
    found = {"mse": f"{unit}²", "rmse": unit, "mae": unit} if unit else {}
    loss = _loss_unit(details)
    return found | ({"loss": loss} if loss else {})


def _loss_unit(details: JobDetails) -> str:
    task = catalogue.get(details.task)
    if task is None or not task.module.startswith(OURS):
        return ""
    if "perplexity" in task.metrics:
        return "nats per token"
    measured = {name.partition("_")[2] for name in details.metrics or (details.history or [{}])[-1]}
    if "accuracy" in measured:
        return "nats"
    unit = LOSS_UNITS.get(str(details.params.get("loss")), "")
    return unit.replace("the target", "log(1 + target)") if details.params.get("log_target") else unit


def metric_rows(metrics: Mapping[str, float | None]) -> list[tuple[str, list[float | None]]]:
    """("accuracy", [training, validation, test value]) for each metric; what readers look for comes first."""
    names = dict.fromkeys(name.partition("_")[2] for name in metrics if name.partition("_")[0] in PARTS)
    ordered = sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return [(name, [metrics.get(f"{part}_{name}") for part in PARTS]) for name in ordered]


def differing(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names whose values are not the same in all rows, in their first order."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    absent = object()
    return [name for name in names if any(row.get(name, absent) != rows[0].get(name, absent) for row in rows)]


def seconds(value: float | None) -> str:
    """0.52 s, 3 min 20 s, 2 h 5 min."""
    from gridyard.progress import duration

    if value is None:
        return "–"
    return f"{number(float(value))} s" if value < 60 else duration(value)


def value(given: float | None) -> str:
    """Four significant digits; of large numbers all before the point: 1,371,204."""
    if given is not None and 1e4 <= abs(given) < 1e12:
        return f"{given:,.0f}"
    return number(None if given is None else float(given))


def whole(value: Any) -> str:
    """12,345; a dash for nothing."""
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
