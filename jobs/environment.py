"""What a result depends on besides its job: recorded with it, so that it can be judged and repeated."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from jobs.devices import describe
from jobs.spec import Json

PACKAGES = ("torch", "torchvision", "transformers", "numpy", "scikit-learn")


def record(device: torch.device) -> Json:
    """Device and versions."""
    return {
        **software(),
        "device": describe(device),
        "threads": torch.get_num_threads(),
    }


@cache
def software() -> Json:
    """Versions of this process: they cannot change while it lives."""
    packages = {name.replace("-", "_"): installed(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        **packages,
        "platform": f"{platform.system()} {platform.machine()}",
        "gridyard": installed("gridyard"),
        "commit": commit(Path(__file__).parents[1]),
    }


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit(checkout: Path) -> str | None:
    """The commit of a checkout, read from .git without starting git, or of an image, from its file; else None."""
    git, of_image = checkout / ".git", checkout / "COMMIT"
    try:
        if of_image.exists():
            return of_image.read_text().strip() or None
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).exists():
            return (git / name).read_text().strip()
        lines = (git / "packed-refs").read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)
