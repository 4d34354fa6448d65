"""What a network computes with besides its trained weights and buffers, which are all that a row of a pack holds."""

import hashlib
import io
import pickle
from typing import Any

import torch
from torch import Tensor, nn

from jobs.layers import Dropout

# Of every module: what rows hold, or what says nothing of its numbers. Of nn.RNNBase: its weights once more.
ELSEWHERE = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"}
ELSEWHERE |= {"_flat_weights", "_flat_weight_refs"}


def digest(net: nn.Module) -> str:
    """Equal for networks that torch.func may map as one: of equal frozen weights, and modules of equal attributes.

    Where an attribute cannot be compared, such as a lambda, it is the network's own.
    """
    return comparable_digest(net) or f"of network {id(net)}"


def comparable_digest(net: nn.Module) -> str | None:
    """As `digest`; None where one cannot be compared."""
    found = hashlib.sha256()
    for weight in net.parameters():
        if not weight.requires_grad:
            found.update(content(weight))
    for module in net.modules():
        if type(module) is Dropout:  # its buffers say all
            continue
        try:
            found.update(dumped({name: own for name, own in vars(module).items() if name not in ELSEWHERE}))
        except Exception:  # whatever an object of the user's own raises when it is asked for its bytes
            return None
    return found.hexdigest()


class Pickler(pickle.Pickler):
    """Equal tensors are equal bytes, which torch's own pickles are not."""

    def reducer_override(self, value: Any) -> Any:
        return (bytes, (content(value),)) if isinstance(value, Tensor) else NotImplemented


def dumped(value: Any) -> bytes:
    file = io.BytesIO()
    Pickler(file).dump(value)
    return file.getvalue()


def content(weight: Tensor) -> bytes:
    """All bytes, of any type of number: NumPy has no bfloat16."""
    return weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
