"""What was measured on this machine before: a small JSON file for each shape of jobs, under the cache folder.

Whoever finds none, or one that he cannot read, measures himself; so a file may go at any time.
"""

import hashlib
import json
import logging
import platform
from functools import cache
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs import store
from jobs.data import cache_folder
from jobs.devices import describe
from jobs.forward import Mode

logger = logging.getLogger(__name__)


class Found(BaseModel):
    """A file's content."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    of: str  # the `key` it was found for
    mode: Mode
    size: int = Field(ge=1)


def key(shape: str, device: torch.device) -> str:
    """All that the speed of a pack depends on: the shape of its jobs, torch, the processor or GPU, and threads."""
    return json.dumps([shape, torch.__version__, processor(), describe(device), torch.get_num_threads()])


@cache
def processor() -> str:
    """What the machine computes with besides a GPU; such as "AMD EPYC 9B14 AVX512"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def recall(key: str) -> Found | None:
    """What was found for this key; None where nothing was, or the file is damaged or another's."""
    try:
        found = Found.model_validate_json(_path(key).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.of == key else None


def keep(found: Found) -> None:
    """For other processes; one that cannot write is none the worse for it."""
    try:
        store.replace(_path(found.of), found.model_dump_json().encode())
    except OSError as error:
        logger.debug("measured sizes of packs are not kept: %s", error)


def _path(key: str) -> Path:
    return cache_folder() / "packs" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
