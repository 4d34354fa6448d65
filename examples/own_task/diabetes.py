"""A task of one's own, all in this file: how far a diabetes has come within a year, from ten measures of the patient.

442 patients (Efron and others 2004), as scikit-learn has them. The network adds a straight line and a small curve, its
loss is that of a quantile (Koenker and Bassett 1978), by default the median, and what ranks it is the median error.

    cd examples/own_task
    GRIDYARD_TASKS=diabetes gridyard run diabetes.yaml
"""

from functools import cache

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from gridyard.task import Field, OwnTask, TrainingParams


class LineAndCurve(nn.Module):
    """(B, measures) -> (B, 1)."""

    def __init__(self, measures: int, width: int, dropout: float) -> None:
        super().__init__()
        self.line = nn.Linear(measures, 1)
        self.curve = nn.Sequential(nn.Linear(measures, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 1))

    def forward(self, rows: Tensor) -> Tensor:
        return self.line(rows) + self.curve(rows)


def median_error(predictions: Tensor, truth: Tensor) -> Tensor:
    """The error that half of the patients stay below, in the target's unit; lower is better."""
    return (predictions - truth).abs().median()


@cache  # once per process, not once per job
def patients():
    return load_diabetes(as_frame=True, return_X_y=True, scaled=False)  # a frame of ten named columns, and the values


class Diabetes(OwnTask):
    """442 patients, 10 measures, progression after a year (regression)."""

    name = "diabetes"
    kind = "regression"
    epochs = 100
    metrics = {"median_error": ("min", median_error)}
    objective = "val_median_error"

    class Params(TrainingParams):
        width: int = Field(16, ge=1, le=1024, description="neurons of the curve")
        dropout: float = Field(0.0, ge=0, lt=1, description="of the curve's neurons")
        quantile: float = Field(0.5, gt=0, lt=1, description="which the network learns; 0.5: the median")

    def data(self, params, seed):
        return patients()

    def model(self, params, signature):
        return LineAndCurve(len(signature.features), params.width, params.dropout)

    def loss(self, params, outputs, targets):
        short = targets - outputs  # (B, 1), in standard deviations; a value for every sample
        return torch.maximum(params.quantile * short, (params.quantile - 1) * short)
