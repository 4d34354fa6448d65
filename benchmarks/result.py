"""What a benchmark found: one line of its table each, kept with the machine and the versions it was found on.

Standard library only: `benchmarks.gpu` is carried to machines that have little more than torch.
"""

import argparse
import json
import os
import platform
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
PACKAGES = ("torch", "numpy", "scikit-learn", "joblib", "sqlalchemy", "psycopg", "celery", "redis", "optuna", "ray")
HEADERS = ("case", "value", "baseline", "ratio", "to reach", "")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One figure, and what it is compared with."""

    benchmark: str  # the module that measured it, without "benchmarks.": "iris_grid"
    case: str  # what was measured: "Gridyard, two slots, after start-up"
    value: float
    unit: str  # of value and baseline: "jobs/s", "ms", "MB"
    baseline: float | None = None  # the same of what it is compared with, measured in the same run
    ratio: float | None = None  # how many times as good as the baseline: above 1 is better
    bound: str = ""  # what the issue wants reached, in words: "≥ 20 times"
    met: bool | None = None  # whether it was; None: there is no bound
    note: str = ""  # what the reader must know to judge the figure


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark; `publish` reads its `--docs`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--docs", action="store_true", help="also put the table into docs/performance.md, and its .json")
    return made


def publish(results: Iterable[Result], given: argparse.Namespace, folder: Path = DOCS) -> None:
    """Print the table, line by line as the figures come; with `--docs` put it in its place there as well."""
    before = machine()  # the load before ours
    found: list[Result] = []
    for line in table(_noted(results, found)):
        print(line, flush=True)
    if given.docs:
        for benchmark in dict.fromkeys(result.benchmark for result in found):
            _keep(benchmark, [result for result in found if result.benchmark == benchmark], before, folder)


def _noted(results: Iterable[Result], found: list[Result]) -> Iterator[Result]:
    for result in results:
        found.append(result)
        yield result


def table(results: Iterable[Result]) -> Iterator[str]:
    """The lines of a Markdown table; a result's note stands beside its case."""
    yield f"| {' | '.join(HEADERS)} |"
    yield f"|{'---|' * len(HEADERS)}"
    for result in results:
        case = f"{result.case} ({result.note})" if result.note else result.case
        ratio = "" if result.ratio is None else f"{number(result.ratio)} ×"
        baseline = "" if result.baseline is None else f"{number(result.baseline)} {result.unit}"
        verdict = {True: "met", False: "**missed**", None: ""}[result.met]
        cells = (case, f"{number(result.value)} {result.unit}", baseline, ratio, result.bound, verdict)
        yield f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Three digits that count, without an exponent where a reader would not use one."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _keep(benchmark: str, results: Sequence[Result], machine: dict[str, Any], folder: Path) -> None:
    """Put the results in the place of those of an earlier run, in performance.json and performance.md."""
    record = {
        "command": _command(benchmark),
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine,
        "versions": versions(),
        "results": [asdict(result) for result in results],
    }
    folder.mkdir(exist_ok=True)
    path, document = folder / "performance.json", folder / "performance.md"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    text = json.dumps({**kept, benchmark: record}, indent=1, ensure_ascii=False, sort_keys=True)
    path.write_text(f"{text}\n", encoding="utf-8")
    before = document.read_text(encoding="utf-8") if document.exists() else ""
    document.write_text(refresh(before, benchmark, _section(record, results)), encoding="utf-8")


def refresh(document: str, benchmark: str, section: str) -> str:
    """The document with this text between the benchmark's markers, which stand at its end if they are not there yet."""
    begin, end = f"<!-- begin {benchmark} -->", f"<!-- end {benchmark} -->"
    if begin not in document or end not in document:
        document = f"{document}\n{begin}\n{end}\n"
    head, rest = document.split(begin, 1)
    _, tail = rest.split(end, 1)
    return f"{head}{begin}\n{section}\n{end}{tail}"


def _section(record: dict[str, Any], results: Sequence[Result]) -> str:
    told, found = record["machine"], record["versions"]
    where = f"{told['cpu']}, {told['cores']} cores, {told['memory_gb']} GB, load before {told['load']}"
    names = ("python", "torch", *(name for name in ("optuna", "ray") if name in found))
    with_what = ", ".join(f"{name} {found[name]}" for name in names if name in found)
    line = f"{record['measured']}, commit {found['commit']}; {where}; {with_what}."
    return "\n".join([f"    {record['command']}", "", *table(results), "", line])


def _command(benchmark: str) -> str:
    arguments = [argument for argument in sys.argv[1:] if argument != "--docs"]
    environment = Path(sys.prefix)
    python = f"{environment.name}/bin/python" if environment.parent == CHECKOUT else "python"
    return shlex.join([python, "-m", f"benchmarks.{benchmark}", *arguments])


def machine() -> dict[str, Any]:
    """What it was measured on: processor, cores that we may use, memory, the load of others."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "os": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),  # processes that wanted to run, mean of the last minute
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def versions() -> dict[str, str]:
    """Of Python, of this checkout and of what matters for speed, as far as it is installed."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "commit": _commit()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The checkout's commit; "+" when there are changes beside it."""
    told = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
