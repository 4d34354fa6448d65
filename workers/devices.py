"""Which GPUs a worker may use, found without torch: CUDA is first touched in a trainer."""

import os
import shutil
import subprocess

from jobs.errors import InputError

CPU = "cpu"  # the device, and the queue whose trainers compute on it
AUTO = "auto"  # the device that a trainer finds best


def visible_gpus() -> list[str]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them; those it names, if it is set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip()]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = subprocess.run([tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return asked.stdout.split() if asked.returncode == 0 else []


def trainer_device(queue: str, device: str) -> str:
    """What a trainer is told to compute on: as set, else the processor for the queue "cpu", else what it finds."""
    return CPU if device == AUTO and queue == CPU else device


def slot_devices(queue: str, slots: int | None, device: str = AUTO) -> list[str | None]:
    """For each slot the CUDA_VISIBLE_DEVICES of its trainer; None leaves it as it is.

    Slots are dealt out over the GPUs, one for each by default. Where trainers compute on the processor they see no GPU,
    and there are as many as cores by default. A device that was set by name is used by all slots, one by default.

    Raises:
        InputError: slots is not positive.
    """
    if slots is not None and slots < 1:
        raise InputError(f"--slots {slots}: a worker needs at least one slot")
    device = trainer_device(queue, device)
    if device == CPU:
        return [""] * (slots or _cores())
    if device != AUTO:
        return [None] * (slots or 1)
    gpus = visible_gpus()
    if not gpus:
        return [None] * (slots or _cores())
    return [gpus[number % len(gpus)] for number in range(slots or len(gpus))]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
