"""Tasks on tables: their parameters and facts."""

from typing import Annotated, Literal

from pydantic import Field

from jobs.catalogue.task import Task
from jobs.params import (
    BatchSize,
    CosineScheduler,
    Dropout,
    Hidden,
    LearningRate,
    MlpParams,
    PlateauScheduler,
    RegressionParams,
    Schedule,
)
from jobs.spec import Objective

Init = Annotated[Literal["default", "he", "xavier"], Field(description="weights at the start; default: torch's own")]
WeightDecay = Annotated[float, Field(ge=0, description="L2 penalty; decoupled with adamw")]
LogTarget = Annotated[bool, Field(description="values are learned as log(1 + value); metrics are in their own unit")]


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


class SineParams(RegressionParams, MlpParams):
    model: Literal["polynomial", "mlp"] = Field("polynomial", description="what fits the points")
    lr: LearningRate = 0.05
    batch_size: BatchSize = 100
    degree: int = Field(3, ge=1, le=9, description="of the polynomial")
    # A constant rate ends in noise around the least squares, and validation then chooses among noise.
    scheduler: Schedule = CosineScheduler(name="cosine")


class MlpRegressionParams(RegressionParams, MlpParams):
    """Values by a multilayer perceptron."""


class CaliforniaHousingParams(MlpRegressionParams):
    hidden: Hidden = [128, 64, 32]
    dropout: Dropout = 0.1
    init: Init = "he"
    lr: LearningRate = 0.003
    batch_size: BatchSize = 128
    weight_decay: WeightDecay = 1e-5
    scheduler: Schedule = PlateauScheduler(name="plateau", patience=5)


class AutoMpgParams(MlpRegressionParams):
    hidden: Hidden = [64, 32, 32]
    model_year: bool = Field(False, description="a seventh fact: cars became thriftier from 1970 to 1982")
    lr: LearningRate = 0.003


class DiamondsParams(MlpRegressionParams):
    hidden: Hidden = [128, 64, 32]
    dropout: Dropout = 0.2
    lr: LearningRate = 0.003
    batch_size: BatchSize = 256
    scheduler: Schedule = CosineScheduler(name="cosine")
    log_target: LogTarget = False


class TableParams(MlpRegressionParams):
    """A multilayer perceptron on the user's own table."""

    data: str | None = Field(None, description="path of a CSV or Parquet file")
    target: str | None = Field(None, description="the column to predict")
    kind: Literal["auto", "classification", "regression"] = Field("auto", description="auto: as the target looks")
    ignore: list[str] = Field([], description="columns that are not to be used")
    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: all classes weigh the same")
    log_target: LogTarget = False
    group: str | None = Field(None, description="column: rows of one value stay in one part of the split")
    time: str | None = Field(None, description="column: the newest rows are for testing, those before for validation")
    fingerprint: str | None = Field(None, description="sha256 of the file, filled at submission")
    lr: LearningRate = 0.003
    hidden: Hidden = [64, 32]


CLASSIFICATION = ("accuracy", "balanced_accuracy", "f1", "roc_auc")
REGRESSION = ("mse", "rmse", "mae", "r2")
ACCURACY = Objective(metric="val_accuracy", mode="max")
R2 = Objective(metric="val_r2", mode="max")

TASKS = (
    Task(
        name="iris",
        summary="150 flowers, 4 measures, 3 species (classification)",
        params=IrisParams,
        metrics=("accuracy", "f1"),
        objective=ACCURACY,
        epochs=100,
        module="jobs.tasks.iris",
    ),
    Task(
        name="breast_cancer",
        summary="569 tumours, 30 measures, malignant or benign (binary classification)",
        params=BreastCancerParams,
        metrics=("accuracy", "f1", "roc_auc"),
        objective=ACCURACY,
        epochs=50,
        module="jobs.tasks.breast_cancer",
    ),
    Task(
        name="digits",
        summary="1,797 handwritten digits of 8 x 8 pixels, 10 classes (classification)",
        params=DigitsParams,
        metrics=("accuracy", "f1"),
        objective=ACCURACY,
        epochs=50,
        module="jobs.tasks.digits",
    ),
    Task(
        name="sine",
        summary="1,000 points of sin x on [-pi, pi], fitted by a polynomial or an MLP (regression)",
        params=SineParams,
        metrics=REGRESSION,
        objective=Objective(metric="val_mse", mode="min"),
        epochs=100,
        module="jobs.tasks.sine",
    ),
    Task(
        name="california_housing",
        summary="20,640 districts, 8 measures, median value of a house in 100,000 USD (regression)",
        params=CaliforniaHousingParams,
        metrics=REGRESSION,
        objective=R2,
        epochs=200,
        module="jobs.tasks.california_housing",
        data=("california_housing",),
    ),
    Task(
        name="auto_mpg",
        summary="392 cars, 6 facts, miles per gallon (regression)",
        params=AutoMpgParams,
        metrics=REGRESSION,
        objective=R2,
        epochs=200,
        module="jobs.tasks.auto_mpg",
        data=("auto_mpg",),
    ),
    Task(
        name="diamonds",
        summary="53,940 diamonds, 9 facts, price in USD (regression)",
        params=DiamondsParams,
        metrics=REGRESSION,
        objective=R2,
        epochs=50,
        module="jobs.tasks.diamonds",
        data=("diamonds",),
    ),
    Task(
        name="table",
        summary="your own CSV or Parquet file, any target column (classification or regression)",
        params=TableParams,
        metrics=(*CLASSIFICATION, *REGRESSION),
        objective=Objective(metric="val_loss", mode="min"),
        epochs=100,
        module="jobs.tasks.table",
        prepare="jobs.survey",
        fixed_only=("data", "target", "kind", "ignore", "group", "time", "fingerprint"),
    ),
)
