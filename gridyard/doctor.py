"""Is all as it should be? Each check says what it has found and what to do; one that hangs stops no other."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gridyard.checks import database, machine, people
from gridyard.checks.finding import WARNING, WRONG, Check, Finding, short
from jobs import settings
from jobs.errors import GridyardError
from jobs.settings import Settings
from jobs.urls import masked

SECONDS = 20.0  # for a check
GPU_SECONDS = 90.0  # torch loads for a while


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What all checks have found."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Nothing is wrong; there may be warnings."""
        return all(finding.level != WRONG for finding in self.findings)


def examine(overrides: dict[str, str], advance: Callable[[str], None] = lambda check: None) -> Diagnosis:
    """Check everything that a yard of these settings needs.

    Args:
        advance: called with the name of each check that is done.
    """
    started = time.monotonic()
    try:
        found = settings.load(**overrides)
    except GridyardError as error:
        told = Finding(check="settings", level=WRONG, found=masked(str(error)), do="correct it, then ask again")
        return Diagnosis(findings=[replace(told, seconds=time.monotonic() - started)])
    findings = _run({**BEFORE, **ALONE}, found, advance)
    if any(finding.check == "database" and finding.level == WRONG for finding in findings):
        findings += [
            Finding(check=name, level=WARNING, found="not looked at: the database cannot be used", do="see database")
            for name in AFTER
        ]
    elif database.is_there(found):
        findings += _run(AFTER, found, advance)
    order = {name: place for place, name in enumerate(NAMES)}
    return Diagnosis(findings=sorted(findings, key=lambda finding: order[finding.check]))


BEFORE: dict[str, Check] = {"database": database.reachable}
ALONE: dict[str, Check] = {
    "settings": people.intervals,
    "sqlite": database.sqlite,
    "broker": machine.broker,
    "store": machine.store,
    "data": machine.data,
    "cache": machine.cache,
    "spool": machine.spool,
    "gpu": machine.gpu,
}
AFTER: dict[str, Check] = {  # these need the database
    "clock": database.clock,
    "workers": people.workers,
    "scheduler": people.scheduler,
    "queues": people.queues,
    "sweeps": people.sweeps,
}
FIRST = ["settings", "database", "sqlite", "clock", "broker", "store", "data", "cache", "spool", "gpu"]
NAMES = [*FIRST, *list(AFTER)[1:]]


def _run(checks: dict[str, Check], found: Settings, advance: Callable[[str], None]) -> list[Finding]:
    """All at once, each in a thread that may be left behind."""
    done: queue.SimpleQueue[tuple[str, list[Finding]]] = queue.SimpleQueue()
    started = time.monotonic()
    for name, check in checks.items():
        threading.Thread(
            target=lambda name=name, check=check: done.put((name, _tried(name, check, found))), daemon=True
        ).start()
    waiting, findings = set(checks), list[Finding]()
    while waiting:
        limits = {name: (GPU_SECONDS if name == "gpu" else SECONDS) for name in waiting}
        left = started + min(limits.values()) - time.monotonic()
        try:
            name, told = done.get(timeout=max(left, 0.0))
        except queue.Empty:
            late = {name for name in waiting if time.monotonic() - started >= limits[name]}
            findings += [_hangs(name, limits[name]) for name in sorted(late)]
        else:
            late = {name} & waiting
            findings += told if late else []
        waiting -= late
        for name in late:
            advance(name)
    return findings


def _tried(name: str, check: Check, found: Settings) -> list[Finding]:
    started = time.monotonic()
    try:
        told = list(check(found))
    except Exception as error:  # a check that fails is a finding, too
        text = short(f"{type(error).__name__}: {error}")
        told = [Finding(check=name, level=WRONG, found=text, do="see what it names")]
    seconds = time.monotonic() - started
    return [replace(one, check=name, seconds=round(seconds, 3)) for one in told]


def _hangs(name: str, seconds: float) -> Finding:
    return Finding(
        check=name,
        level=WRONG,
        found=f"no answer within {seconds:g} s",
        do="something that it asks hangs: look at the network, a mount, or the server",
        seconds=seconds,
    )
