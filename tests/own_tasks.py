"""A task of a user's own, as the text of its file, and the folder in which tests write such files."""

import sys
from pathlib import Path

import pytest

from jobs import catalogue

CLOUDS = '''
import numpy as np
import torch
from torch import nn
from gridyard.task import Field, MlpParams, OwnTask, TrainingParams

class Clouds(OwnTask):
    """Three clouds of points."""

    name = "clouds"
    kind = "classification"
    epochs = 4
    metrics = {"worst": ("max", lambda predictions, truth: min(
        (predictions.argmax(1)[truth == one] == one).double().mean().item() for one in truth.unique()))}

    class Params(TrainingParams):
        width: int = Field(8, ge=1, le=64, description="neurons")

    def data(self, params, seed):
        labels = np.arange(90) % 3
        return np.random.default_rng(0).normal(labels[:, None], 0.4, (90, 2)), labels

    def model(self, params, signature):
        return nn.Sequential(nn.Linear(2, params.width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(params.width, 3))

    def loss(self, params, outputs, targets):
        return 2 * super().loss(params, outputs, targets)
'''


def changed(*lines: str) -> str:
    """The module with these lines at the end of its class, where they replace what stands above."""
    return CLOUDS + "".join(f"    {line}\n" for line in lines)


class OwnFolder:
    """The current folder of a test, where modules with tasks are written."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self._monkeypatch = path, monkeypatch
        self._before = set(sys.modules)
        # Bytecode is known by second and size: of a module that is written anew at once it would be the old one's.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def __call__(self, module: str, source: str = CLOUDS, *, named: str | None = None) -> None:
        """Write a module; GRIDYARD_TASKS names it, unless `named` is given."""
        (self.path / f"{module}.py").write_text(source)
        self._monkeypatch.setenv("GRIDYARD_TASKS", module if named is None else named)
        self.forget()

    def forget(self) -> None:
        """The next look at the catalogue loads every module anew."""
        catalogue.own_tasks.cache_clear()
        catalogue.tasks.cache_clear()
        for name in set(sys.modules) - self._before:
            if str(self.path) in str(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]
