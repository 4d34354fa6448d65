"""What a check has found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jobs.settings import Settings
from jobs.urls import masked

OK, WARNING, WRONG = "ok", "warning", "wrong"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str = ""  # its name
    level: str  # "ok", "warning" or "wrong"
    found: str
    do: str = ""  # what to do about it; empty: nothing
    seconds: float = 0.0  # that the check took


Check = Callable[[Settings], Iterator[Finding]]


def ok(found: str) -> Finding:
    return Finding(level=OK, found=found)


def warning(found: str, do: str) -> Finding:
    return Finding(level=WARNING, found=found, do=do)


def wrong(found: str, do: str) -> Finding:
    return Finding(level=WRONG, found=found, do=do)


def short(told: object) -> str:
    """An error in one line, without passwords."""
    return masked(" ".join(str(told).split()))
