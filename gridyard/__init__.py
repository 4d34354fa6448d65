"""Gridyard's Python client: `gridyard.connect()` and what it returns. Importing it loads nothing heavy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gridyard.client import Yard as Yard
    from gridyard.client import connect as connect
    from gridyard.job import Job as Job
    from gridyard.sweep import Sweep as Sweep

__all__ = ["Job", "Sweep", "Yard", "connect"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gridyard import client

    return getattr(client, name)
