"""Of this machine: the broker and the store as they are reached from it, its folders and its GPUs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gridyard.checks.finding import Finding, ok, short, warning, wrong
from gridyard.sizes import readable
from jobs.errors import StoreError
from jobs.settings import Settings
from jobs.spec import Json
from jobs.store import Store, existing
from jobs.urls import masked
from workers import devices
from workers.spool import BROKEN, Spool

CONNECT_SECONDS = 5.0
SCARCE_BYTES, NO_BYTES = 2 << 30, 100 << 20  # of free disk: soon too little, and too little
TORCH_SECONDS = 80.0
TORCH = """
import json, torch
found = {"version": torch.__version__, "cuda": torch.version.cuda, "gpus": []}
for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    torch.zeros(1, device=f"cuda:{number}")
    free, total = torch.cuda.mem_get_info(number)
    found["gpus"].append({"name": torch.cuda.get_device_name(number), "free": free, "total": total})
print(json.dumps(found))
"""


def broker(settings: Settings) -> Iterator[Finding]:
    if not settings.broker:
        yield ok(f"none: workers look at the table every {settings.look_every:g} s")
        return
    from kombu.connection import Connection

    url = masked(settings.broker)
    try:
        with Connection(settings.broker, connect_timeout=CONNECT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)
    except Exception as error:  # each transport raises its own kinds
        told = short(error)
        found, do = f"{url} does not answer: {told}", "start it, or correct GRIDYARD_BROKER"
        if _is_refusal(error):
            found, do = f"{url} answers and lets us not in: {told}", "correct user and password in GRIDYARD_BROKER"
        yield wrong(found, f"{do}; workers still look at the table every {settings.look_every:g} s")
        return
    yield ok(f"{url} answers")


def _is_refusal(error: BaseException | None) -> bool:
    """Whether a server answered, and did not take these credentials."""
    from amqp.exceptions import AccessRefused
    from redis.exceptions import AuthenticationError, NoPermissionError

    while error is not None:
        if isinstance(error, AccessRefused | AuthenticationError | NoPermissionError):
            return True
        error = error.__cause__ or error.__context__
    return False


def store(settings: Settings) -> Iterator[Finding]:
    try:
        there = Store(settings.store_url)
        there.try_out()
        left = there.free_bytes()
    except StoreError as error:
        yield wrong(
            masked(str(error)), "let GRIDYARD_STORE name a folder or bucket that can be read, written and emptied"
        )
        return
    yield _room(masked(settings.store_url), left)


def _room(place: str, left: int | None) -> Finding:
    if left is None:
        return ok(f"{place}: written, read and removed a file")
    if left < NO_BYTES:
        return wrong(f"{place}: only {readable(left)} are left", "make room: `gridyard clean` shows what can go")
    if left < SCARCE_BYTES:
        return warning(f"{place}: only {readable(left)} are left", "make room: `gridyard clean` shows what can go")
    return ok(f"{place}: written, read and removed a file; {readable(left)} are left")


def data(settings: Settings) -> Iterator[Finding]:
    from jobs.data.sets import SETS

    folder = Path(settings.data)
    if folder.exists() and (not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK)):
        yield wrong(f"{folder} cannot be read", "let GRIDYARD_DATA name a folder that can")
        return
    here = sum(not one.missing(folder / one.folder) for one in SETS.values() if one.files)
    total = sum(bool(one.files) for one in SETS.values())
    told = f"{folder}: {here} of {total} data sets are here"
    if here < total and not _writable(folder):
        yield warning(f"{told}, and nothing can be written there", "`gridyard data get` needs a folder it can write")
    else:
        yield ok(f"{told}; others are fetched when they are needed" if here < total else told)


def cache(settings: Settings) -> Iterator[Finding]:
    folder = Path(settings.cache)
    if not _writable(folder):
        yield wrong(f"{folder} cannot be written", "let GRIDYARD_CACHE name a folder that can, and that has room")
        return
    left = shutil.disk_usage(existing(folder)).free
    if left < SCARCE_BYTES:
        yield warning(f"{folder}: only {readable(left)} are left", "make room: `gridyard clean` shows what can go")
    else:
        yield ok(f"{folder}: {readable(left)} are left")


def spool(settings: Settings) -> Iterator[Finding]:
    folder = settings.spool_folder
    if not _writable(folder):
        yield wrong(
            f"{folder} cannot be written: what ends while the database is away is lost with its worker",
            "let GRIDYARD_SPOOL name a folder of this machine that can, and that outlives its workers",
        )
        return
    waiting = len(Spool(folder).waiting())
    broken = sum(path.name.endswith(BROKEN) for path in folder.iterdir()) if folder.exists() else 0
    if waiting:
        yield warning(
            f"{folder}: ends of attempts that wait here for the database: {waiting}",
            "a worker that runs with this folder records them: `gridyard worker`",
        )
    if broken:
        yield warning(
            f"{folder}: ends of attempts that could not be read: {broken}",
            f"the log of the workers says why; `gridyard clean` removes what ends with {BROKEN}",
        )
    if not waiting and not broken:
        yield ok(f"{folder}: nothing waits here")


def _writable(folder: Path) -> bool:
    there = existing(folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def gpu(settings: Settings) -> Iterator[Finding]:
    seen, found = _smi(), _torch()
    if isinstance(found, str):
        yield wrong(f"torch cannot be used: {found}", "install Gridyard again, or look at the driver of the GPU")
        return
    gpus = found["gpus"]
    if seen and not gpus:
        built = f"CUDA {found['cuda']}" if found["cuda"] else "no CUDA at all"
        yield wrong(
            f"the driver shows {len(seen)} GPUs, torch {found['version']} (built for {built}) uses none",
            "install a torch that fits the driver, or look at CUDA_VISIBLE_DEVICES",
        )
    elif not gpus and settings.device.startswith("cuda"):
        yield wrong(f"GRIDYARD_DEVICE = {settings.device}, and there is no GPU", "unset it, or look at the driver")
    elif not gpus:
        yield ok(f"none; trainers compute on the processor (torch {found['version']})")
    for number, one in enumerate(gpus):
        told = f"{number}: {one['name']}, {readable(one['free'])} of {readable(one['total'])} are free"
        if one["free"] < 0.1 * one["total"]:
            yield warning(told, "`nvidia-smi` shows who uses it; jobs there may run out of memory")
        else:
            yield ok(told)


def _smi() -> list[str]:
    """The GPUs that the driver shows to this process."""
    told = None if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else devices.ask("-L")
    return told[1].splitlines() if told is not None and told[0] == 0 else []


def _torch() -> Json | str:
    """What torch finds, in a process of its own: a driver may hang or crash; or what went wrong."""
    try:
        command = [sys.executable, "-P", "-c", TORCH]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_SECONDS)
    except subprocess.TimeoutExpired:
        return f"it does not answer within {TORCH_SECONDS:g} s"
    if asked.returncode:
        last = asked.stderr.strip().splitlines()[-1:] or [f"exit code {asked.returncode}"]
        return last[0]
    found: Json = json.loads(asked.stdout)
    return found
