"""Rows of a leaderboard as flat columns, and tables as text: legible in a terminal, a pipe and a CSV file."""

import csv
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

from db.leaderboard import Ranked, RankedCell
from jobs import catalogue
from jobs.plain import dumped, printable

WIDTH = 100  # columns of text that a leaderboard should fit in
WIDEST = 10_000  # columns of text; no table is cut below that
LEFT = {  # headers of columns of words; numbers stand to the right
    *("", "name", "task", "state", "description", "objective", "type", "default", "allowed"),
    *("source", "worker", "outcome", "started", "ended", "metric"),
    *("what", "where", "licence", "kind"),
}

# Columns of sentences, and how narrow they may become on a terminal.
FOLDED = {"description": 20, "allowed": 20, "what": 20, "licence": 12}

ROUNDING = 1e-12  # of a mean: a smaller spread comes of floating-point numbers, not of seeds
STD = "_std"  # ends the name of a metric's spread

ALWAYS = {  # columns whatever the rows are
    "job": ("rank", "job", "score", "seed", "best_epoch", "epochs", "seconds"),
    "cell": ("rank", "cell", "mean", "std", "n"),
}

Rows = Sequence[Ranked] | Sequence[RankedCell]


def flat(rows: Rows) -> list[dict[str, Any]]:
    """One dict per row: rank, job or cell, score, the parameters that vary, seed, every metric, epochs, seconds.

    A cell has each metric's mean over its seeds and beside it the sample standard deviation: "test_loss_std".
    """
    params, several = _varying(rows), len({row.sweep for row in rows}) > 1
    metrics = sorted({name for row in rows for name in row.metrics}, key=_metric_order)
    return [
        {
            **_head(row),
            **({"sweep": row.sweep, "task": row.task, "metric": row.metric} if several else {}),
            **{name: row.params.get(name) for name in params},
            **({"seed": row.seed} if isinstance(row, Ranked) else {}),
            **_metrics(row, metrics),
            **_tail(row),
        }
        for row in rows
    ]


def _head(row: Ranked | RankedCell) -> dict[str, Any]:
    if isinstance(row, Ranked):
        return {"rank": row.rank, "job": row.job, "score": row.score}
    return {"rank": row.rank, "cell": row.cell, "mean": row.mean, "std": row.std, "n": row.n}


def _tail(row: Ranked | RankedCell) -> dict[str, Any]:
    if isinstance(row, Ranked):
        return {"best_epoch": row.best_epoch, "epochs": row.epochs, "seconds": row.seconds}
    return {}


def _metrics(row: Ranked | RankedCell, names: Sequence[str]) -> dict[str, float | None]:
    if isinstance(row, Ranked):
        return {name: row.metrics.get(name) for name in names}
    spreads = ((name, row.metrics.get(name), row.metrics_std.get(name)) for name in names)
    return {key: value for name, mean, std in spreads for key, value in ((name, mean), (f"{name}{STD}", std))}


def _varying(rows: Rows) -> list[str]:
    """The parameters that cells set, and those that differ between the rows; in the order of their tasks."""
    names = {name for row in rows for name in row.varied}
    names |= {name for row in rows for name, value in row.params.items() if value != rows[0].params.get(name)}
    order = [name for task in catalogue.BUILT_IN for name in task.params.model_fields]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _metric_order(name: str) -> tuple[int, str]:
    """Test values first: they are what a reader compares with others."""
    kind = name.partition("_")[0]
    return (("test", "val", "train").index(kind) if kind in ("test", "val", "train") else 3, name)


def write_csv(rows: Rows, file: IO[str], *, by: str = "job") -> None:
    """The flat rows with a header; lists and objects as JSON, what is not finite or not there as nothing.

    Without rows there is the header of the columns that every leaderboard by "job" or "cell" has.
    """
    records = [{printable(name): _plain(value) for name, value in record.items()} for record in flat(rows)]
    writer = csv.DictWriter(file, records[0].keys() if records else ALWAYS[by], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)


def _plain(value: Any) -> Any:
    if isinstance(value, list | dict):
        return dumped(value)
    return printable(value) if isinstance(value, str) else value


def leaderboard(rows: Rows) -> str:
    """The leaderboard as text, as wide as the terminal, else WIDTH, as long as its parameters let it."""
    records = flat(rows)
    objective = "test_" + rows[0].metric.removeprefix("val_")
    tests = [name for name in records[0] if name.startswith("test_") and not name.endswith(STD)]
    if isinstance(rows[0], RankedCell):
        spreads = {"mean ± std": ("mean", "std")} | {name: (name, f"{name}{STD}") for name in tests}
        records = [record | {name: _spread(record, *of) for name, of in spreads.items()} for record in records]
    tests.sort(key=lambda name: name != objective)  # the objective's own first: the last ones go when space is short
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    while True:
        text = _as_text(records, _varying(rows), tests)
        if not tests or max(map(len, text.splitlines())) <= width:
            return text
        tests.pop()


def _spread(record: dict[str, Any], mean: str, std: str) -> str:
    """The spread with two significant digits: no more of them mean anything. What a sum's rounding leaves is none."""
    value, spread = record[mean], record[std]
    if spread is not None and spread < ROUNDING * abs(value):
        spread = 0.0
    return number(value) if spread is None else f"{number(value)} ± {spread:#.2g}".rstrip(".")


def _as_text(records: list[dict[str, Any]], params: list[str], tests: list[str]) -> str:
    head = ("rank", "job", "cell", "score", "mean ± std", "n", "sweep", "task", "metric")
    wanted = (*head, *params, "seed", *tests, "epochs", "seconds")
    names = [name for name in wanted if name in records[0]]
    shown = {name: parameter if name in params else number for name in names}
    return table(names, [[shown[name](record[name]) for name in names] for record in records])


def number(value: Any) -> str:
    """Four significant digits of a number with fractions; everything else as it is."""
    if value is None:
        return "–"
    return f"{value:#.4g}".rstrip(".") if isinstance(value, float) else str(value)


def parameter(value: Any) -> str:
    """A parameter exactly, and short: 0.003, [16,8], step(step_size=30, gamma=0.5)."""
    if isinstance(value, dict) and "name" in value:
        rest = ", ".join(f"{name}={parameter(inner)}" for name, inner in value.items() if name != "name")
        return f"{value['name']}({rest})"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text, as wide as their contents: a table is never cut. On a terminal, sentences are folded to fit."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    lines = [[printable(cell) for cell in line] for line in (headers, *rows)]
    for header in lines[0]:
        grid.add_column(Text(header), justify="left" if header in LEFT else "right", no_wrap=header not in FOLDED)
    for row in lines[1:]:
        grid.add_row(*(Text(cell) for cell in row))
    console = Console(width=_table_width(lines), color_system=None)
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines() if line.strip())


def _table_width(lines: list[list[str]]) -> int:
    """Columns of text: the terminal's, or more where that is too narrow for what cannot be folded."""
    if not sys.stdout.isatty():
        return WIDEST
    widths = [FOLDED.get(column[0]) or max(map(len, column)) for column in zip(*lines, strict=True)]
    return max(shutil.get_terminal_size().columns, sum(widths) + 2 * len(widths))
