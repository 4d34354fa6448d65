"""What a file with a task of one's own imports. Loads no torch; see docs/adding-a-task.md."""

from pydantic import Field

from jobs.own import OwnTask
from jobs.params import BatchSize, Dropout, Hidden, LearningRate, MlpParams, RegressionParams, Schedule, TrainingParams

__all__ = [
    "BatchSize",
    "Dropout",
    "Field",
    "Hidden",
    "LearningRate",
    "MlpParams",
    "OwnTask",
    "RegressionParams",
    "Schedule",
    "TrainingParams",
]
