"""Where a trainer computes."""

import torch

from jobs.errors import SettingsError


def choose(wanted: str) -> torch.device:
    """The device of this setting: "auto" takes cuda, else mps, else cpu.

    Raises:
        SettingsError: this machine has no such device.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise SettingsError(f"device {wanted!r}: this machine has {count} CUDA devices; give auto, or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("device 'mps': this machine has none; give auto, or cpu")
    return device


def describe(device: torch.device) -> str:
    """For the record: "cpu", or "cuda:0 (NVIDIA H200)"."""
    if device.type != "cuda":
        return device.type
    return f"cuda:{device.index or 0} ({torch.cuda.get_device_name(device)})"
