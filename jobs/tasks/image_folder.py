"""The user's own pictures, a folder for each class: which class a picture is of."""

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from jobs import logits, sources
from jobs.catalogue.images import ImageFolderParams
from jobs.errors import InputError
from jobs.images import networks
from jobs.images import problem as images
from jobs.images.decode import decoded
from jobs.images.folder import HUB, kind_of, listing
from jobs.images.problem import Pictures
from jobs.problem import Model, Problem, Signature
from jobs.splits import TEST, VALIDATION, cut, grouped

checked = cache(sources.check)  # once in each trainer: a folder of pictures is long to read


@cache
def album(root: Path, fingerprint: str, size: int, channels: int) -> tuple[Pictures, tuple[str, ...]]:
    """All pictures of the folder, and the part of each that the folders give."""
    found = listing(root)
    kinds = Counter(kind for file in found.files if (kind := kind_of(file)))
    converted = [f"{kind}: {count}" for kind, count in sorted(kinds.items())]
    pictures = Pictures(
        pixels=decoded("image_folder", fingerprint, found.files, size, channels),
        labels=np.array(found.labels, np.int64),
        classes=found.classes,
        fingerprint=fingerprint,
        names=[file.relative_to(root).as_posix() for file in found.files],
        notes=(*found.notes, *converted),
    )
    return pictures, found.parts


def model(params: ImageFolderParams, signature: Signature) -> Model:
    """A small convolutional network, or one of torchvision's."""
    if params.model == "cnn":
        return images.model(signature, cnn(params, signature))
    from jobs.images.classifiers import Classifier  # torchvision takes seconds to load

    return images.model(signature, Classifier(params.model, logits.outputs(signature.classes), params.image_size))


def cnn(params: ImageFolderParams, signature: Signature) -> nn.Sequential:
    """Convolutions with batch normalisation, halved while there are pixels to halve, and the mean over what is left."""
    pools = min(len(params.channels), params.image_size.bit_length() - 2)
    net = nn.Sequential(
        *networks.convolutions(signature.input_shape[0], params.channels, batch_norm=True, pools=pools),
        nn.AdaptiveAvgPool2d(1),
        *networks.flat_head(params.channels[-1], logits.outputs(signature.classes), params.dropout),
    )
    networks.initialise(net, "he")
    return net


def build(params: ImageFolderParams, seed: int) -> Problem:
    if params.data is None:
        raise InputError("data is missing; give the path of a folder with a folder of pictures for each class")
    root = sources.opened(params.data)
    channels = 1 if params.gray else 3
    pictures, given = album(root, checked(root, params.fingerprint), params.image_size, channels)
    shape = (channels, params.image_size, params.image_size)
    built = model(params, Signature(kind="image", input_shape=shape, classes=pictures.classes))
    if params.pretrained is not None:
        take_up(params, built.net)
    return images.problem(pictures, built, parts(pictures, given, params, seed), params)


def take_up(params: ImageFolderParams, net: nn.Module) -> None:
    """Weights that others trained."""
    if params.model == "cnn":
        raise InputError("pretrained is for torchvision's classifiers; there are no such weights for model cnn")
    from jobs.images.classifiers import Classifier, load_hub, load_weights

    assert isinstance(net, Classifier)
    if params.pretrained == HUB:
        return load_hub(net, params.model)
    path = sources.opened(str(params.pretrained))
    checked(path, params.pretrained_fingerprint)
    return load_weights(net, path)


def parts(pictures: Pictures, given: tuple[str, ...], params: ImageFolderParams, seed: int) -> list[Tensor]:
    """Rows of training, validation and test: as the folders give them; what they do not give is split off."""
    place = np.array([name or "train" for name in given])
    own = {name: torch.from_numpy(np.flatnonzero(place == name)) for name in ("val", "test")}
    part = [VALIDATION if not len(own["val"]) else 0.0, TEST if not len(own["test"]) else 0.0]
    learned = np.where(place == "train", pictures.labels, -1)
    groups = grouped(learned, params, seed)[1 if (learned < 0).any() else 0 :]  # without those of other parts
    val, test, train = cut(groups, [places(len(group), *part) for group in groups])
    return [train, torch.cat([val, own["val"]]), torch.cat([test, own["test"]])]


def places(count: int, val: float, test: float) -> tuple[int, int]:
    """Where a class of so many pictures is cut; a part that is asked for gets one at least."""
    first = max(1, round(count * val)) if val else 0
    return first, first + (max(1, round(count * test)) if test else 0)
