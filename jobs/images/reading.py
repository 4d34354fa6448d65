"""A person's picture as a raw row of a model: what `gridyard predict` calls for a model whose kind is "image"."""

from pathlib import Path

import torch
from torch import Tensor

from jobs.images.decode import load, squeezed
from jobs.problem import Signature

DIGIT = "digit"  # what `about["shows"]` says where a picture is prepared as MNIST's were


def read_picture(source: Path | bytes, signature: Signature) -> Tensor:
    """A picture file, or its content, as the model takes it: (C, S, S) uint8, 0 to 255.

    Upright by its EXIF, in the model's colours, squeezed to its size. Digits are found, cropped and centred; see
    `jobs.images.digit`.

    Raises:
        InputError: it is no picture, it is damaged, or no digit is to be seen; the message names the file.
    """
    channels, size, _ = signature.input_shape
    if signature.about.get("shows") == DIGIT:
        from jobs.images.digit import read_digit

        return torch.from_numpy(read_digit(source).copy())[None]
    pixels = squeezed(load(source, channels, at_least=size), size, channels)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)
