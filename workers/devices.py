"""Which GPUs a worker may use, found without torch: CUDA is first touched in a trainer."""

import os
import shutil
import subprocess

from jobs.errors import InputError

CPU = "cpu"  # the queue whose trainers compute on the processor


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


def slot_devices(queue: str, slots: int | None) -> list[str | None]:
    """For each slot the CUDA_VISIBLE_DEVICES of its trainer.

    On a queue other than "cpu" slots are dealt out over the GPUs, one for each by default. On "cpu", and on a machine
    without GPUs, trainers see none; by default there are as many as cores.

    Raises:
        InputError: slots is not positive.
    """
    if slots is not None and slots < 1:
        raise InputError(f"--slots {slots}: a worker needs at least one slot")
    gpus = [] if queue == CPU else visible_gpus()
    if not gpus:
        return ["" if queue == CPU else None] * (slots or _cores())
    return [gpus[number % len(gpus)] for number in range(slots or len(gpus))]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
