"""Tasks on images: their parameters and facts."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from jobs.catalogue import classifiers
from jobs.catalogue.task import Task
from jobs.errors import did_you_mean
from jobs.params import BatchSize, Dropout, Hidden, LearningRate, TrainingParams
from jobs.spec import Objective

Channels = Annotated[int, Field(ge=1, le=4096)]
CHANNELS = "of the 3 x 3 convolutions, one after the other"
Init = Annotated[Literal["default", "he", "xavier"], Field(description="weights at the start; default: torch's own")]


class Augmentation(TrainingParams):
    """How pictures are changed at random while a network learns from them."""

    flip: bool = Field(False, description="mirror left to right, half of the time")
    rotation: float = Field(0.0, ge=0, le=180, description="turn by up to ± this many degrees")
    translation: float = Field(0.0, ge=0, le=0.5, description="move by up to ± this part of the side")
    color: float = Field(0.0, ge=0, le=1, description="brightness, contrast, saturation times 1 ± up to this")


class MnistParams(Augmentation):
    lr: LearningRate = 0.001
    batch_size: BatchSize = 64
    model: Literal["mlp", "cnn"] = Field("mlp", description="multilayer perceptron, or convolutions before it")
    hidden: Hidden = [500]
    # After four poolings of 28 pixels one is left.
    channels: list[Channels] = Field([16, 32], min_length=1, max_length=4, description=CHANNELS)
    dropout: Dropout = 0.0
    batch_norm: bool = Field(False, description="batch normalisation after each hidden layer's product")
    init: Init = "default"


class CatsDogsParams(Augmentation):
    lr: LearningRate = 0.0001
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = Field("rmsprop", description="torch.optim's class")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="of the network's products and sums; weights and losses stay in float32"
    )
    image_size: int = Field(180, ge=16, le=1024, description="pixels of a side, to which a picture is squeezed")
    channels: list[Channels] = Field([32, 64, 128, 256, 256], min_length=1, max_length=10, description=CHANNELS)
    dropout: Dropout = 0.0
    init: Init = "he"
    flip: bool = Field(True, description="mirror left to right, half of the time")
    rotation: float = Field(10.0, ge=0, le=180, description="turn by up to ± this many degrees")
    translation: float = Field(0.2, ge=0, le=0.5, description="move by up to ± this part of the side")


NETWORKS = list(dict.fromkeys(["cnn", "resnet18", *classifiers.NAMES]))


def known(name: str) -> str:
    """A network for `image_folder`."""
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}{did_you_mean(name, NETWORKS)}")
    return name


class ImageFolderParams(Augmentation):
    """A network on the user's own pictures, a folder for each class."""

    data: str | None = Field(None, description="path of a folder with a folder of pictures for each class")
    fingerprint: str | None = Field(None, description="sha256 of the folder, filled at submission")
    lr: LearningRate = 0.001
    image_size: int = Field(128, ge=8, le=1024, description="pixels of a side, to which a picture is squeezed")
    gray: bool = Field(False, description="pictures are made gray; else they have colours")
    model: Annotated[str, AfterValidator(known)] = Field(
        "cnn",
        description="cnn, resnet18, or any other classifier of torchvision",
        json_schema_extra={"enum": [*NETWORKS]},
    )
    pretrained: str | None = Field(
        None, description="of torchvision's: hub for its own weights, or a .safetensors or .pth file; null: none"
    )
    pretrained_fingerprint: str | None = Field(None, description="sha256 of that file, filled at submission")
    channels: list[Channels] = Field(
        [32, 64, 128, 256], min_length=1, max_length=10, description=f"{CHANNELS}; of cnn only"
    )
    dropout: Dropout = 0.0


ACCURACY = Objective(metric="val_accuracy", mode="max")

TASKS: tuple[Task, ...] = (
    Task(
        name="mnist",
        summary="70,000 handwritten digits of 28 x 28 pixels, 10 classes (classification)",
        params=MnistParams,
        metrics=("accuracy", "f1"),
        objective=ACCURACY,
        epochs=5,
        module="jobs.tasks.mnist",
        data=("mnist",),
    ),
    Task(
        name="cats_dogs",
        summary="photos of cats and dogs, 1,000 of each to learn from (binary classification)",
        params=CatsDogsParams,
        metrics=("accuracy", "f1", "roc_auc"),
        objective=ACCURACY,
        epochs=40,
        module="jobs.tasks.cats_dogs",
        data=("cats_dogs",),
    ),
    Task(
        name="image_folder",
        summary="your own pictures, a folder for each class (classification)",
        params=ImageFolderParams,
        metrics=("accuracy", "f1", "roc_auc"),
        objective=ACCURACY,
        epochs=20,
        module="jobs.tasks.image_folder",
        prepare="jobs.images.folder",
        fixed_only=("data", "fingerprint", "pretrained", "pretrained_fingerprint"),
    ),
)
