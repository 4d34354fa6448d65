"""Cats and dogs (Asirra, the photos of Kaggle's Dogs vs. Cats): which of the two a photo shows."""

import re
from functools import cache
from pathlib import Path

import numpy as np
from torch import nn

from jobs import data, logits, sources, splits
from jobs.catalogue.images import CatsDogsParams
from jobs.errors import InputError
from jobs.images import networks
from jobs.images import problem as images
from jobs.images.decode import decoded
from jobs.images.problem import Pictures
from jobs.problem import Model, Problem, Signature

CLASSES = ("cat", "dog")
TRAIN, VALIDATION = 1_000, 500  # of each class; the rest is for testing


@cache
def photos(folder: Path, size: int) -> Pictures:
    """All photos under train/, named cat.7.jpg and dog.7.jpg, by class and number.

    Raises:
        InputError: a photo cannot be read, or a class has too few.
    """
    numbered = [(found[1], int(found[2]), path) for path in folder.glob("train/*.jpg") if (found := matched(path))]
    files = [path for *_, path in sorted(numbered)]
    labels = np.array([CLASSES.index(kind) for kind, *_ in sorted(numbered)], np.int64)
    for label, name in enumerate(CLASSES):
        if (count := int((labels == label).sum())) <= TRAIN + VALIDATION:
            raise InputError(f"{folder}: {count} photos named {name}.N.jpg; more than {TRAIN + VALIDATION} are needed")
    fingerprint = sources.fingerprint(folder / "train")
    return Pictures(
        pixels=decoded("cats_dogs", fingerprint, files, size, 3),
        labels=labels,
        classes=CLASSES,
        fingerprint=fingerprint,
        names=[file.name for file in files],
    )


def matched(path: Path) -> re.Match[str] | None:
    return re.fullmatch(r"(cat|dog)\.(\d{1,9})\.jpg", path.name)


def model(params: CatsDogsParams, signature: Signature) -> Model:
    """Convolutions, max-pooled after each but the last, and one linear layer to one logit."""
    pools = len(params.channels) - 1
    side = params.image_size >> pools
    if side == 0:
        least = 1 << pools
        raise InputError(
            f"image_size {params.image_size} is too small for {pools} poolings; it must be {least} or more"
        )
    net = nn.Sequential(
        *networks.convolutions(signature.input_shape[0], params.channels, batch_norm=False, pools=pools),
        *networks.flat_head(params.channels[-1] * side * side, logits.outputs(CLASSES), params.dropout),
    )
    networks.initialise(net, params.init)
    return images.model(signature, net)


def build(params: CatsDogsParams, seed: int) -> Problem:
    pictures = photos(data.get("cats_dogs"), params.image_size)
    signature = Signature(kind="image", input_shape=(3, params.image_size, params.image_size), classes=CLASSES)
    groups = splits.grouped(pictures.labels, params, seed)
    parts = splits.cut(groups, [(TRAIN, TRAIN + VALIDATION)] * len(groups))
    return images.problem(pictures, model(params, signature), parts, params)
