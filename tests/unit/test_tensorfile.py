"""Tensors and JSON in one file: as they were, or refused."""

import math
import pickle

import pytest
import torch

from jobs import tensorfile
from jobs.errors import CheckpointDamaged
from jobs.tensorfile import FORMAT, pack, unpack

TENSORS = {
    "weights": torch.arange(6, dtype=torch.float32).view(2, 3).T,  # not contiguous
    "step": torch.tensor(7.0),
    "count": torch.tensor([2**40]),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
}
FACTS = {"history": [0.1, math.inf, -math.inf], "name": "π", "nested": {"a": None}}


def test_what_is_packed_is_unpacked() -> None:
    tensors, facts = unpack(pack(TENSORS, FACTS), "it")
    assert facts == FACTS
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert math.isnan(unpack(pack({}, {"x": math.nan}), "it")[1]["x"])


def test_equal_contents_are_equal_bytes() -> None:
    assert pack(TENSORS, FACTS) == pack(dict(reversed(TENSORS.items())), FACTS)


def test_a_file_that_was_cut_anywhere_is_refused() -> None:
    content = pack(TENSORS, FACTS)
    for length in range(0, len(content), 7):
        with pytest.raises(CheckpointDamaged, match="it "):
            unpack(content[:length], "it")


def test_a_file_with_one_wrong_bit_anywhere_is_refused() -> None:
    content = pack(TENSORS, FACTS)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        try:
            tensors, facts = unpack(bytes(damaged), "it")
        except CheckpointDamaged:
            continue
        # Only a bit that carries nothing may be wrong: a space of padding.
        assert facts == FACTS
        assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("content", [b"", b"\x80" * 100, pickle.dumps({"a": 1}), b"{}", bytes(8)])
def test_a_foreign_file_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointDamaged):
        unpack(content, "it")


def test_a_file_of_another_format_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorfile, "FORMAT", 99)
    later = pack({"a": torch.zeros(2)}, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointDamaged, match=f"format 99, written by another version; this one reads {FORMAT}"):
        unpack(later, "the model")
