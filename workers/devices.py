"""Which GPUs a worker may use and whether they are well, found without torch: CUDA is first touched in a trainer."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from jobs.errors import InputError

CPU = "cpu"  # the device, and the queue whose trainers compute on it
AUTO = "auto"  # the device that a trainer finds best
CUDA = "cuda"  # a GPU of NVIDIA: rather no trainer than one that computes on the processor

TOOL_SECONDS = 20.0  # for nvidia-smi, which a broken driver lets hang
FULL = 0.95  # of a GPU's memory used by others: no job has room beside them
DRIVER = Path("/proc/driver/nvidia/gpus")
_NAMED = re.compile(r"[0-9]+|GPU-[0-9A-Fa-f-]+|MIG-[0-9A-Za-z/-]+")  # as CUDA_VISIBLE_DEVICES may name a GPU
_LISTED = re.compile(r"^(GPU [0-9]+|  MIG ).*\(UUID: ([^)]+)\)", re.MULTILINE)


def visible_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, if it is set; else those of this machine, by UUID: parts for MIG."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return _listed() if named is None else _named(named)


def _named(setting: str) -> list[str]:
    """As CUDA reads it: what comes after the first name that is none, such as -1, is not seen."""
    gpus: list[str] = []
    for name in setting.split(","):
        if not _NAMED.fullmatch(name.strip()):
            break
        if name.strip() not in gpus:
            gpus.append(name.strip())
    return gpus


def _listed() -> list[str]:
    told = ask("-L")
    if told is None:  # a container may have the driver without its tools
        files = sorted(DRIVER.glob("*/information"))
        found = [re.search(r"GPU UUID:\s*(GPU-[0-9a-f-]+)", file.read_text()) for file in files]
        return [match[1] for match in found if match]
    gpus: list[str] = []
    whole: str | None = None  # a GPU whose parts may follow
    for kind, uuid in _LISTED.findall(told[1]):
        if kind.startswith("GPU"):
            gpus.append(uuid)
            whole = uuid
        else:
            if whole in gpus:  # it is used by its parts only
                gpus.remove(whole)
            gpus.append(uuid)
    return gpus


def trouble(gpu: str, memory: bool = True) -> str | None:
    """Why this GPU cannot be used; None: it can, or nobody can tell.

    Args:
        gpu: as CUDA_VISIBLE_DEVICES names it.
        memory: whether a full one cannot: no trainer of ours is on it.
    """
    if gpu.startswith("MIG-"):  # the tool answers about whole GPUs only
        told = ask("-L")
        return "it is not listed any more" if told is not None and gpu not in told[1] else None
    told = ask("--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits", "-i", gpu)
    if told is None:
        return None
    code, text = told
    numbers = re.fullmatch(r"([0-9]+), ([0-9]+)", text.strip())
    if code != 0 or numbers is None:
        return f"it does not answer: {' '.join(text.split())[:200] or f'nvidia-smi ended with {code}'}"
    used, total = int(numbers[1]), int(numbers[2])
    if memory and used > FULL * total:
        return f"it is full: others use {used:,} of its {total:,} MiB"
    return None


def ask(*arguments: str) -> tuple[int, str] | None:
    """Exit code and output of nvidia-smi; None: there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        asked = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=TOOL_SECONDS)
    except subprocess.TimeoutExpired:
        return -1, f"nvidia-smi has not answered for {TOOL_SECONDS:g} s"
    except OSError as error:
        return -1, f"nvidia-smi: {error}"
    return asked.returncode, asked.stdout + asked.stderr


def trainer_device(queue: str, device: str) -> str:
    """What a trainer is told to compute on: as set, else the processor for the queue "cpu", else what it finds."""
    return CPU if device == AUTO and queue == CPU else device


def slot_devices(queue: str, slots: int | None, device: str = AUTO, per_gpu: int = 1) -> list[str | None]:
    """For each slot the CUDA_VISIBLE_DEVICES of its trainer; None leaves it as it is.

    Slots are dealt out over the GPUs, `per_gpu` for each by default. Where trainers compute on the processor they see
    no GPU, and there are as many as cores by default. A GPU set by number is used by all slots, one by default.

    Raises:
        InputError: slots is not positive.
    """
    if slots is not None and slots < 1:
        raise InputError(f"--slots {slots}: a worker needs at least one slot")
    device = trainer_device(queue, device)
    if device == CPU:
        return [""] * (slots or _cores())
    if device not in (AUTO, CUDA):
        return [None] * (slots or 1)
    gpus = visible_gpus()
    if not gpus:
        return [None] * (slots or (_cores() if device == AUTO else 1))  # with cuda, the trainer says what is missing
    return [gpus[number % len(gpus)] for number in range(slots or len(gpus) * per_gpu)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
