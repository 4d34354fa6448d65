"""Tasks on tables: their parameters and facts."""

from pydantic import Field

from jobs.catalogue.task import Task
from jobs.params import (
    BatchSize,
    CosineScheduler,
    Dropout,
    Hidden,
    LearningRate,
    MlpParams,
    RegressionParams,
    Schedule,
)
from jobs.spec import Objective


class IrisParams(MlpParams):
    hidden: Hidden = [16, 8]
    dropout: Dropout = 0.2
    batch_size: BatchSize = 16


class BreastCancerParams(MlpParams):
    hidden: Hidden = [64, 32]
    lr: LearningRate = 0.001


class DigitsParams(MlpParams):
    hidden: Hidden = [128, 64]
    lr: LearningRate = 0.003


class SineParams(RegressionParams):
    lr: LearningRate = 0.05
    batch_size: BatchSize = 100
    degree: int = Field(3, ge=1, le=9, description="of the polynomial")
    # A constant rate ends in noise around the least squares, and validation then chooses among noise.
    scheduler: Schedule = CosineScheduler(name="cosine")


ACCURACY = Objective(metric="val_accuracy", mode="max")
REGRESSION = ("mse", "rmse", "mae", "r2")

TASKS = (
    Task(
        name="iris",
        summary="150 flowers, 4 measures, 3 species (classification)",
        params=IrisParams,
        metrics=("accuracy",),
        objective=ACCURACY,
        epochs=100,
        module="jobs.tasks.iris",
    ),
    Task(
        name="breast_cancer",
        summary="569 tumours, 30 measures, malignant or benign (binary classification)",
        params=BreastCancerParams,
        metrics=("accuracy",),
        objective=ACCURACY,
        epochs=50,
        module="jobs.tasks.breast_cancer",
    ),
    Task(
        name="digits",
        summary="1,797 handwritten digits of 8 x 8 pixels, 10 classes (classification)",
        params=DigitsParams,
        metrics=("accuracy",),
        objective=ACCURACY,
        epochs=50,
        module="jobs.tasks.digits",
    ),
    Task(
        name="sine",
        summary="1,000 points of sin x on [-pi, pi], fitted by a polynomial (regression)",
        params=SineParams,
        metrics=REGRESSION,
        objective=Objective(metric="val_mse", mode="min"),
        epochs=100,
        module="jobs.tasks.sine",
    ),
)
