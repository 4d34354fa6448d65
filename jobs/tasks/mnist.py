"""MNIST (LeCun, Cortes, Burges 1998): which digit a picture of 28 x 28 pixels shows."""

import gzip
import hashlib
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jobs import data, splits
from jobs.catalogue.images import MnistParams
from jobs.errors import InputError
from jobs.images import networks
from jobs.images import problem as images
from jobs.images.decode import mapped
from jobs.images.problem import Pictures
from jobs.images.reading import DIGIT
from jobs.layers import mlp
from jobs.problem import Model, Problem, Signature

SIDE, TRAIN, VALIDATION = 28, 60_000, 10_000  # pixels; rows of the training files, of which so many validate
PARTS = ("train", "t10k")  # the files of the official training and test rows
SIGNATURE = Signature(kind="image", input_shape=(1, SIDE, SIDE), classes=tuple("0123456789"), about={"shows": DIGIT})


@cache
def digits(folder: Path) -> Pictures:
    """70,000 rows: the 60,000 for training, then the 10,000 for testing; 0 is background, 255 ink.

    Raises:
        InputError: a file is damaged; the message names it.
    """
    raw = folder / "MNIST" / "raw"
    contents = {part: unpacked(raw / f"{part}-images-idx3-ubyte") for part in PARTS}
    labels = [idx(unpacked(raw / f"{part}-labels-idx1-ubyte"), raw, 1) for part in PARTS]
    fingerprint = hashlib.sha256(b"".join(contents.values()) + b"".join(map(bytes, labels))).hexdigest()

    def make(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, np.concatenate([idx(content, raw, 3) for content in contents.values()])[..., None])

    return Pictures(
        pixels=mapped(data.cached("mnist", f"{fingerprint[:16]}.npy", make)),
        labels=np.concatenate(labels).astype(np.int64),
        classes=SIGNATURE.classes,
        fingerprint=fingerprint,
    )


def unpacked(path: Path) -> bytes:
    """The file's content, packed by gzip or not."""
    packed = path.with_name(f"{path.name}.gz")
    try:
        return path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{packed}: cannot be read: {error}. Remove it and `gridyard data get mnist` again") from None


def idx(content: bytes, folder: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in MNIST's own format: 0, 0, 8, dimensions; each size in 4 bytes, the big end first; the bytes."""
    start = 4 + 4 * dimensions
    whole = content[:4] == bytes([0, 0, 8, dimensions]) and len(content) >= start
    shape = np.frombuffer(content[4:start], ">u4").tolist() if whole else []
    if not whole or len(content) - start != math.prod(shape):
        raise InputError(f"{folder}: a file is damaged. Remove them and `gridyard data get mnist` again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def model(params: MnistParams, signature: Signature) -> Model:
    """784 pixels through a multilayer perceptron, or convolutions, each halved by max-pooling, and one hidden layer."""
    if params.batch_norm and params.batch_size == 1:  # rules of params never cross fields
        raise InputError("batch_norm needs batches of at least two rows; given batch_size 1")
    net = perceptron(params) if params.model == "mlp" else cnn(params)
    networks.initialise(net, params.init)
    return images.model(signature, net)


def perceptron(params: MnistParams) -> nn.Sequential:
    layers = mlp(SIDE**2, params.hidden, 10, dropout=params.dropout, batch_norm=params.batch_norm)
    return nn.Sequential(nn.Flatten(), *layers)


def cnn(params: MnistParams) -> nn.Sequential:
    pools = len(params.channels)
    features = params.channels[-1] * (SIDE >> pools) ** 2
    return nn.Sequential(
        *networks.convolutions(1, params.channels, batch_norm=params.batch_norm, pools=pools),
        nn.Flatten(),
        *mlp(features, params.hidden, 10, dropout=params.dropout, batch_norm=params.batch_norm),
    )


def build(params: MnistParams, seed: int) -> Problem:
    pictures = digits(data.get("mnist"))
    groups = splits.grouped(pictures.labels[:TRAIN], params, seed)
    counts = splits.shares([len(group) for group in groups], VALIDATION / TRAIN)
    val, train = splits.cut(groups, [(count,) for count in counts])
    test = torch.arange(TRAIN, len(pictures.labels))
    return images.problem(pictures, model(params, SIGNATURE), (train, val, test), params)
