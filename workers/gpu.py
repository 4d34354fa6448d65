"""The GPU of a slot: whether a failure is its, and not the job's."""

import re

from jobs.spec import Failure
from jobs.states import FailureReason
from workers import devices

# How a failure of a CUDA call reads in what an exception says.
_OF_CUDA = re.compile(r"\b(CUDA|cuDNN|CUBLAS|CUFFT|NVML|NCCL)(_STATUS)?\b|AcceleratorError|ECC error", re.IGNORECASE)


class Gpu:
    """One GPU, or a part of one, that a slot's trainers compute on."""

    def __init__(self, name: str, *, shared: bool = False) -> None:
        """
        Args:
            name: as CUDA_VISIBLE_DEVICES names it.
            shared: other slots of the worker are on it: it may be full of their jobs.
        """
        self.name, self._shared = name, shared

    def suspected(self, failure: Failure) -> bool:
        """Whether it may have caused this failure, or what fails may have left the trainer without it."""
        if failure.reason in (FailureReason.OUT_OF_MEMORY, FailureReason.CRASHED):
            return True
        return failure.reason is FailureReason.ERROR and bool(_OF_CUDA.search(failure.error))

    def trouble(self) -> str | None:
        """Why it cannot be used, now that no trainer of the slot is on it; None: it can."""
        found = devices.trouble(self.name, memory=not self._shared)
        return f"GPU {self.name}: {found}" if found else None
