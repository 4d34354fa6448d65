"""What was found, for docs/reliability.md and docs/reliability.json."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import result
from tests.chaos import figures
from tests.chaos.run import Order, Verdict


def lines(order: Order, verdict: Verdict) -> Iterator[str]:
    """A run as Markdown."""
    kept = "every promise kept" if not verdict.complaints else f"**{len(verdict.complaints)} complaints**"
    yield f"Seed {order.seed}: {kept}."
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in [*figures.summary(verdict.figures), *verdict.notes.items()]:
        yield f"| {name} | {value} |"
    yield ""
    yield from figures.table(verdict.figures)


def keep(
    name: str, command: str, order: Order, verdict: Verdict, where: dict[str, Any], folder: Path = result.DOCS
) -> None:
    """Put a run in the place of an earlier one of this name.

    Args:
        where: the machine, before the run.
    """
    found = result.versions()
    record: dict[str, Any] = {
        "command": command,
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": where,
        "versions": found,
        "order": asdict(order),
        "figures": asdict(verdict.figures),
        "notes": verdict.notes,
        "complaints": [asdict(complaint) for complaint in verdict.complaints],
    }
    path, document = folder / "reliability.json", folder / "reliability.md"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**kept, name: record}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    told = f"{where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, load before {where['load']}"
    line = f"{record['measured']}, commit {found['commit']}; {told}; python {found['python']}, torch {found['torch']}."
    section = "\n".join([f"    {command}", "", *lines(order, verdict), "", line])
    before = document.read_text(encoding="utf-8") if document.exists() else ""
    document.write_text(result.refresh(before, name, section), encoding="utf-8")
