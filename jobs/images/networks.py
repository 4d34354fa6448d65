"""Convolutional networks on pictures (B, C, S, S) of -1 to 1."""

from typing import Literal

from torch import Tensor, nn

from jobs.layers import Dropout

MIDDLE = 127.5  # of 0 to 255


class Scale(nn.Module):
    """Pixels of 0 to 255 to -1 to 1: what Normalize(0.5, 0.5) makes of pixels of 0 to 1."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels / MIDDLE).sub_(1)  # in place: a batch of photos is large


def convolutions(inputs: int, channels: list[int], *, batch_norm: bool, pools: int) -> list[nn.Module]:
    """3 x 3 convolutions of the same size, each with ReLU; the first `pools` halve the sides by max-pooling."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(zip([inputs, *channels], channels, strict=False)):
        layers += [nn.Conv2d(before, after, 3, padding="same"), *([nn.BatchNorm2d(after)] if batch_norm else [])]
        layers += [nn.ReLU(), *([nn.MaxPool2d(2)] if number < pools else [])]
    return layers


def initialise(network: nn.Module, init: Literal["default", "he", "xavier"]) -> None:
    """Weights of all layers by He et al. 2015 (uniform, for ReLU) or Glorot & Bengio 2010 (uniform); biases 0."""
    for layer in network.modules():
        if init == "default" or not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if init == "he":
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        else:
            nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def flat_head(features: int, outputs: int, dropout: float) -> list[nn.Module]:
    """All of the last convolution's pixels to the outputs."""
    return [nn.Flatten(), Dropout(dropout), nn.Linear(features, outputs)]
