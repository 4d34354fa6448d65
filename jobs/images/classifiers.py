"""torchvision's classifiers, for any number of classes and with weights that others trained. Slow to import."""

from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from jobs.errors import InputError
from jobs.layers import replace_dropout

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels of 0 to 1, as all its weights expect
HEADS = ("AuxLogits.", "aux1.", "aux2.")  # second outputs, which we do not use


class Classifier(nn.Module):
    """Pictures (B, 1 or 3, S, S) of -1 to 1 to outputs."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, outputs: int, size: int) -> None:
        """
        Raises:
            InputError: this network cannot take pictures of this size.
        """
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        try:
            self.body = get_model(name, weights=None, num_classes=outputs, **options(name, size))
            replace_dropout(self.body)
            self.try_out(size)
        except (RuntimeError, ValueError, AssertionError) as error:  # torch's and torchvision's, by network
            why = str(error).splitlines()[0]
            raise InputError(f"{name} cannot take pictures of {size} px: {why}. Try another image_size") from None

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.body(
            ((pictures + 1) / 2 - self.mean) / self.std
        )  # a gray picture becomes three equal ones
        return found

    @torch.no_grad()
    def try_out(self, size: int) -> None:
        self.eval()
        self(torch.zeros(1, 3, size, size))
        self.train()


def options(name: str, size: int) -> dict[str, object]:
    """What some networks must be told."""
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    if name == "maxvit_t":
        return {"input_size": (size, size)}
    return {"image_size": size} if name.startswith("vit_") else {}


def load_hub(network: Classifier, name: str) -> None:
    """Take up torchvision's own best weights, but for the last layer.

    Raises:
        InputError: they are not here and could not be fetched, or do not fit.
    """
    weights = get_model_weights(name)["DEFAULT"]
    try:
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        by_hand = f"Without network put the file of {weights.url} on this machine, and name it as pretrained"
        raise InputError(f"torchvision's weights of {name} could not be fetched: {error}. {by_hand}") from None
    take(network, dict(state), f"torchvision's weights of {name}")


def load_weights(network: Classifier, path: Path) -> None:
    """Take up the weights of a file, .safetensors or a state_dict saved by torch, but for the last layer.

    Raises:
        InputError: it holds no weights, or those of another network.
    """
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as weights: {error}") from None
    except Exception as error:  # torch raises many kinds for a file that holds more than tensors, or is damaged
        why = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as weights only: {why}. Save it as .safetensors") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: is no state_dict of tensors; save that of the network alone")
    take(network, state, str(path))


def take(network: Classifier, state: dict[str, Tensor], source: str) -> None:
    """All weights but those of the last layer, which is for other classes.

    Raises:
        InputError: some are missing, or of another shape.
    """
    own = network.body.state_dict()
    head = last_layer(network.body)
    wrong = [
        name
        for name, tensor in own.items()
        if not name.startswith(f"{head}.") and (name not in state or state[name].shape != tensor.shape)
    ]
    foreign = [name for name in state if name not in own and not name.startswith(HEADS)]
    if wrong or foreign:
        some = ", ".join((wrong + foreign)[:3])
        raise InputError(f"{source}: the weights are those of another network, or image_size; look at {some}")
    fits = {name: state[name] for name in own if name in state and state[name].shape == own[name].shape}
    network.body.load_state_dict(own | fits)


def last_layer(body: nn.Module) -> str:
    """Its name."""
    layers: list[str] = [name for name, layer in body.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return layers[-1]
