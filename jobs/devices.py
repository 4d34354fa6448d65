"""Where a trainer computes."""

import torch

from jobs.errors import SettingsError


def choose(wanted: str) -> torch.device:
    """The device of this setting: "auto" takes the first CUDA device, else mps, else cpu; "cuda" is "cuda:0".

    Raises:
        SettingsError: this machine has no such device; the message lists those there are.
    """
    there = available()
    name = {"auto": there[0], "cuda": "cuda:0"}.get(wanted, wanted)
    if name not in there:
        raise SettingsError(f"device {wanted!r}: this machine has only {', '.join(there)}; give one of these, or auto")
    return torch.device(name)


def available() -> list[str]:
    """The devices of this machine, the fastest kind first."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def try_out(device: torch.device) -> None:
    """Compute one number there.

    Raises:
        SettingsError: that failed, as it does with a broken driver, or a GPU that this build of torch does not know.
    """
    try:
        torch.ones(1, device=device).add(1).item()
    except RuntimeError as error:
        raise SettingsError(f"device '{device}' is there but does not work: {error}; give another one") from error


def describe(device: torch.device) -> str:
    """For the record: "cpu", or "cuda:0 (NVIDIA H200)"."""
    if device.type != "cuda":
        return device.type
    return f"{device} ({torch.cuda.get_device_name(device)})"
