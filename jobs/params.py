"""The parameters of trainings, their types, defaults and ranges. Torch-free: the CLI and the scheduler
validate with it.

A task's parameters are one pydantic model. Rules stand at single fields, never across fields: the values of a grid are
checked one by one, so a grid of a million cells is validated as fast as one of ten.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=1, le=65_536)]  # neurons of one layer: two of the widest take 17 GB

# The rules of parameters whose defaults differ between tasks.
LearningRate = Annotated[float, Field(gt=0, le=100, description="learning rate")]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000, description="samples of one step")]
Hidden = Annotated[list[Width], Field(max_length=32, description="sizes of the hidden layers")]
Dropout = Annotated[float, Field(ge=0, lt=1, description="after each hidden layer")]


class Params(BaseModel):
    """Base of all parameter models: unknown names are refused, and "0.1" is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StepScheduler(Params):
    """lr is multiplied by gamma every step_size epochs (torch StepLR)."""

    name: Literal["step"]
    step_size: Count = Field(30, description="epochs between two reductions")
    gamma: float = Field(0.5, gt=0, le=1, description="factor of one reduction")


class CosineScheduler(Params):
    """lr follows half a cosine from lr down to min_lr over all epochs (torch CosineAnnealingLR)."""

    name: Literal["cosine"]
    min_lr: float = Field(0.0, ge=0, description="learning rate at the end")


class PlateauScheduler(Params):
    """lr is multiplied by factor when val_loss has not improved for patience epochs (torch ReduceLROnPlateau)."""

    name: Literal["plateau"]
    factor: float = Field(0.5, gt=0, lt=1, description="factor of one reduction")
    patience: int = Field(10, ge=0, le=1_000_000, description="epochs without improvement before a reduction")
    min_lr: float = Field(0.0, ge=0, description="never below this learning rate")


class OneCycleScheduler(Params):
    """lr rises to lr and falls to almost nothing, step by step (torch OneCycleLR, momentum not cycled)."""

    name: Literal["one_cycle"]
    pct_start: float = Field(0.3, gt=0, lt=1, description="part of all steps in which lr rises")
    div_factor: float = Field(25.0, gt=1, description="first learning rate = lr / div_factor")
    final_div_factor: float = Field(1e4, gt=1, description="last learning rate = first / final_div_factor")


Scheduler = Annotated[
    StepScheduler | CosineScheduler | PlateauScheduler | OneCycleScheduler, Field(discriminator="name")
]
Schedule = Annotated[Scheduler | None, Field(description="learning rate over time; null: constant")]


FOLLOWS_EPOCHS = frozenset({"cosine", "one_cycle"})  # their learning rates depend on how many epochs there are in all


def follows_epochs(params: Mapping[str, Any]) -> bool:
    """Whether training more epochs with these parameters gives other numbers from the first epoch on."""
    schedule = params.get("scheduler")
    return isinstance(schedule, Mapping) and schedule.get("name") in FOLLOWS_EPOCHS


class TrainingParams(Params):
    """What every training understands."""

    # What jobs that train together may differ in: numbers of their own rows. All else makes the shape of a pack.
    rowwise: ClassVar[frozenset[str]] = frozenset(
        {"lr", "momentum", "weight_decay", "clip_norm", "scheduler", "warmup_epochs", "dropout"}
    )

    lr: LearningRate = 0.01
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "adamax", "nadam", "radam"] = Field(
        "adam", description="torch.optim's class; the last four train in packs too, but not as fast"
    )
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd and rmsprop; the others ignore it")
    nesterov: bool = Field(False, description="Nesterov momentum of sgd; needs momentum > 0, else ignored")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty; decoupled with adamw")
    clip_norm: float | None = Field(None, gt=0, description="gradients are scaled down to this norm; null: never")
    batch_size: BatchSize = 32
    scheduler: Schedule = None
    warmup_epochs: int = Field(
        0, ge=0, le=1_000_000, description="epochs in which lr rises linearly from 0, before the scheduler"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the network's products and sums; weights and losses stay in float32"
    )
    split_seed: int | None = Field(None, ge=0, description="seed of the data split; null: the job's own seed")


class MlpParams(TrainingParams):
    """A multilayer perceptron on a table."""

    hidden: Hidden = [32, 16]
    activation: Literal["relu", "tanh", "gelu", "silu"] = Field("relu", description="after each hidden layer")
    dropout: Dropout = 0.0
    batch_norm: bool = Field(False, description="batch normalisation after each hidden layer's matrix")
    init: Literal["default", "he", "xavier"] = Field(
        "default", description="weights at the start; default: torch's own"
    )


class RegressionParams(TrainingParams):
    """Values, learned standardised: a loss of 1 is one standard deviation, or its square."""

    loss: Literal["mse", "l1", "huber"] = Field("mse", description="what is minimised")
    huber_delta: float = Field(1.0, gt=0, description="huber is linear beyond this error, in standard deviations")
