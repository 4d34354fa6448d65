"""Tensors and JSON in one safetensors file, with a checksum over both. Nothing in it is ever executed."""

import hashlib
import json

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, uint8

from jobs.errors import CheckpointDamaged
from jobs.spec import Json

FORMAT = 1  # of the header; to be raised with every change that makes older files unreadable
_KEY = "gridyard"  # of the header's metadata; one key only: safetensors writes several in any order


def pack(tensors: dict[str, Tensor], facts: Json) -> bytes:
    """One file's bytes. `facts` may hold NaN and infinity, and are to be few: safetensors takes 100 MB of header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = encoded(facts)
    header = f'{{"format": {FORMAT}, "checksum": "{checksum(tensors, text)}", "facts": {text}}}'
    return safetensors.torch.save(tensors, metadata={_KEY: header})


def unpack(content: bytes, name: str) -> tuple[dict[str, Tensor], Json]:
    """What `pack` was given. `name` is for the message.

    Raises:
        CheckpointDamaged: the file is cut, changed, none of ours, or of another version's format.
    """
    try:
        # Copies: views would hold the whole file in memory, at addresses that no allocator gives.
        tensors = {key: tensor.clone() for key, tensor in safetensors.torch.load(content).items()}
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY])
        facts: Json = header["facts"]
        written = header.get("format", 0)
        whole = header["checksum"] == checksum(tensors, encoded(facts))
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(f"{name} is no whole file of Gridyard: {error}") from error
    if written != FORMAT:
        raise CheckpointDamaged(f"{name} is of format {written}, written by another version; this one reads {FORMAT}")
    if not whole:
        raise CheckpointDamaged(f"{name} is damaged: its checksum does not fit")
    return tensors, facts


def encoded(facts: Json) -> str:
    return json.dumps(facts, sort_keys=True)  # PostgreSQL reorders keys, and equal contents must give equal bytes


def checksum(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(uint8).numpy().data)  # as bytes: numpy knows no bfloat16
    return digest.hexdigest()
