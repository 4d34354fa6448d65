"""A text as blocks of tokens: read, cut into training, validation and test by place, tokenised once. Loads no torch
until it gives tensors."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs import data
from jobs.errors import InputError
from jobs.language.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

UTF16 = (b"\xff\xfe", b"\xfe\xff")  # its byte order marks
PARTS = ("train", "val", "test")
CUTS = (0.8, 0.9)  # where validation and test begin, as parts of the characters
NEAR = 0.01  # so far back the end of a line is looked for, as a part of the characters
FORMAT = 2  # of the kept tokens; to be raised with every change of how a text becomes tokens


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a text."""

    tokens: NDArray[np.int32]  # (N,)
    characters: int


def read(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read, is empty, or is not UTF-8; then the message has the first wrong byte's place.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: byte {error.start + 1} of the file (0x{content[error.start]:02x}) is not UTF-8; "
            f"{'it looks like UTF-16; ' if content[:2] in UTF16 else ''}save the text as UTF-8"
        ) from None
    if not text.strip():
        raise InputError(f"{path} is empty; give a text of some thousand words")
    return text


def cut(text: str) -> tuple[str, str, str]:
    """The first 80 % of the characters for training, then 10 % for validation, the last 10 % for testing.

    A cut goes back to the end of a line if there is one near before it; no character is in two parts.
    """
    places = [0]
    for share in CUTS:
        wanted = int(len(text) * share)
        line = text.rfind("\n", wanted - int(len(text) * NEAR), wanted) + 1
        places.append(line or wanted)
    first, second, third = places
    return text[first:second], text[second:third], text[third:]


def tokenised(path: Path, fingerprint: str, tokenizer: Tokenizer) -> dict[str, Part]:
    """The three parts as tokens, each tokenised alone; kept in the cache folder, since a long text takes a while."""

    def make(target: Path) -> None:
        logger.info("%s is being tokenised", path)
        pieces = cut(read(path))
        train, val, test = (np.array(tokenizer.tokens(text), dtype=np.int32) for text in pieces)
        counts = np.array([len(text) for text in pieces])
        with target.open("wb") as file:
            np.savez(file, train=train, val=val, test=test, characters=counts)

    kept = data.cached("causal_lm", f"{FORMAT}-{fingerprint[:32]}-{tokenizer.fingerprint[:32]}.npz", make)
    with np.load(kept, allow_pickle=False) as arrays:
        counts = arrays["characters"].tolist()
        return {name: Part(tokens=arrays[name], characters=count) for name, count in zip(PARTS, counts, strict=True)}


def blocks(part: Part, name: str, context: int) -> "tuple[Tensor, Tensor]":
    """Inputs and targets, both (N, context) int32: the target of a token is the next one.

    Block follows upon block without overlap; what is left of the part at its end is not used.

    Raises:
        InputError: the part is shorter than one block.
    """
    import torch

    tokens = torch.from_numpy(part.tokens)
    count = (len(tokens) - 1) // context
    if count < 1:
        raise InputError(
            f"the {name} part of the text has {len(tokens)} tokens, fewer than context + 1 = {context + 1}; "
            "give a longer text or a smaller context"
        )
    length = count * context
    return tokens[:length].view(count, context), tokens[1 : length + 1].view(count, context)


def unigram_perplexity(train: Part, other: Part, size: int) -> float:
    """Of another part by how often each of `size` tokens stands in the training part, plus one (Laplace)."""
    counts = np.bincount(train.tokens, minlength=size) + 1.0
    return float(np.exp(-np.log(counts / counts.sum())[other.tokens].mean()))
