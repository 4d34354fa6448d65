"""A task whose jobs end in the way that their parameter says."""

import ctypes
import os
import resource
import signal
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gridyard.task import Field, OwnTask, TrainingParams

ROOM = 64 << 20  # bytes that a job may take more


class Misbehaving(OwnTask):
    """Ends as it is told."""

    name = "misbehaving"
    kind = "classification"
    epochs = 2

    class Params(TrainingParams):
        how: Literal[
            "well", "raises", "diverges", "torch", "python", "segfaults", "is killed", "dawdles", "eats", "kills"
        ] = Field("well", description="how it ends")

    def data(self, params, seed):
        labels = np.arange(60) % 3
        return np.random.default_rng(0).normal(labels[:, None], 0.4, (60, 2)), labels

    def model(self, params, signature):
        return torch.nn.Linear(2, 3)

    def loss(self, params, outputs, targets):
        getattr(self, "_" + params.how.replace(" ", "_"))()
        factor = float("nan") if params.how == "diverges" else 1.0
        return factor * super().loss(params, outputs, targets)

    def _well(self):
        pass

    _diverges = _well

    def _raises(self):
        raise KeyError("what it had to say")

    def _torch(self):
        with limited():
            torch.empty(1 << 34)

    def _python(self):
        with limited():
            bytearray(1 << 34)

    def _segfaults(self):
        ctypes.string_at(0)

    def _is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _dawdles(self):
        time.sleep(0.2)

    def _eats(self):
        """More than its control group may have: pages that are there, not only promised."""
        kept = []
        while True:
            kept.append(torch.ones(8 << 20))

    def _kills(self):
        """Its worker, when it is told to."""
        while not Path("go").exists():
            time.sleep(0.05)
        os.kill(os.getppid(), signal.SIGKILL)


class limited:
    """No more address space than there is in use, and a little."""

    def __enter__(self):
        self._before = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, self._before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_AS, self._before)
